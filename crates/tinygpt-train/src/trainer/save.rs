//! Saving: what a checkpoint of a run contains, which checkpoints are kept, and what happens if a
//! save fails.
//!
//! A save that fails leaves the checkpoints before it as they were. In the middle of a run it is
//! reported and tried again at the next interval; the third failure in a row ends the run, and so
//! does the first one at its end.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tinygpt_model::hf;

use super::Trainer;
use crate::checkpoint::{
    self, BEST, FORMAT_VERSION, Keep, LAST, OPTIMIZER_FILE, PLATEAU, RunConfig, STATE_FILE, State,
};
use crate::config::TrainConfig;
use crate::error::{TrainError, chain};
use crate::finite::first_non_finite;
use crate::metrics::Metrics;
use crate::ranks::Order;
use crate::report::{Report, SaveRecord};
use crate::schedule::learning_rate;
use crate::start::instruction_set;

/// This many failed saves in a row end a run.
const MAX_FAILED: u32 = 3;

impl Trainer {
    /// Saves in the middle of a run. False if the disk refused; the next interval tries again.
    ///
    /// # Errors
    /// [`TrainError::Unsaved`] if it has refused too often; [`TrainError::NonFinite`] if there is
    /// nothing worth saving.
    pub(super) fn save_or_continue(
        &mut self,
        is_best: bool,
        metrics: &mut Metrics,
        report: &mut dyn Report,
    ) -> Result<bool, TrainError> {
        let error = match self.save(is_best, metrics, report) {
            Ok(()) => return Ok(true),
            Err(error) if error.is_io() => error,
            Err(error) => return Err(error),
        };
        self.n_failed_saves += 1;
        if self.n_failed_saves >= MAX_FAILED {
            return Err(self.unsaved(error));
        }
        report.notice(&format!(
            "SAVE FAILED, {} of at most {MAX_FAILED} in a row: {}. {}; training continues, and the \
             next interval tries again",
            self.n_failed_saves,
            chain(&error),
            match self.last_good() {
                Some(dir) => format!("The last good checkpoint is {}", dir.display()),
                None => "There is no checkpoint yet".to_string(),
            }
        ));
        Ok(false)
    }

    /// Saves at the end of a run, where no later save can make up for a failure.
    ///
    /// # Errors
    /// As [`Trainer::save_or_continue`], at the first failure.
    pub(super) fn save_at_end(
        &mut self,
        metrics: &mut Metrics,
        report: &mut dyn Report,
    ) -> Result<(), TrainError> {
        // The evaluation of this step may have tried already.
        let is_best = self.unsaved_best.is_some_and(|best| best.step == self.progress.step);
        if is_best {
            self.progress.best = self.unsaved_best;
        }
        self.save(is_best, metrics, report).map_err(|error| {
            self.n_failed_saves += 1;
            if error.is_io() { self.unsaved(error) } else { error }
        })
    }

    fn unsaved(&self, source: TrainError) -> TrainError {
        TrainError::Unsaved {
            step: self.progress.step,
            n_failed: self.n_failed_saves,
            last_good: self.last_good(),
            source: Box::new(source),
        }
    }

    /// Saves the state as it is now and moves the links. Keeps the best checkpoint and some of the
    /// newest: if the last is damaged, there is one to fall back to.
    fn save(
        &mut self,
        is_best: bool,
        metrics: &mut Metrics,
        report: &mut dyn Report,
    ) -> Result<(), TrainError> {
        let started = Instant::now();
        self.check_out_dir(metrics)?;
        // The metrics of a checkpoint's steps are on the disk before it.
        metrics.sync_or_report(report);
        let written = self.write_checkpoint(is_best, metrics);
        self.clock.saved(started);
        // Writing takes time, and the files removed next must not be another run's.
        self.check_out_dir(metrics)?;
        let dir = written?;
        let (step, out_dir) = (self.progress.step, &self.config.out_dir);
        let keep = Keep {
            newest: step,
            before: self.progress.last_saved,
            n_newest: self.config.keep_checkpoints,
            best: self.progress.best.map(|best| best.step),
            plateau: checkpoint::step_named(out_dir, PLATEAU),
        };
        if let Err(error) = checkpoint::prune(out_dir, &keep) {
            report.notice(&format!(
                "checkpoints that are not needed could not be removed: {}",
                chain(&error)
            ));
        }
        self.n_failed_saves = 0;
        self.progress.last_saved = Some(step);
        self.has_unsaved_eval = false;
        let save_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        report.saved(&SaveRecord { dir, iter: step, is_best, save_ms });
        Ok(())
    }

