//! What a run says before its first step.

use tinygpt_model::{Gpt, Recompute};

use super::Trainer;
use crate::config::TrainConfig;
use crate::report::{Report, RunSummary};
use crate::start::instruction_set;

impl Trainer {
    /// Reports what is about to run, and what was noticed on the way.
    pub(super) fn announce(&mut self, report: &mut dyn Report) {
        let model = self.gpt.config();
        let specs = self.gpt.params().specs();
        report.run_summary(&RunSummary {
            start_iter: self.progress.step,
            max_iters: self.config.max_iters,
            started_from: self.started_from.clone(),
            n_params: model.num_params(),
            n_decayed_params: specs.iter().filter(|s| s.kind.is_decayed()).map(|s| s.len()).sum(),
            tokens_per_step: self.tokens_per_step(),
            train_tokens: self.prepared.train.len(),
            val_tokens: self.prepared.val.len(),
            windows_per_epoch: self.loader.n_windows(),
            memory: self.gpt.training_memory(self.config.batch_size, model.block_size),
            device: self.device.clone(),
            threads: self.config.resolved_threads(),
            instruction_set: instruction_set().to_string(),
            peak_flops: self.peak_flops,
            out_dir: self.config.out_dir.clone(),
        });
        for notice in self.notices.drain(..) {
            report.notice(&notice);
        }
    }
}

/// What is computed again because the memory of the GPU is not enough, if nothing was asked for.
pub(super) fn recomputing(config: &TrainConfig, gpt: &Gpt) -> Option<String> {
    let chosen = gpt.recompute().filter(|chosen| *chosen != Recompute::None)?;
    config.recompute.is_none().then(|| {
        format!(
            "the GPU has too little memory to keep all activations, so `recompute` is {}; a smaller `batch_size` \
             with more `gradient_accumulation_steps` may be faster",
            chosen.name()
        )
    })
}
