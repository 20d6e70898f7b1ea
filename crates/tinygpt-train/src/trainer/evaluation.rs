//! Evaluation inside a run: when, what is recorded, and which evaluations are worth a checkpoint.

use std::ops::ControlFlow;

use tinygpt_model::{Event, SamplingParams, Stop, generate_with};

use super::Trainer;
use crate::checkpoint::Best;
use crate::error::TrainError;
use crate::evaluate::EvalSet;
use crate::metrics::Metrics;
use crate::report::{EvalRecord, Report};
use crate::schedule::learning_rate;
use crate::stop::StopFlag;

/// Tokens of the sample at each evaluation.
const SAMPLE_TOKENS: usize = 200;

impl Trainer {
    pub(super) fn is_time_to_evaluate(&self) -> bool {
        let step = self.progress.step;
        (step.is_multiple_of(self.config.eval_interval) || step == self.config.max_iters)
            && self.progress.last_eval_iter != Some(step)
    }

    /// Evaluates, and saves if this is the best checkpoint so far or if every one is to be saved.
    pub(super) fn evaluate_and_save(
        &mut self,
        stop: &StopFlag,
        metrics: &mut Metrics,
        report: &mut dyn Report,
    ) -> Result<(), TrainError> {
        let Some(record) = self.evaluate(stop, report)? else { return Ok(()) };
        self.progress.last_eval_iter = Some(record.iter);
        self.has_unsaved_eval = true;
        metrics.eval(&record)?;
        self.flush(metrics, report)?;
        if record.iter == 0 {
            // Nothing is learned yet: no checkpoint, and `best` names only checkpoints.
            return Ok(());
        }
        let is_best = self.progress.best.is_none_or(|best| record.val_loss < best.val_loss);
        let best_before = self.progress.best;
        if is_best {
            self.progress.best = Some(Best { step: record.iter, val_loss: record.val_loss });
        }
        let is_due = is_best || self.config.always_save_checkpoint;
        if is_due && !self.save_or_continue(is_best, metrics, report)? {
            // The best loss is the best that has a checkpoint.
            self.unsaved_best = self.progress.best.filter(|_| is_best);
            self.progress.best = best_before;
        }
        Ok(())
    }

    /// The loss on both splits and a short sample. `None` if the run has to end meanwhile.
    pub(super) fn evaluate(
        &mut self,
        stop: &StopFlag,
        report: &mut dyn Report,
    ) -> Result<Option<EvalRecord>, TrainError> {
        let (eval_iters, batch_size) = (self.config.eval_iters, self.config.batch_size);
        let seq_len = self.gpt.config().block_size;
        let rows = (self.config.rows, self.prepared.tokenizer.eot_id());
        let set = |split| EvalSet::of_rows(rows, split, eval_iters, (batch_size, seq_len));
        let (train, val) = (set(&self.prepared.train)?, set(&self.prepared.val)?);
        let total = train.n_batches() + val.n_batches();
        let mut done = 0;
        let clock = &self.clock;
        let mut on_batch = || {
            report.evaluating(done, total);
            done += 1;
            let is_over = stop.signal().is_some() || clock.is_time_up();
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let tokenizer = &self.prepared.tokenizer;
        let Some(train_loss) = train.loss(&mut self.gpt, tokenizer, &mut on_batch)? else {
            return Ok(None);
        };
        let Some(val_loss) = val.loss(&mut self.gpt, tokenizer, &mut on_batch)? else {
            return Ok(None);
        };
        let iter = self.progress.step;
        for (split, loss) in [("validation", val_loss), ("training", train_loss)] {
            if !loss.nats_per_token.is_finite() {
                let what = format!("the loss on the {split} split is {}", loss.nats_per_token);
                let lr = learning_rate(iter, &self.config.schedule());
                return Err(self.non_finite(what, lr, None));
            }
        }
        let record = EvalRecord {
            iter,
            train_loss: train_loss.nats_per_token as f32,
            val_loss: val_loss.nats_per_token as f32,
            val_bits_per_byte: val_loss.bits_per_byte as f32,
            perplexity: (val_loss.nats_per_token.exp() as f32).min(f32::MAX),
        };
        report.eval(&record);
        if self.config.sample_at_eval {
            self.gpt.download()?;
            report.sample(iter, &self.sample(stop)?);
        }
        Ok(Some(record))
    }

    /// A short document from the model as it is now.
    fn sample(&self, stop: &StopFlag) -> Result<String, TrainError> {
        let params = SamplingParams {
            seed: self.config.seed,
            eos: self.special.eos,
            vocab_size: Some(self.prepared.tokenizer.vocab_size()),
            max_new_tokens: SAMPLE_TOKENS,
            ..SamplingParams::default()
        };
        let eot = self.prepared.tokenizer.eot_id();
        let mut ids = Vec::with_capacity(SAMPLE_TOKENS);
        let mut keep = |_, event| {
            ids.extend(match event {
                Event::Token { id, .. } if id != eot => Some(id),
                _ => None,
            });
            if stop.signal().is_some() {
                ControlFlow::Break(Stop::Sample)
            } else {
                ControlFlow::Continue(())
            }
        };
        let number = self.progress.step;
        generate_with(&self.gpt, &[self.special.bos], &params, number..number + 1, &mut keep)?;
        Ok(self.prepared.tokenizer.decode(&ids)?)
    }
}
