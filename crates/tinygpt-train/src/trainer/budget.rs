//! Keeping a run within its `budget`, although the speed of a machine changes.
//!
//! `max_iters` is fixed before the run, and a run on a machine of constant speed keeps it. Otherwise
//! the run changes its own configuration: a new `max_iters`, with the decay at its end. On the
//! plateau of `wsd` the steps so far are those that a run of the new length has made, too. In the
//! decay the learning rate continues without a jump ([`Schedule::ending_at`]). Every change is a
//! line of `metrics.jsonl` and part of the next checkpoint, so the learning rate stays a function
//! of step and configuration, and a resumed run does not depend on the times of the run before.
//!
//! [`Schedule::ending_at`]: crate::schedule::Schedule::ending_at

use std::collections::VecDeque;

use super::Trainer;
use crate::error::TrainError;
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::report::{HorizonRecord, Report};

/// The end that is aimed at, as a fraction of the budget. The rest is for the end of the program.
pub const TARGET: f64 = 0.975;
/// The length changes if the expected end leaves this range.
const TOLERATED: std::ops::Range<f64> = 0.96..0.99;
/// At least this fraction of the budget lies between two changes.
const BETWEEN_CHANGES: f64 = 0.01;
/// The pace is that of the steps in the last part of the run, of this fraction of the budget.
const MEMORY: f64 = 0.03;
/// Steps before the first change.
const MIN_STEPS: usize = 5;

/// What a run with a budget remembers of its own speed.
#[derive(Debug, Default)]
pub(super) struct Speed {
    steps: VecDeque<f64>,
    /// Their sum.
    step_seconds: f64,
    /// How many steps take as long as an evaluation. In steps, because both are slower on a busy machine.
    eval_steps: Option<f64>,
    /// The time of an evaluation before there were steps to compare it with.
    first_eval: Option<f64>,
    last_change: f64,
}

impl Speed {
    /// Remembers a step; `memory` is the time that the remembered steps may have taken.
    pub(super) fn stepped(&mut self, seconds: f64, memory: f64) {
        self.steps.push_back(seconds);
        self.step_seconds += seconds;
        while self.steps.len() > MIN_STEPS && self.step_seconds > memory {
            self.step_seconds -= self.steps.pop_front().unwrap_or_default();
        }
    }

    /// Remembers an evaluation.
    pub(super) fn evaluated(&mut self, seconds: f64) {
        let Some(step) = self.step() else {
            self.first_eval = Some(seconds);
            return;
        };
        let steps = seconds / step;
        self.eval_steps = Some(self.eval_steps.map_or(steps, |before| 0.5 * (before + steps)));
    }

    /// Seconds of a step, once there are some.
    fn step(&self) -> Option<f64> {
        let is_known = self.steps.len() >= MIN_STEPS;
        is_known.then(|| self.step_seconds / self.steps.len() as f64)
    }

    /// The `max_iters` with which `run` ends in time, if the present one does not.
    fn better_end(&mut self, run: &Now) -> Option<u64> {
        let Now { budget, seconds, step, max_iters, eval_interval, eval_steps } = *run;
        let is_soon = seconds - self.last_change < BETWEEN_CHANGES * budget;
        let step_seconds = self.step()?;
        if let Some(seconds) = self.first_eval.take() {
            self.evaluated(seconds);
        }
        if is_soon {
            return None;
        }
        let eval_steps = self.eval_steps.unwrap_or(eval_steps);
        let pace = Pace { step_seconds, eval_seconds: eval_steps * step_seconds };
        let end = seconds + pace.seconds(step, max_iters, eval_interval);
        let fits = TOLERATED.contains(&(end / budget));
        (!fits).then(|| pace.max_iters(step, TARGET * budget - seconds, eval_interval))
    }
}

/// Where a run is.
#[derive(Debug, Clone, Copy)]
struct Now {
    /// In seconds.
    budget: f64,
    /// Seconds since the start.
    seconds: f64,
    step: u64,
    max_iters: u64,
    eval_interval: u64,
    /// About how many steps take as long as an evaluation, for a run that has not made one yet.
    eval_steps: f64,
}

impl Trainer {
    /// Remembers the time of a step that has just ended.
    pub(super) fn note_speed(&mut self, seconds: f64) {
        if let Some(budget) = self.config.budget {
            self.speed.stepped(seconds, MEMORY * budget.seconds());
        }
    }

