//! What a checkpoint of a run holds, and which of them are kept.

use std::path::Path;
use std::time::Instant;

use tinygpt_model::hf;

use super::Trainer;
use crate::checkpoint::{
    self, BEST, FORMAT_VERSION, Keep, LAST, OPTIMIZER_FILE, STATE_FILE, State,
};
use crate::error::TrainError;
use crate::metrics::Metrics;
use crate::report::{Report, Saved};
use crate::start::{device_name, instruction_set};

impl Trainer {
    /// Saves the state as it is now and moves the links. Keeps the best checkpoint and some of the
    /// newest: should the last turn out damaged, there is one to fall back to. The metrics that
    /// belong to the checkpoint are on the disk before it.
    pub(super) fn save(
        &mut self,
        is_best: bool,
        metrics: &mut Metrics,
        report: &mut dyn Report,
    ) -> Result<(), TrainError> {
        let started = Instant::now();
        metrics.sync()?;
        let (step, out_dir) = (self.progress.step, &self.config.out_dir);
        let dir = checkpoint::save(out_dir, step, |dir| self.write_files(dir))?;
        checkpoint::point(out_dir, LAST, step)?;
        if is_best {
            checkpoint::point(out_dir, BEST, step)?;
        }
        let keep = Keep {
            newest: step,
            before: self.progress.last_saved,
            n_newest: self.config.keep_checkpoints,
            best: self.progress.best.map(|best| best.step),
        };
        checkpoint::prune(out_dir, &keep)?;
        self.progress.last_saved = Some(step);
        self.clock.saved(started);
        let save_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        report.saved(&Saved { dir, iter: step, is_best, save_ms });
        Ok(())
    }

    fn write_files(&self, dir: &Path) -> Result<(), TrainError> {
        hf::write_dir(&self.gpt, dir, &self.special)?;
        self.prepared.tokenizer.save(dir)?;
        let params = self.gpt.params();
        checkpoint::write_moments(&dir.join(OPTIMIZER_FILE), params, self.optimizer.moments())?;
        self.state().write(&dir.join(STATE_FILE))
    }

    fn state(&self) -> State {
        State {
            format_version: FORMAT_VERSION,
            crate_version: env!("CARGO_PKG_VERSION").to_string(),
            step: self.progress.step,
            optimizer_steps: self.optimizer.n_steps(),
            window_cursor: self.progress.window_cursor,
            last_eval_iter: self.progress.last_eval_iter,
            best: self.progress.best,
            seed: self.config.seed,
            data_fingerprint: self.prepared.meta.fingerprint(),
            tokenizer_sha256: self.prepared.tokenizer.sha256().to_string(),
            threads: self.config.resolved_threads(),
            instruction_set: instruction_set().to_string(),
            device: device_name(self.gpt.device()).to_string(),
            config: self.config.clone(),
        }
    }
}
