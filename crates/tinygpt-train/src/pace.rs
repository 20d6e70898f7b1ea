//! How long the rest of a run takes, and how many steps fit into a time.

/// Measured times of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Seconds of a step.
    pub step_seconds: f64,
    /// Seconds of an evaluation with its sample and its checkpoint.
    pub eval_seconds: f64,
}

impl Pace {
    /// Seconds from `step`, after its evaluation if it has one, to the end of the last evaluation of a
    /// run of `max_iters` steps, which evaluates every `eval_interval` steps and at its end.
    pub fn seconds(&self, step: u64, max_iters: u64, eval_interval: u64) -> f64 {
        let n_steps = max_iters.saturating_sub(step);
        let until_end = max_iters.saturating_sub(1) / eval_interval + 1;
        let n_evals = until_end.saturating_sub(step / eval_interval);
        n_steps as f64 * self.step_seconds + n_evals as f64 * self.eval_seconds
    }

    /// The largest `max_iters` of a run that is at `step` and ends within `seconds`, but at least one
    /// more step.
    pub fn max_iters(&self, step: u64, seconds: f64, eval_interval: u64) -> u64 {
        let per_step = self.step_seconds + self.eval_seconds / eval_interval as f64;
        let n_steps = ((seconds - self.eval_seconds) / per_step).max(1.0) as u64;
        // The evaluations are not spread evenly: the guess is off by less than one of them.
        let mut max_iters = step + n_steps + (self.eval_seconds / per_step) as u64 + 2;
        while max_iters > step + 1 && self.seconds(step, max_iters, eval_interval) > seconds {
            max_iters -= 1;
        }
        max_iters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_has_an_evaluation_wherever_it_is() {
        let pace = Pace { step_seconds: 1.0, eval_seconds: 10.0 };
        let seconds = [(0, 100), (0, 101), (20, 100), (21, 100), (100, 100), (0, 5)];
        let seconds = seconds.map(|(step, end)| pace.seconds(step, end, 20));
        assert_eq!(seconds, [150.0, 161.0, 120.0, 119.0, 0.0, 15.0]);
    }

    proptest! {
        #[test]
        fn as_many_steps_as_fit(
            step in 0u64..500, seconds in 0.0f64..500.0, eval_interval in 1u64..300,
            step_seconds in 0.01f64..3.0, eval_seconds in 0.0f64..20.0,
        ) {
            let pace = Pace { step_seconds, eval_seconds };
            let max_iters = pace.max_iters(step, seconds, eval_interval);
            let fits = |end| pace.seconds(step, end, eval_interval) <= seconds;
            prop_assert!(max_iters == step + 1 || fits(max_iters), "{max_iters}");
            prop_assert!(!fits(max_iters + 1), "{max_iters}");
        }
    }
}