    /// Changes the length of the run if it would end too early or too late.
    pub(super) fn keep_budget(
        &mut self,
        metrics: &mut Metrics,
        report: &mut dyn Report,
    ) -> Result<(), TrainError> {
        let Some(budget) = self.config.budget else { return Ok(()) };
        // A forward pass is a third of a step.
        let batches = 2.0 * self.config.eval_iters as f64 / 3.0;
        let now = Now {
            budget: budget.seconds(),
            seconds: self.seconds(),
            step: self.progress.step,
            max_iters: self.config.max_iters,
            eval_interval: self.config.eval_interval,
            eval_steps: batches / self.config.gradient_accumulation_steps as f64,
        };
        let Some(max_iters) = self.speed.better_end(&now) else { return Ok(()) };
        let schedule = self.config.schedule().ending_at(self.progress.step, max_iters);
        self.speed.last_change = now.seconds;
        if schedule.lr_decay_iters == self.config.max_iters {
            return Ok(());
        }
        let record = HorizonRecord {
            iter: self.progress.step,
            max_iters: schedule.lr_decay_iters,
            before: self.config.max_iters,
            warmdown_ratio: schedule.warmdown_ratio,
        };
        self.config.max_iters = schedule.lr_decay_iters;
        self.config.lr_decay_iters = schedule.lr_decay_iters;
        self.config.warmdown_ratio = schedule.warmdown_ratio;
        metrics.horizon(&record)?;
        report.horizon(&record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{LrSchedule, Schedule, learning_rate};
    use proptest::prelude::*;

    /// A run on a machine whose speed changes: steps of `step_seconds` at speed 1, evaluations that
    /// take as long as `eval_steps` steps. `speeds` has the speed of each tenth of the budget.
    struct Machine<'a> {
        seconds: f64,
        budget: f64,
        speeds: &'a [f64],
    }

    impl Machine<'_> {
        /// Seconds that work takes which starts now.
        fn work(&mut self, seconds: f64) -> f64 {
            let phase = (self.seconds / self.budget * 10.0) as usize;
            let seconds = seconds * self.speeds[phase.min(self.speeds.len() - 1)];
            self.seconds += seconds;
            seconds
        }
    }

    /// The end as a fraction of the budget, and the largest jump of the rate in one step.
    fn simulate(budget: f64, step_seconds: f64, eval_steps: f64, speeds: &[f64]) -> (f64, f64) {
        let mut machine = Machine { seconds: 0.03 * budget, budget, speeds };
        let eval_interval = 100;
        let pace = Pace { step_seconds, eval_seconds: eval_steps * step_seconds };
        let mut max_iters = pace.max_iters(0, TARGET * budget - machine.seconds, eval_interval);
        let mut schedule = Schedule {
            lr_schedule: LrSchedule::Wsd,
            learning_rate: 1.0,
            min_lr: 0.05,
            warmup_iters: max_iters / 20,
            lr_decay_iters: max_iters,
            warmdown_ratio: 0.2,
        };
        let (mut speed, mut step, mut worst, mut last) = (Speed::default(), 0, 0.0_f64, 1.0);
        loop {
            if step % eval_interval == 0 || step == max_iters {
                speed.evaluated(machine.work(eval_steps * step_seconds));
            }
            if step == max_iters {
                return (machine.seconds / budget, worst);
            }
            let seconds = machine.seconds;
            let now = Now { budget, seconds, step, max_iters, eval_interval, eval_steps };
            if let Some(end) = speed.better_end(&now) {
                schedule = schedule.ending_at(step, end);
                speed.last_change = seconds;
                max_iters = schedule.lr_decay_iters;
            }
            let rate = learning_rate(step, &schedule);
            if step > schedule.warmup_iters {
                worst = worst.max(rate - last);
            }
            last = rate;
            speed.stepped(machine.work(step_seconds), MEMORY * budget);
            step += 1;
        }
    }

    #[test]
    fn a_machine_of_constant_speed_keeps_the_first_length() {
        let (end, _) = simulate(180.0, 0.1, 10.0, &[1.0]);
        assert!((0.96..0.98).contains(&end), "{end}");
    }

    #[test]
    fn an_evaluation_takes_longer_too_on_a_machine_that_becomes_slow() {
        let mut speeds = [1.0; 10];
        speeds[3..].fill(8.0);
        for eval_steps in [5.0, 20.0] {
            let (end, _) = simulate(180.0, 0.1, eval_steps, &speeds);
            assert!((0.9..1.0).contains(&end), "{eval_steps}: {end}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn a_run_ends_in_time_and_its_rate_never_jumps(
            step_seconds in 0.02f64..0.3, eval_steps in 2.0f64..15.0,
            exponents in prop::collection::vec(-1.0f64..1.0, 12),
        ) {
            // From half to twice the time of the trial, for each tenth of the budget anew.
            let speeds: Vec<f64> = exponents.iter().map(|exponent| exponent.exp2()).collect();
            let (end, jump) = simulate(180.0, step_seconds, eval_steps, &speeds);
            prop_assert!((0.9..1.05).contains(&end), "{end}");
            prop_assert!(jump < 1e-6, "{jump}");
        }
    }
}
