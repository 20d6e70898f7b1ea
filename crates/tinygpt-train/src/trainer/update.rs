//! One update: the gradient of fresh micro-batches, clipping, AdamW.
//!
//! A loss or a gradient that is not finite never gets as far as the weights. The run ends there, or
//! the update is passed over: step and data go on, weights and moments stay. Whether it is passed
//! over is a function of what a checkpoint holds, so a resumed run passes over the same ones.

use std::ops::Range;
use std::path::Path;

use tinygpt_data::fill_batch;
use tinygpt_model::{DropoutKey, ModelError, Store, TokenBatch};

use super::Trainer;
use crate::checkpoint;
use crate::config::OnNonFinite;
use crate::error::TrainError;
use crate::report::SkipRecord;

/// What has become of a step.
pub(super) enum Update {
    /// The weights have moved.
    Made {
        /// Mean loss of the batch before the update, nats per token.
        loss: f64,
        /// L2 norm of the gradient before clipping.
        grad_norm: f64,
    },
    /// They have not.
    Skipped(SkipRecord),
}

/// A number that is not one, in words: `the loss is NaN`.
struct NotFinite(String);

impl Trainer {
    /// Makes the update at hand with learning rate `lr`, or passes over it.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] where numbers stop being finite and that is not to be passed over,
    /// or no longer; data and model errors.
    pub(super) fn update(&mut self, lr: f64) -> Result<Update, TrainError> {
        let windows = self.take_windows();
        match self.gradient(windows.clone())? {
            Ok((loss, grad_norm)) => {
                let clip = clip_factor(grad_norm, self.config.grad_clip);
                self.optimizer.step(self.gpt.params(), &self.grads, lr, clip)?;
                self.last_grad_norm = grad_norm;
                self.progress.skipped.in_row = 0;
                Ok(Update::Made { loss, grad_norm })
            }
            Err(NotFinite(what)) => self.skip_or_stop(what, windows, lr).map(Update::Skipped),
        }
    }

    /// The numbers of the windows of this update, which are used up now.
    fn take_windows(&mut self) -> Range<u64> {
        let n_windows = self.config.gradient_accumulation_steps * self.config.batch_size;
        let first = self.progress.window_cursor;
        self.progress.window_cursor += n_windows as u64;
        first..self.progress.window_cursor
    }

    /// Puts the gradient of the mean loss over `windows` into `grads`; that loss, and the norm.
    fn gradient(
        &mut self,
        windows: Range<u64>,
    ) -> Result<Result<(f64, f64), NotFinite>, TrainError> {
        let (batch_size, seq_len) = (self.config.batch_size, self.gpt.config().block_size);
        let n_micro_batches = self.config.gradient_accumulation_steps;
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        let mut mean_loss = 0.0;
        for micro_batch in 0..n_micro_batches as u64 {
            let first = windows.start + micro_batch * batch_size as u64;
            let starts = (first..first + batch_size as u64).map(|i| self.windows.window(i));
            fill_batch(&self.prepared.train, starts, seq_len, &mut inputs, &mut targets)?;
            let batch = TokenBatch { inputs: &inputs, targets: &targets, batch_size, seq_len };
            let dropout =
                DropoutKey { seed: self.config.seed, step: self.progress.step, micro_batch };
            let dropout = (self.config.dropout > 0.0).then_some(dropout);
            let scale = 1.0 / n_micro_batches as f32;
            let store = if micro_batch == 0 { Store::Overwrite } else { Store::Accumulate };
            let loss = self.gpt.backward(&batch, dropout, scale, store, &mut self.grads)?;
            if !loss.is_finite() {
                return Ok(Err(NotFinite(format!("the loss is {loss}"))));
            }
            mean_loss += f64::from(loss) / n_micro_batches as f64;
        }
        match self.grads.global_norm(self.gpt.params()) {
            Ok(norm) => Ok(Ok((mean_loss, norm))),
            Err(ModelError::NonFinite { what }) => {
                Ok(Err(NotFinite(format!("{what} is not finite"))))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Passes over the update of `windows` if that is asked for and not done too often already.
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

    /// The error of a run whose numbers stopped being finite; `windows` are those of the update at
    /// hand, if it is one that failed.
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

/// The factor that brings a gradient of norm `norm` to at most `grad_clip`; 0 never clips.
fn clip_factor(norm: f64, grad_clip: f64) -> f64 {
    if grad_clip > 0.0 && norm > grad_clip { grad_clip / norm } else { 1.0 }
}