    fn write_checkpoint(
        &mut self,
        is_best: bool,
        metrics: &mut Metrics,
    ) -> Result<PathBuf, TrainError> {
        self.check_ranks()?;
        self.ranks.order(Order::Wait)?;
        let (step, out_dir) = (self.progress.step, &self.config.out_dir);
        self.gpt.download()?;
        if let Some(what) = first_non_finite(self.gpt.params(), self.optimizer.moments())? {
            // The cause is the step before this one.
            let lr = learning_rate(step.saturating_sub(1), &self.config.schedule());
            return Err(self.non_finite(what, lr, None));
        }
        let (n_bytes, write_files) = (self.checkpoint_bytes(), |dir: &Path| self.write_files(dir));
        let dir = if self.replaces {
            let lines = metrics.pending();
            let dir = checkpoint::save_over(out_dir, step, n_bytes, lines, write_files)?;
            metrics.release()?;
            dir
        } else {
            checkpoint::save(out_dir, step, n_bytes, write_files)?
        };
        checkpoint::point(out_dir, LAST, step)?;
        if is_best {
            checkpoint::point(out_dir, BEST, step)?;
        }
        if self.is_at_plateau_end() {
            checkpoint::point(out_dir, PLATEAU, step)?;
        }
        self.replaces = false;
        Ok(dir)
    }

    /// Whether the decay of a run with `lr_schedule` wsd starts now.
    pub(super) fn is_at_plateau_end(&self) -> bool {
        self.progress.step > 0 && self.config.schedule().plateau_end() == Some(self.progress.step)
    }

    /// Disk space of a checkpoint: weights and two moments, and 10% for the rest.
    fn checkpoint_bytes(&self) -> u64 {
        let n_params = self.gpt.config().num_params() as u64;
        n_params.saturating_mul(3 * 4).saturating_add(n_params)
    }

    fn write_files(&self, dir: &Path) -> Result<(), TrainError> {
        hf::write_dir(&self.gpt, dir, &self.special)?;
        let tokenizer = &self.prepared.tokenizer;
        // Of a run on plain text, nobody has asked whether the tokenizer's template works.
        let template = tokenizer.chat_template().filter(|_| self.prepared.is_chat());
        if let Some(template) = template {
            hf::add_end_of_turn(dir, template.end_of_turn(tokenizer)?, self.special.eos)?;
        }
        tokenizer.save_with_model(dir, self.gpt.config().block_size)?;
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
            skipped: self.progress.skipped,
            evals_without_improvement: self.progress.evals_without_improvement,
            seconds: self.seconds(),
            seed: self.config.seed,
            data_fingerprint: self.prepared.meta.fingerprint(),
            tokenizer_sha256: self.prepared.tokenizer.sha256().to_string(),
            threads: self.config.resolved_threads(),
            ranks: self.ranks.n_ranks(),
            instruction_set: instruction_set().to_string(),
            device: self.device.name().to_owned(),
            config: RunConfig {
                train: TrainConfig {
                    init_from: self.origin.clone(),
                    encoding_type: Some(self.prepared.meta.encoding),
                    ..self.config.clone()
                },
                program: self.program.clone(),
            },
        }
    }
}
