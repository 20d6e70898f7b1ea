//! What a trainer knows about its run.

use tinygpt_data::Prepared;
use tinygpt_model::Gpt;
use tinygpt_model::hf::SpecialTokens;

use super::Trainer;
use crate::checkpoint::Best;
use crate::config::TrainConfig;
use crate::document::SampleStart;
use crate::report::{EvalRecord, RunSummary};
use crate::start::instruction_set;

impl Trainer {
    /// The model, for use after training.
    pub fn gpt(&self) -> &Gpt {
        &self.gpt
    }

    /// The configuration; a run with a `budget` may have changed its length.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The data it trains on.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// The tokens that start and end a sample of the model.
    pub fn special_tokens(&self) -> SpecialTokens {
        self.special
    }

    /// How a sample of the model begins and ends.
    pub fn sample_start(&self) -> &SampleStart {
        &self.sample_start
    }

    /// Steps made.
    pub fn n_steps(&self) -> u64 {
        self.progress.step
    }

    /// The lowest validation loss so far and its step; `None` before the first checkpoint.
    pub fn best(&self) -> Option<Best> {
        self.progress.best
    }

    /// The last evaluation of this process.
    pub fn last_eval(&self) -> Option<&EvalRecord> {
        self.last_eval.as_ref()
    }

    /// Wall time of the run in seconds, in all its processes.
    pub fn seconds(&self) -> f64 {
        self.progress.seconds_before + self.clock.seconds()
    }

    /// How many times the training split was read.
    pub fn epochs(&self) -> f64 {
        self.progress.window_cursor as f64 / self.loader.n_windows() as f64
    }

    /// The run as it is now.
    pub fn summary(&self) -> RunSummary {
        let model = self.gpt.config();
        let specs = self.gpt.params().specs();
        RunSummary {
            start_iter: self.progress.step,
            max_iters: self.config.max_iters,
            started_from: self.started_from.clone(),
            n_params: model.num_params(),
            n_decayed_params: specs.iter().filter(|s| s.kind.is_decayed()).map(|s| s.len()).sum(),
            tokens_per_step: self.tokens_per_step(),
            train_tokens: self.prepared.train.len(),
            val_tokens: self.prepared.val.len(),
            windows_per_epoch: self.loader.n_windows(),
            n_cut: self.loader.n_cut(),
            memory: self.gpt.training_memory(self.config.batch_size, model.block_size),
            device: self.device.clone(),
            threads: self.config.resolved_threads(),
            ranks: self.ranks.n_ranks(),
            instruction_set: instruction_set().to_string(),
            peak_flops: self.peak_flops,
            out_dir: self.config.out_dir.clone(),
        }
    }

    /// Tokens per step: accumulation · batch · block.
    pub fn tokens_per_step(&self) -> usize {
        let windows = self.config.gradient_accumulation_steps * self.config.batch_size;
        windows * self.gpt.config().block_size
    }
}
