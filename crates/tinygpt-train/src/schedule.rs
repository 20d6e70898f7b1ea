//! The learning rate as a pure function of the step.
//!
//! Linear warm-up, then one of four shapes down to `min_lr`, then `min_lr` from there on. Nothing is
//! stored, so a resumed run has the rate of the uninterrupted one, and a longer `lr_decay_iters`
//! simply gives another curve.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate changes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// Half a cosine down to `min_lr` (Loshchilov and Hutter 2017).
    #[default]
    Cosine,
    /// A straight line down to `min_lr`.
    Linear,
    /// No change.
    Constant,
    /// Warm-up, stable, decay: constant, then a straight line down to `min_lr` over the last
    /// `warmdown_ratio` of the run. The constant part does not depend on the length of the run.
    Wsd,
}

/// The numbers of the curve.
///
/// ```
/// use tinygpt_train::schedule::{LrSchedule, Schedule, learning_rate};
///
/// let schedule = Schedule {
///     lr_schedule: LrSchedule::Cosine, learning_rate: 1e-3, min_lr: 1e-4, warmup_iters: 100,
///     lr_decay_iters: 5000, warmdown_ratio: 0.2,
/// };
/// assert_eq!(learning_rate(100, &schedule), 1e-3);
/// assert_eq!(learning_rate(5000, &schedule), 1e-4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The shape of the curve after the warm-up.
    pub lr_schedule: LrSchedule,
    /// The highest rate, reached when the warm-up ends.
    pub learning_rate: f64,
    /// The rate at and after `lr_decay_iters`.
    pub min_lr: f64,
    /// Steps of linear warm-up; 0 switches it off.
    pub warmup_iters: u64,
    /// The step at which the decay reaches `min_lr`.
    pub lr_decay_iters: u64,
    /// The fraction of `lr_decay_iters` over which [`LrSchedule::Wsd`] decays.
    pub warmdown_ratio: f64,
}

impl Schedule {
    /// The end of the constant part of [`LrSchedule::Wsd`], in steps; not a whole number of them.
    fn decay_start(&self) -> f64 {
        let end = self.lr_decay_iters as f64;
        (end - end * self.warmdown_ratio).max(self.warmup_iters as f64)
    }

    /// The same curve up to `step`, and from there on one that ends at about `end`, without a jump;
    /// for [`LrSchedule::Wsd`].
    ///
    /// On the plateau the decay keeps its share of the run. In the decay the line becomes steeper or
    /// flatter: it is the line through the rate of this step, so that its start moves, too.
    pub fn ending_at(&self, step: u64, end: u64) -> Self {
        let (now, first) = (step as f64, (self.warmup_iters as f64).max(1.0));
        let mut end = end.max(step + 1).max(self.warmup_iters + 1);
        let start = if now <= self.decay_start() {
            (end as f64 * (1.0 - self.warmdown_ratio)).max(now).max(first)
        } else {
            let rate = learning_rate(step, self);
            // How far the start lies back, for each step that is left.
            let back = (self.learning_rate - rate) / (rate - self.min_lr);
            if !(back > 0.0 && back.is_finite()) {
                return *self;
            }
            end = end.min((now + (now - first) / back) as u64).max(step + 1);
            (now - back * (end - step) as f64).max(first)
        };
        let warmdown_ratio = ((end as f64 - start) / end as f64).max(0.0);
        Self { lr_decay_iters: end, warmdown_ratio, ..*self }
    }

    /// The last step count at which a run with [`LrSchedule::Wsd`] can still get another length
    /// without having had another rate before; `None` for the other shapes.
    pub fn plateau_end(&self) -> Option<u64> {
        (self.lr_schedule == LrSchedule::Wsd).then(|| (self.decay_start() + 1e-6) as u64)
    }
}

