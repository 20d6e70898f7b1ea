//! Evaluation inside a run: when, what is recorded, and which evaluations are worth a checkpoint.

use std::ops::ControlFlow;
use std::time::Instant;

use tinygpt_model::{Event, SamplingParams, Stop, generate_with};

use super::Trainer;
use crate::checkpoint::Best;
use crate::document::SampleStart;
use crate::error::TrainError;
use crate::evaluate::SplitLoss;
use crate::metrics::Metrics;
use crate::ranks::Order;
use crate::report::{EvalRecord, Report, SampleRecord};
use crate::schedule::learning_rate;
use crate::stop::StopFlag;

/// Tokens of the sample at each evaluation.
pub(super) const SAMPLE_TOKENS: usize = 200;

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
        let started = Instant::now();
        let Some((record, sample)) = self.evaluate(stop, report)? else { return Ok(()) };
        self.progress.last_eval_iter = Some(record.iter);
        self.has_unsaved_eval = true;
        metrics.eval(&record)?;
        if let Some(sample) = sample {
            metrics.sample(&sample)?;
        }
        self.flush(metrics, report)?;
        if record.iter == 0 {
            // Nothing is learned yet: no checkpoint, and `best` names only checkpoints.
            self.speed.evaluated(started.elapsed().as_secs_f64());
            return Ok(());
        }
        self.count_towards_early_stop(record.val_loss);
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
        self.speed.evaluated(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Counts an evaluation as transformers' `EarlyStoppingCallback` does: the loss has to be lower
    /// than the best before it, by more than the threshold.
    fn count_towards_early_stop(&mut self, val_loss: f32) {
        let threshold = self.config.early_stopping_threshold;
        let improves = |best: Best| f64::from(best.val_loss) - f64::from(val_loss) > threshold;
        let n = &mut self.progress.evals_without_improvement;
        *n = if self.progress.best.is_none_or(improves) { 0 } else { *n + 1 };
    }

    /// Whether the last evaluations did not improve the loss often enough to stop.
    pub(super) fn is_stopped_early(&self) -> bool {
        let n = self.progress.evals_without_improvement;
        self.config.early_stopping_patience.is_some_and(|patience| n >= patience)
    }

    /// The loss on both splits and a short sample. `None` if the run has to end meanwhile.
    pub(super) fn evaluate(
        &mut self,
        stop: &StopFlag,
        report: &mut dyn Report,
    ) -> Result<Option<(EvalRecord, Option<SampleRecord>)>, TrainError> {
        let Some([train_loss, val_loss]) = self.split_losses(stop, report)? else {
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
        self.last_eval = Some(record.clone());
        if self.config.sample_at_eval {
            self.ranks.order(Order::Wait)?;
        }
        let sample = if self.config.sample_at_eval { self.sample(stop)? } else { None };
        if self.config.sample_at_eval && sample.is_none() {
            // Stopped by a signal: a resumed run repeats the whole evaluation.
            return Ok(None);
        }
        if let Some(sample) = &sample {
            report.sample(sample);
        }
        Ok(Some((record, sample)))
    }

    /// The losses on the training and the validation split; `None` if the run has to end meanwhile.
    fn split_losses(
        &mut self,
        stop: &StopFlag,
        report: &mut dyn Report,
    ) -> Result<Option<[SplitLoss; 2]>, TrainError> {
        let clock = self.clock;
        if !self.ranks.is_alone() {
            self.ranks.order(Order::Evaluate)?;
            return self.shared_evaluation(stop, &mut |done, total| {
                report.evaluating(done, total);
                clock.is_time_up()
            });
        }
        let [train, val] = &self.eval_sets;
        let total = train.n_batches() + val.n_batches();
        let mut done = 0;
        let mut on_batch = || {
            report.evaluating(done, total);
            done += 1;
            let is_over = stop.signal().is_some() || clock.is_time_up();
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let tokenizer = &self.prepared.tokenizer;
        let Some(train) = train.loss(&mut self.gpt, tokenizer, &mut on_batch)? else {
            return Ok(None);
        };
        let val = val.loss(&mut self.gpt, tokenizer, &mut on_batch)?;
        Ok(val.map(|val| [train, val]))
    }

    /// A short document from the model as it is now; `None` if a signal stops it.
    fn sample(&self, stop: &StopFlag) -> Result<Option<SampleRecord>, TrainError> {
        self.sample_until(&mut || stop.signal().is_some())
    }

    /// The same; `None` if `is_over`, which is asked after each token, stops it.
    pub(super) fn sample_until(
        &self,
        is_over: &mut dyn FnMut() -> bool,
    ) -> Result<Option<SampleRecord>, TrainError> {
        let params = SamplingParams {
            seed: self.config.seed,
            eos: self.sample_start.eos,
            vocab_size: Some(self.prepared.tokenizer.vocab_size()),
            max_new_tokens: SAMPLE_TOKENS,
            ..SamplingParams::default()
        };
        let mut ids = Vec::with_capacity(SAMPLE_TOKENS);
        let mut is_whole = true;
        let mut keep = |_, event| {
            ids.extend(match event {
                Event::Token { id, .. } => Some(id),
                _ => None,
            });
            if is_over() {
                is_whole = false;
                ControlFlow::Break(Stop::Sample)
            } else {
                ControlFlow::Continue(())
            }
        };
        let iter = self.progress.step;
        generate_with(&self.gpt, &self.sample_start.prompt, &params, iter..iter + 1, &mut keep)?;
        let tokenizer = &self.prepared.tokenizer;
        let SampleStart { prompt, is_chat, .. } = &self.sample_start;
        let prompt = if *is_chat { tokenizer.decode_text(prompt)? } else { String::new() };
        let text = prompt + &tokenizer.decode_text(&ids)?;
        Ok(is_whole.then_some(SampleRecord { iter, text }))
    }
}
