//! The learning rate as a pure function of the step.
//!
//! Linear warm-up, then half a cosine down to `min_lr`, then `min_lr` from there on. Nothing is
//! stored, so a resumed run has the rate of the uninterrupted one, and a longer `lr_decay_iters`
//! simply gives another curve.

use std::f64::consts::PI;

/// The four numbers of the curve, and the switch that makes it constant.
///
/// ```
/// use tinygpt_train::schedule::{Schedule, learning_rate};
///
/// let schedule = Schedule {
///     learning_rate: 1e-3, min_lr: 1e-4, warmup_iters: 100, lr_decay_iters: 5000, decay_lr: true,
/// };
/// assert_eq!(learning_rate(100, &schedule), 1e-3);
/// assert_eq!(learning_rate(5000, &schedule), 1e-4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate, reached when the warm-up ends.
    pub learning_rate: f64,
    /// The rate at and after `lr_decay_iters`.
    pub min_lr: f64,
    /// Steps of linear warm-up; 0 switches it off.
    pub warmup_iters: u64,
    /// The step at which the cosine reaches `min_lr`.
    pub lr_decay_iters: u64,
    /// Whether the rate falls at all.
    pub decay_lr: bool,
}

/// The learning rate of the step that follows `step` completed steps.
///
/// * `step < warmup_iters`: `learning_rate · (step + 1) / (warmup_iters + 1)`, so that the first
///   step is not made with a rate of zero (as nanoGPT `train.py`, `get_lr`).
/// * then `min_lr + (learning_rate − min_lr) · (1 + cos(π r)) / 2`, where `r` runs from 0 at the
///   end of the warm-up to 1 at `lr_decay_iters` (Loshchilov and Hutter 2017, eq. 5, one cycle).
/// * from `lr_decay_iters` on: `min_lr`. With `lr_decay_iters == warmup_iters` there is no cosine
///   and no division by zero.
///
/// With `decay_lr` false the rate stays at `learning_rate` after the warm-up. nanoGPT skips the
/// warm-up as well in that case; here warm-up has a switch of its own, `warmup_iters` 0.
pub fn learning_rate(step: u64, schedule: &Schedule) -> f64 {
    let Schedule { learning_rate, min_lr, warmup_iters, lr_decay_iters, decay_lr } = *schedule;
    if step < warmup_iters {
        return learning_rate * (step + 1) as f64 / (warmup_iters + 1) as f64;
    }
    if !decay_lr {
        return learning_rate;
    }
    if step >= lr_decay_iters {
        return min_lr;
    }
    let ratio = (step - warmup_iters) as f64 / (lr_decay_iters - warmup_iters) as f64;
    min_lr + (learning_rate - min_lr) * 0.5 * (1.0 + (PI * ratio).cos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ORIGINAL: Schedule = Schedule {
        learning_rate: 1e-3,
        min_lr: 1e-4,
        warmup_iters: 100,
        lr_decay_iters: 10_000,
        decay_lr: true,
    };

    #[test]
    fn landmarks() {
        assert!((learning_rate(0, &ORIGINAL) - 1e-3 / 101.0).abs() < 1e-18);
        assert_eq!(learning_rate(100, &ORIGINAL), 1e-3);
        assert!((learning_rate(5_050, &ORIGINAL) - 5.5e-4).abs() < 1e-12, "half-way");
        assert_eq!(learning_rate(10_000, &ORIGINAL), 1e-4);
        assert_eq!(learning_rate(u64::MAX, &ORIGINAL), 1e-4);
    }

    #[test]
    fn without_decay_the_rate_stays_after_the_warm_up() {
        let flat = Schedule { decay_lr: false, ..ORIGINAL };
        assert!(learning_rate(50, &flat) < 1e-3);
        assert_eq!(learning_rate(100, &flat), 1e-3);
        assert_eq!(learning_rate(1_000_000, &flat), 1e-3);
        let cold = Schedule { warmup_iters: 0, ..flat };
        assert_eq!(learning_rate(0, &cold), 1e-3);
    }

    #[test]
    fn without_room_for_a_cosine_nothing_is_divided_by_zero() {
        let step = Schedule { lr_decay_iters: 100, ..ORIGINAL };
        assert!(learning_rate(99, &step) < 1e-3);
        assert_eq!(learning_rate(100, &step), 1e-4);
    }

    proptest! {
        #[test]
        fn bounded_and_monotone(
            warmup in 0u64..500, length in 0u64..5_000, step in 0u64..7_000,
            peak in 1e-6f64..1.0, floor in 0.0f64..1.0,
        ) {
            let schedule = Schedule {
                learning_rate: peak, min_lr: peak * floor,
                warmup_iters: warmup, lr_decay_iters: warmup + length, decay_lr: true,
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
