//! A few timed steps of a run that is only planned. Nothing is written.

use std::ops::ControlFlow;
use std::time::Instant;

use super::Trainer;
use super::evaluation::SAMPLE_TOKENS;
use super::step::StepResult;
use crate::error::TrainError;
use crate::pace::Pace;
use crate::schedule::learning_rate;
use crate::stop::StopFlag;

/// The first steps touch memory for the first time and are slower than the others.
const UNTIMED_STEPS: u64 = 2;
/// Batches of an evaluation that are timed.
const EVAL_BATCHES: usize = 5;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Steps that were made, most of them timed.
    pub n_made: u64,
    /// Their mean time, and that of an evaluation with its sample.
    pub pace: Pace,
}

impl Trainer {
    /// Makes `n_steps` steps, but no more than about `seconds` allow, and a part of an evaluation, which
    /// takes about as long at most.
    /// The weights are those of a trained model afterwards, so the trainer is of no further use.
    /// `None` if `stop` is raised meanwhile.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn trial(
        &mut self,
        n_steps: u64,
        seconds: f64,
        stop: &StopFlag,
    ) -> Result<Option<Trial>, TrainError> {
        let begin = Instant::now();
        let mut started = begin;
        let (mut n_timed, mut n_made) = (0, 0);
        for number in 0..UNTIMED_STEPS + n_steps {
            if number == UNTIMED_STEPS {
                started = Instant::now();
            }
            let lr = learning_rate(self.progress.step, &self.config.schedule());
            match self.make_step(lr, stop)? {
                StepResult::BrokenOff => return Ok(None),
                StepResult::Made { .. } | StepResult::Skipped(_) => self.progress.step += 1,
            }
            if stop.signal().is_some() {
                return Ok(None);
            }
            n_made = number + 1;
            n_timed = n_made.saturating_sub(UNTIMED_STEPS);
            if n_timed >= 1 && begin.elapsed().as_secs_f64() > seconds {
                break;
            }
        }
        let step_seconds = started.elapsed().as_secs_f64() / n_timed as f64;
        let eval_seconds = self.time_evaluation(seconds, stop)?;
        let pace = Pace { step_seconds, eval_seconds };
        Ok(stop.signal().is_none().then_some(Trial { n_made, pace }))
    }

    /// Seconds of an evaluation, from some of its batches and a whole sample.
    fn time_evaluation(&mut self, limit: f64, stop: &StopFlag) -> Result<f64, TrainError> {
        let [train, val] = &self.eval_sets;
        let started = Instant::now();
        let mut n_begun = 0;
        let mut on_batch = || {
            let is_late = n_begun > 0 && started.elapsed().as_secs_f64() > 0.5 * limit;
            if n_begun == EVAL_BATCHES || is_late || stop.signal().is_some() {
                return ControlFlow::Break(());
            }
            n_begun += 1;
            ControlFlow::Continue(())
        };
        val.loss(&mut self.gpt, &self.prepared.tokenizer, &mut on_batch)?;
        let batch_seconds = started.elapsed().as_secs_f64() / n_begun.max(1) as f64;
        let mut seconds = batch_seconds * (train.n_batches() + val.n_batches()) as f64;
        if self.config.sample_at_eval {
            let started = Instant::now();
            let mut n_tokens = 0;
            self.sample_until(&mut || {
                n_tokens += 1;
                stop.signal().is_some() || started.elapsed().as_secs_f64() > 0.5 * limit
            })?;
            let token_seconds = started.elapsed().as_secs_f64() / f64::from(n_tokens.max(1));
            seconds += token_seconds * SAMPLE_TOKENS as f64;
        }
        Ok(seconds)
    }
}
