//! Estimates the remaining time of a run from the time of its steps and evaluations so far.
//!
//! The first step is slow, because memory is touched for the first time, so there is no estimate
//! before ten steps. Time between two steps counts as time of the evaluations, which also print
//! samples and save checkpoints.

use std::collections::VecDeque;

/// Steps before the first estimate.
const ENOUGH: u64 = 10;
/// The number of newest steps that count, so that a change of the machine's load shows.
const NEWEST: usize = 100;

/// Measured times of a run.
#[derive(Debug, Default)]
pub(super) struct Pace {
    max_iters: u64,
    eval_interval: u64,
    /// Seconds of the newest steps.
    steps: VecDeque<f64>,
    n_steps: u64,
    /// End of the last step, in seconds since the run started.
    last_end: f64,
    /// Seconds between steps.
    between: f64,
    n_evals: u64,
}

impl Pace {
    /// A run of `max_iters` steps with an evaluation every `eval_interval` steps.
    pub(super) fn new(max_iters: u64, eval_interval: u64) -> Self {
        Self { max_iters, eval_interval: eval_interval.max(1), ..Self::default() }
    }

    /// The run has another length now.
    pub(super) fn set_max_iters(&mut self, max_iters: u64) {
        self.max_iters = max_iters;
    }

    /// Records a step of `seconds` that ended at `now`, in seconds since the run started.
    pub(super) fn updated(&mut self, seconds: f64, now: f64) {
        self.between += (now - self.last_end - seconds).max(0.0);
        self.last_end = now;
        // The first step is slower than the others.
        if self.n_steps == 1 {
            self.steps.clear();
        }
        self.n_steps += 1;
        if self.steps.len() == NEWEST {
            self.steps.pop_front();
        }
        self.steps.push_back(seconds);
    }

    /// Records a skipped step that ended at `now`.
    pub(super) fn skipped(&mut self, now: f64) {
        self.last_end = now;
    }

    /// Records an evaluation.
    pub(super) fn evaluated(&mut self) {
        self.n_evals += 1;
    }

    /// Mean seconds of the newest steps, if there are any.
    pub(super) fn step_seconds(&self) -> Option<f64> {
        let n = self.steps.len();
        (n > 0).then(|| self.steps.iter().sum::<f64>() / n as f64)
    }

    /// Seconds until the run ends, after `n_done` steps; `None` before there are enough steps.
    pub(super) fn seconds_left(&self, n_done: u64) -> Option<f64> {
        let step = self.step_seconds().filter(|_| self.n_steps >= ENOUGH)?;
        let eval = self.between / self.n_evals.max(1) as f64;
        let left = self.max_iters.saturating_sub(n_done) as f64;
        Some(left * step + self.evals_left(n_done) as f64 * eval)
    }

    /// Evaluations after step `n_done`, including the one at the end of the run.
    fn evals_left(&self, n_done: u64) -> u64 {
        if n_done > self.max_iters {
            return 0;
        }
        let before = n_done.saturating_sub(1) / self.eval_interval;
        let regular = self.max_iters / self.eval_interval - before;
        regular + u64::from(!self.max_iters.is_multiple_of(self.eval_interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of 2 seconds, the first of 30, and evaluations of 10 seconds every 20 steps.
    fn run_until(n_done: u64) -> Pace {
        let mut pace = Pace::new(100, 20);
        let mut now = 0.0;
        for iter in 0..n_done {
            if iter % 20 == 0 {
                pace.evaluated();
                now += 10.0;
            }
            let seconds = if iter == 0 { 30.0 } else { 2.0 };
            now += seconds;
            pace.updated(seconds, now);
        }
        pace
    }

    #[test]
    fn there_is_no_estimate_from_few_steps() {
        for n_done in 0..10 {
            assert_eq!(run_until(n_done).seconds_left(n_done), None);
        }
    }

    #[test]
    fn an_estimate_excludes_the_slow_start_and_includes_later_evaluations() {
        for (n_done, expected) in [
            (10, 90.0 * 2.0 + 5.0 * 10.0),
            // Before and after the evaluation at step 20.
            (20, 80.0 * 2.0 + 5.0 * 10.0),
            (21, 79.0 * 2.0 + 4.0 * 10.0),
            (99, 2.0 + 10.0),
            (100, 10.0),
        ] {
            let left = run_until(n_done).seconds_left(n_done).unwrap_or_default();
            assert!((left - expected).abs() < 1e-9, "{n_done}: {left}, not {expected}");
        }
    }

    #[test]
    fn the_newest_steps_count() {
        let mut pace = run_until(60);
        let mut now = 1000.0;
        for _ in 0..100 {
            now += 7.0;
            pace.updated(7.0, now);
        }
        assert_eq!(pace.step_seconds(), Some(7.0));
    }

    #[test]
    fn a_run_that_ends_between_two_evaluations_ends_with_one() {
        let evals = |n_done| Pace::new(50, 20).evals_left(n_done);
        assert_eq!([1, 20, 21, 40, 41, 50].map(evals), [3, 3, 2, 2, 1, 1]);
        assert_eq!(Pace::new(50, 1000).evals_left(1), 1);
        assert_eq!(Pace::new(50, 20).evals_left(51), 0);
    }
}