/// The learning rate of the step that follows `step` completed steps.
///
/// * `step < warmup_iters`: `learning_rate · (step + 1) / (warmup_iters + 1)`, so that the first
///   step is not made with a rate of zero (as nanoGPT `train.py`, `get_lr`).
/// * then, where `r` runs from 0 at the end of the warm-up to 1 at `lr_decay_iters`:
///   `min_lr + (learning_rate − min_lr) · (1 + cos(π r)) / 2` for a cosine (Loshchilov and Hutter
///   2017, eq. 5, one cycle), `min_lr + (learning_rate − min_lr) · (1 − r)` for a line. For
///   [`LrSchedule::Wsd`], `r` runs from 0 at the start of the decay.
/// * from `lr_decay_iters` on: `min_lr`. With `lr_decay_iters == warmup_iters` there is no curve and
///   no division by zero.
///
/// With [`LrSchedule::Constant`] the rate stays at `learning_rate` after the warm-up. nanoGPT skips
/// the warm-up as well in that case; here warm-up has a switch of its own, `warmup_iters` 0.
pub fn learning_rate(step: u64, schedule: &Schedule) -> f64 {
    let Schedule { lr_schedule, learning_rate, min_lr, warmup_iters, lr_decay_iters, .. } =
        *schedule;
    if step < warmup_iters {
        return learning_rate * (step + 1) as f64 / (warmup_iters + 1) as f64;
    }
    let ratio = || (step - warmup_iters) as f64 / (lr_decay_iters - warmup_iters) as f64;
    match lr_schedule {
        LrSchedule::Constant => learning_rate,
        _ if step >= lr_decay_iters => min_lr,
        LrSchedule::Cosine => {
            min_lr + (learning_rate - min_lr) * 0.5 * (1.0 + (PI * ratio()).cos())
        }
        LrSchedule::Linear => min_lr + (learning_rate - min_lr) * (1.0 - ratio()),
        LrSchedule::Wsd => {
            let start = schedule.decay_start();
            if step as f64 <= start {
                return learning_rate;
            }
            let left = (lr_decay_iters - step) as f64 / (lr_decay_iters as f64 - start);
            min_lr + (learning_rate - min_lr) * left
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ORIGINAL: Schedule = Schedule {
        lr_schedule: LrSchedule::Cosine,
        learning_rate: 1e-3,
        min_lr: 1e-4,
        warmup_iters: 100,
        lr_decay_iters: 10_000,
        warmdown_ratio: 0.2,
    };

    #[test]
    fn landmarks() {
        assert!((learning_rate(0, &ORIGINAL) - 1e-3 / 101.0).abs() < 1e-18);
        assert_eq!(learning_rate(100, &ORIGINAL), 1e-3);
        assert!((learning_rate(5_050, &ORIGINAL) - 5.5e-4).abs() < 1e-12, "half-way");
        assert_eq!(learning_rate(10_000, &ORIGINAL), 1e-4);
        assert_eq!(learning_rate(u64::MAX, &ORIGINAL), 1e-4);
    }

    /// The rates of every fifth of the run, after a warm-up of 100 of 1,100 steps.
    fn rates(lr_schedule: LrSchedule) -> [f64; 6] {
        let schedule = Schedule { lr_schedule, lr_decay_iters: 1100, ..ORIGINAL };
        [100, 300, 500, 700, 900, 1100].map(|step| learning_rate(step, &schedule))
    }

    #[test]
    fn every_shape_has_its_curve() {
        let close = |rates: [f64; 6], expected: [f64; 6]| {
            for (rate, expected) in rates.into_iter().zip(expected) {
                assert!((rate - expected * 1e-3).abs() < 1e-9, "{rates:?}");
            }
        };
        close(rates(LrSchedule::Cosine), [1.0, 0.914058, 0.689058, 0.410942, 0.185942, 0.1]);
        close(rates(LrSchedule::Linear), [1.0, 0.82, 0.64, 0.46, 0.28, 0.1]);
        close(rates(LrSchedule::Constant), [1.0; 6]);
        // From step 880 on.
        close(rates(LrSchedule::Wsd), [1.0, 1.0, 1.0, 1.0, 0.1 + 0.9 * 200.0 / 220.0, 0.1]);
    }

    #[test]
    fn without_decay_the_rate_stays_after_the_warm_up() {
        let flat = Schedule { lr_schedule: LrSchedule::Constant, ..ORIGINAL };
        assert!(learning_rate(50, &flat) < 1e-3);
        assert_eq!(learning_rate(100, &flat), 1e-3);
        assert_eq!(learning_rate(1_000_000, &flat), 1e-3);
        let cold = Schedule { warmup_iters: 0, ..flat };
        assert_eq!(learning_rate(0, &cold), 1e-3);
    }

    #[test]
    fn without_room_for_a_decay_nothing_is_divided_by_zero() {
        for lr_schedule in [LrSchedule::Cosine, LrSchedule::Linear, LrSchedule::Wsd] {
            let step = Schedule { lr_schedule, lr_decay_iters: 100, ..ORIGINAL };
            assert!(learning_rate(99, &step) < 1e-3);
            assert_eq!(learning_rate(100, &step), 1e-4);
        }
        let sudden = Schedule { lr_schedule: LrSchedule::Wsd, warmdown_ratio: 0.0, ..ORIGINAL };
        assert_eq!(learning_rate(9_999, &sudden), 1e-3);
        assert_eq!(learning_rate(10_000, &sudden), 1e-4);
    }

    #[test]
    fn the_plateau_of_wsd_does_not_depend_on_the_length_of_the_run() {
        let short = Schedule { lr_schedule: LrSchedule::Wsd, lr_decay_iters: 1000, ..ORIGINAL };
        let long = Schedule { lr_decay_iters: 5000, ..short };
        assert_eq!(short.plateau_end(), Some(800));
        for step in 0..=800 {
            assert_eq!(learning_rate(step, &short), learning_rate(step, &long));
        }
        assert!(learning_rate(801, &short) < learning_rate(801, &long));
        assert_eq!(ORIGINAL.plateau_end(), None);
    }

    proptest! {
        #[test]
        fn another_end_changes_no_rate_before_it_is_chosen(
            warmup in 0u64..50, end in 60u64..2_000, at in 0.0f64..1.0, other in 0.3f64..3.0,
            warmdown_ratio in 0.01f64..0.9, floor in 0.0f64..0.9,
        ) {
            let schedule = Schedule {
                lr_schedule: LrSchedule::Wsd, learning_rate: 1.0, min_lr: floor,
                warmup_iters: warmup, lr_decay_iters: end, warmdown_ratio,
            };
            let step = (at * end as f64) as u64;
            let changed = schedule.ending_at(step, (other * end as f64) as u64);
            prop_assert!((0.0..1.0).contains(&changed.warmdown_ratio), "{changed:?}");
            let rates = [schedule, changed].map(|schedule| learning_rate(step, &schedule));
            prop_assert!((rates[0] - rates[1]).abs() < 1e-6, "{rates:?} {changed:?}");
            for step in step.max(warmup)..changed.lr_decay_iters {
                let [now, next] = [step, step + 1].map(|step| learning_rate(step, &changed));
                prop_assert!(next <= now + 1e-9 && now >= floor - 1e-9);
            }
            prop_assert_eq!(learning_rate(changed.lr_decay_iters, &changed), floor);
        }

        #[test]
        fn bounded_and_monotone(
            shape in 0usize..4, warmup in 0u64..500, length in 0u64..5_000, step in 0u64..7_000,
            peak in 1e-6f64..1.0, floor in 0.0f64..1.0, warmdown_ratio in 0.0f64..1.0,
        ) {
            use LrSchedule::{Constant, Cosine, Linear, Wsd};
            let schedule = Schedule {
                lr_schedule: [Cosine, Linear, Constant, Wsd][shape],
                learning_rate: peak, min_lr: peak * floor,
                warmup_iters: warmup, lr_decay_iters: warmup + length, warmdown_ratio,
            };
            let (now, next) = (learning_rate(step, &schedule), learning_rate(step + 1, &schedule));
            prop_assert!(now.is_finite() && now >= 0.0 && now <= peak * (1.0 + 1e-12));
            if step >= warmup {
                prop_assert!(now >= peak * floor * (1.0 - 1e-12));
                prop_assert!(next <= now * (1.0 + 1e-12), "falls after the warm-up");
            } else if step + 1 < warmup {
                prop_assert!(next > now, "rises during the warm-up");
            }
        }
    }
}
