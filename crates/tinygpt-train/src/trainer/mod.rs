//! The training loop, in the order in which things happen.
//!
//! Learning rate, evaluation and checkpoint, step, report: [`Trainer::run`] reads from top to
//! bottom like one step. The only outward call is to [`Report`]; files are written by
//! [`crate::metrics`], [`crate::checkpoint`] and [`crate::plot`]. Steps, evaluations, checkpoints
//! and time limits are in the other files of this module.

mod about;
mod announce;
mod budget;
mod clock;
mod evaluation;
mod files;
mod follow;
mod open;
mod ownership;
mod profiled;
mod range_test;
mod save;
mod shared;
mod step;
mod trial;

use std::time::Instant;

use serde_json::{Map, Value};
use tinygpt_data::{Loader, Prepared};
use tinygpt_model::hf::SpecialTokens;
use tinygpt_model::{ComputeDevice, Gpt, Grads};

use self::budget::Speed;
pub use self::budget::TARGET as BUDGET_TARGET;
use self::clock::Clock;
pub use self::open::check_block_size;
use self::profiled::{Profiled, share_of_peak};
pub use self::range_test::{RatePoint, suggested_rate};
use self::step::StepResult;
pub use self::trial::Trial;
use crate::adamw::AdamW;
use crate::checkpoint::{Best, OutDirLock};
use crate::config::{InitFrom, TrainConfig};
use crate::document::SampleStart;
use crate::error::TrainError;
use crate::evaluate::EvalSet;
use crate::metrics::Metrics;
use crate::ranks::{Order, Ranks};
use crate::report::{EvalRecord, Report, StepRecord};
use crate::schedule::learning_rate;
use crate::start::{Changed, Progress};
use crate::stop::StopFlag;

/// How a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// All `max_iters` steps are done and saved.
    Finished,
    /// The checkpoint that was resumed has `max_iters` steps already; nothing was done.
    AlreadyFinished,
    /// `eval_only`: evaluated, nothing was written.
    Evaluated,
    /// The [`StopFlag`] was raised by this signal; the last finished step is saved.
    Stopped(usize),
    /// `early_stopping_patience` evaluations in a row did not improve the validation loss; this
    /// many steps are done and saved.
    StoppedEarly(u64),
    /// `max_seconds` are over; this many steps are done and saved.
    TimeUp(u64),
}

/// A run that is ready to start: weights, optimiser, data and the lock of its directory.
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    prepared: Prepared,
    special: SpecialTokens,
    sample_start: SampleStart,
    loader: Loader,
    /// Made once: with `rows` `documents`, all tokens are read for it.
    eval_sets: [EvalSet; 2],
    device: ComputeDevice,
    gpt: Gpt,
    optimizer: AdamW,
    grads: Grads,
    progress: Progress,
    /// Whether `out_dir` still holds the run that this one replaces.
    replaces: bool,
    last_grad_norm: f64,
    last_eval: Option<EvalRecord>,
    /// Whether there is an evaluation that no checkpoint contains.
    has_unsaved_eval: bool,
    /// Since the last save that succeeded.
    n_failed_saves: u32,
    /// The last evaluation with the best loss so far that could not be saved.
    unsaved_best: Option<Best>,
    clock: Clock,
    speed: Speed,
    started_from: String,
    /// What the run originally started from.
    origin: InitFrom,
    changed: Changed,
    notices: Vec<String>,
    /// See [`RunSummary`]; a step that was faster raises it.
    peak_flops: Option<f64>,
    /// See [`Trainer::record`].
    program: Map<String, Value>,
    lock: Option<OutDirLock>,
    ranks: Ranks,
}

impl Trainer {
    /// Checks the configuration, opens its device, locks `out_dir` and gets the first weights, by
    /// `init_from`.
    ///
    /// Nothing in `out_dir` is deleted before everything else has succeeded, and a start that fails
    /// leaves no directory that was not there before.
    ///
    /// # Errors
    /// [`TrainError::Config`] for faults of the configuration, among them a `block_size` that the
    /// data does not fill; [`TrainError::Device`]; [`TrainError::Locked`] if another process trains
    /// there; for the rest see the variants of [`TrainError`] about `init_from`.
    pub fn new(config: TrainConfig, prepared: Prepared) -> Result<Self, TrainError> {
        let device = ComputeDevice::open(config.device)?;
        Self::on(&device, config, prepared)
    }

