//! One step: the gradient of new micro-batches, clipping, AdamW.
//!
//! A loss or a gradient that is not finite never reaches the weights. The run ends there, or the
//! step is skipped: step and data advance, weights and moments stay. Whether it is skipped is a
//! function of the state in a checkpoint, so a resumed run skips the same ones.

use std::ops::Range;
use std::path::Path;

use tinygpt_model::{DropoutKey, ModelError, Store, Summary};

use super::Trainer;
use crate::checkpoint;
use crate::config::OnNonFinite;
use crate::error::TrainError;
use crate::report::SkipRecord;
use crate::step::{clip_factor, share_of_step, token_batch};
use crate::stop::StopFlag;

/// The outcome of a step.
pub(super) enum StepResult {
    /// The weights were updated.
    Made {
        /// Mean loss of the batch before the step, nats per token.
        loss: f64,
        /// L2 norm of the gradient before clipping.
        grad_norm: f64,
    },
    /// The step was skipped.
    Skipped(SkipRecord),
    /// The run was asked to stop between two micro-batches: nothing has changed.
    BrokenOff,
}

/// The outcome of a batch.
pub(super) enum Gradient {
    /// Its gradient is in the trainer's `grads`.
    Computed { loss: f64, norm: f64 },
    /// A number is not finite; the text names it: `the loss is NaN`.
    NotFinite(String),
    /// The run was asked to stop meanwhile.
    BrokenOff,
}

impl Trainer {
    /// Makes the next step with learning rate `lr`, skips it, or stops in the middle of it.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] if numbers are not finite and the step may not be skipped; data
    /// and model errors.
    pub(super) fn make_step(&mut self, lr: f64, stop: &StopFlag) -> Result<StepResult, TrainError> {
        let windows = self.take_windows();
        let gradient = if self.ranks.is_alone() {
            self.gradient(windows.clone(), stop)?
        } else {
            self.shared_gradient(&windows, stop)?
        };
        match gradient {
            Gradient::Computed { loss, norm } => {
                let clip = clip_factor(norm, self.config.grad_clip);
                self.optimizer.step(&mut self.gpt, &self.grads, lr, clip)?;
                self.last_grad_norm = norm;
                self.progress.skipped.in_row = 0;
                Ok(StepResult::Made { loss, grad_norm: norm })
            }
            Gradient::NotFinite(what) => {
                self.skip_or_stop(what, windows, lr).map(StepResult::Skipped)
            }
            Gradient::BrokenOff => {
                self.progress.window_cursor = windows.start;
                Ok(StepResult::BrokenOff)
            }
        }
    }

    /// The numbers of the windows of this step; advances the cursor past them.
    fn take_windows(&mut self) -> Range<u64> {
        let n_windows = self.config.gradient_accumulation_steps * self.config.batch_size;
        let first = self.progress.window_cursor;
        self.progress.window_cursor += n_windows as u64;
        first..self.progress.window_cursor
    }

    /// Puts the gradient of the mean loss over the learned targets of `windows` into `grads`, unless `stop` is raised
    /// between two micro-batches: many of them can take minutes.
    fn gradient(&mut self, windows: Range<u64>, stop: &StopFlag) -> Result<Gradient, TrainError> {
        let n_micro_batches = self.config.gradient_accumulation_steps;
        let n_windows = n_micro_batches * self.config.batch_size;
        let n_learned = self.loader.n_learned(windows.start, n_windows)?;
        for micro_batch in 0..n_micro_batches as u64 {
            if micro_batch > 0 && stop.signal().is_some() {
                return Ok(Gradient::BrokenOff);
            }
            let first = windows.start + micro_batch * self.config.batch_size as u64;
            let batch = self.loader.batch_from(first)?;
            let dropout = self.dropout_key(micro_batch);
            let scale = share_of_step(batch.n_learned(), n_learned);
            let store = if micro_batch == 0 { Store::Overwrite } else { Store::Accumulate };
            let batch = token_batch(&batch);
            self.gpt.accumulate(&batch, dropout, scale, store, &mut self.grads)?;
        }
        match self.gpt.summary(&self.grads) {
            Ok(Summary { loss, .. }) if !loss.is_finite() => {
                Ok(Gradient::NotFinite(format!("the loss is {loss}")))
            }
            Ok(Summary { loss, norm }) => Ok(Gradient::Computed { loss, norm }),
            Err(ModelError::NonFinite { what }) => {
                Ok(Gradient::NotFinite(format!("{what} is not finite")))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// What determines the dropout masks of a micro-batch, if there is dropout.
    pub(super) fn dropout_key(&self, micro_batch: u64) -> Option<DropoutKey> {
        let key = DropoutKey { seed: self.config.seed, step: self.progress.step, micro_batch };
        (self.config.dropout > 0.0).then_some(key)
    }

    /// Skips the step of `windows` if the configuration allows it and not too many were skipped
    /// already.
    fn skip_or_stop(
        &mut self,
        what: String,
        windows: Range<u64>,
        lr: f64,
    ) -> Result<SkipRecord, TrainError> {
        let (iter, skipped) = (self.progress.step, &mut self.progress.skipped);
        if self.config.on_non_finite == OnNonFinite::Stop || !skipped.may_skip(iter) {
            return Err(self.non_finite(what, lr, Some(windows)));
        }
        skipped.total += 1;
        skipped.in_row += 1;
        Ok(SkipRecord {
            iter,
            reason: what,
            learning_rate: lr,
            first_window: windows.start,
            last_window: windows.end - 1,
            in_row: skipped.in_row,
            total: skipped.total,
        })
    }

    /// The error of a run whose numbers stopped being finite; `windows` are those of the current
    /// step, if it is the one that failed.
    pub(super) fn non_finite(
        &self,
        what: impl Into<String>,
        learning_rate: f64,
        windows: Option<Range<u64>>,
    ) -> TrainError {
        TrainError::NonFinite {
            what: what.into(),
            iter: self.progress.step,
            learning_rate,
            last_grad_norm: self.last_grad_norm,
            windows,
            skipped: self.progress.skipped,
            last_good: self.last_good(),
        }
    }

    /// The newest checkpoint, whose numbers are all finite.
    pub(super) fn last_good(&self) -> Option<Box<Path>> {
        let step = self.progress.last_saved?;
        Some(checkpoint::dir_of(&self.config.out_dir, step).into_boxed_path())
    }
}