    /// [`Trainer::new`] on a device that is open already, instead of the configuration's.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn on(
        device: &ComputeDevice,
        config: TrainConfig,
        prepared: Prepared,
    ) -> Result<Self, TrainError> {
        Self::on_ranks(device, config, prepared, Ranks::alone())
    }

    /// Stores settings of the calling program in each checkpoint; [`Recorded`](crate::Recorded)
    /// returns them.
    pub fn record(&mut self, program: Map<String, Value>) {
        self.program = program;
    }

    /// The data, for another trainer; this one releases its directory.
    pub fn into_prepared(self) -> Prepared {
        self.prepared
    }

    /// Counts the time of the run, and of its `budget`, from `started` on: the start of
    /// the program.
    pub fn count_from(&mut self, started: Instant) {
        self.clock.count_from(started);
    }

    /// Trains until `max_iters` steps are done, `stop` is raised or the time is up.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] before a step or a save with numbers that are not finite;
    /// [`TrainError::Unsaved`] if checkpoints cannot be written; data and model errors.
    pub fn run(&mut self, stop: &StopFlag, report: &mut dyn Report) -> Result<Outcome, TrainError> {
        if !self.ranks.is_first() {
            return self.follow(stop);
        }
        let outcome = self.lead(stop, report);
        self.dismiss_ranks(outcome)
    }

    /// The run of rank 0, or of one process.
    fn lead(&mut self, stop: &StopFlag, report: &mut dyn Report) -> Result<Outcome, TrainError> {
        self.announce(report);
        if self.config.eval_only {
            return match self.evaluate(stop, report)? {
                Some(_) => Ok(Outcome::Evaluated),
                None => Ok(self.ending(stop).unwrap_or(Outcome::Evaluated)),
            };
        }
        if self.progress.step > self.config.max_iters || self.is_finished() {
            self.complete_files(report);
            return Ok(Outcome::AlreadyFinished);
        }
        if self.is_stopped_early() {
            return Ok(Outcome::StoppedEarly(self.progress.step));
        }
        let mut metrics = self.open_metrics(report)?;
        let mut profiled = Profiled::default();
        let outcome = loop {
            if self.is_time_to_evaluate() {
                self.evaluate_and_save(stop, &mut metrics, report)?;
            }
            if self.is_finished() {
                break Outcome::Finished;
            }
            if self.is_stopped_early() {
                break Outcome::StoppedEarly(self.progress.step);
            }
            if let Some(ending) = self.ending(stop) {
                break ending;
            }
            if self.is_time_to_save() {
                self.save_or_continue(false, &mut metrics, report)?;
            }

            self.check_ranks_at_interval()?;
            self.keep_budget(&mut metrics, report)?;
            self.step_and_record(stop, &mut metrics, &mut profiled, report)?;
            if metrics.is_full() {
                self.flush(&mut metrics, report)?;
            }
        };
        self.finish(profiled, &mut metrics, report)?;
        Ok(outcome)
    }

    /// Makes or skips the next step, and records it.
    fn step_and_record(
        &mut self,
        stop: &StopFlag,
        metrics: &mut Metrics,
        profiled: &mut Profiled,
        report: &mut dyn Report,
    ) -> Result<(), TrainError> {
        let lr = learning_rate(self.progress.step, &self.config.schedule());
        self.ranks.order(Order::Step { lr })?;
        profiled::switch(&self.device, self.config.profile)?;
        let started = Instant::now();
        let result = self.make_step(lr, stop)?;
        profiled::switch(&self.device, false)?;
        match result {
            // The step is repeated when the run is resumed.
            StepResult::BrokenOff => {}
            StepResult::Made { loss, grad_norm } => {
                self.count_step(started, profiled);
                let record = self.step_record(loss, lr, grad_norm, started);
                metrics.step(&record)?;
                report.step(&record);
            }
            StepResult::Skipped(record) => {
                self.count_step(started, profiled);
                metrics.skip(&record)?;
                report.skip(&record);
            }
        }
        Ok(())
    }

    /// After the last step: saves what is not saved yet, reports the profile and draws the curves.
    fn finish(
        &mut self,
        profiled: Profiled,
        metrics: &mut Metrics,
        report: &mut dyn Report,
    ) -> Result<(), TrainError> {
        self.flush(metrics, report)?;
        if self.progress.last_saved != Some(self.progress.step) || self.has_unsaved_eval {
            self.save_at_end(metrics, report)?;
        }
        if self.config.profile {
            report.profile(&profiled.conclude(&self.device, &self.config, self.peak_flops)?);
        }
        self.draw_curves(report);
        Ok(())
    }

    fn count_step(&mut self, started: Instant, profiled: &mut Profiled) {
        self.progress.step += 1;
        self.clock.stepped(started);
        profiled.add(started.elapsed());
        self.note_speed(started.elapsed().as_secs_f64());
    }

    /// Whether all steps and the evaluation after them are done.
    fn is_finished(&self) -> bool {
        let (step, end) = (self.progress.step, self.config.max_iters);
        step == end && self.progress.last_eval_iter == Some(end)
    }

    /// Why the run has to end before it is finished, if it has to.
    fn ending(&self, stop: &StopFlag) -> Option<Outcome> {
        let is_up = self.clock.is_time_up();
        let stopped = stop.signal().map(Outcome::Stopped);
        stopped.or_else(|| is_up.then_some(Outcome::TimeUp(self.progress.step)))
    }

    /// Whether a checkpoint is due outside of an evaluation.
    fn is_time_to_save(&self) -> bool {
        let step = self.progress.step;
        let is_due = |every: u64| step > 0 && step.is_multiple_of(every);
        let is_due =
            self.config.checkpoint_interval.is_some_and(is_due) || self.is_at_plateau_end();
        (is_due || self.clock.is_time_to_save()) && self.progress.last_saved != Some(step)
    }

    /// The record of the step that has just been counted.
    fn step_record(&mut self, loss: f64, lr: f64, grad_norm: f64, started: Instant) -> StepRecord {
        let seconds = started.elapsed().as_secs_f64().max(1e-9);
        StepRecord {
            iter: self.progress.step - 1,
            loss: loss as f32,
            learning_rate: lr,
            grad_norm: (grad_norm as f32).min(f32::MAX),
            step_ms: (seconds * 1e6).round() / 1e3,
            tokens_per_second: (self.tokens_per_step() as f64 / seconds * 10.0).round() / 10.0,
            mfu: self.utilisation(seconds).map(|mfu| ((mfu * 1e4).round() / 1e4) as f32),
        }
    }

    /// The fraction of the machine's speed that a step of `seconds` reached.
    fn utilisation(&mut self, seconds: f64) -> Option<f64> {
        let flops = self.gpt.config().flops_per_token() * self.tokens_per_step() as f64;
        Some(share_of_peak(self.peak_flops.as_mut()?, flops / seconds))
    }
}
