//! What sampling needs of logits: the maximum of each block, and softmax weights. Attention and the
//! loss have a softmax of their own.

use crate::math::exp;
use crate::simd::{Vector, dispatch};

dispatch!(fn survey_row(x: &[f32], maxima: &mut [f32]) -> bool = survey_kernel);
dispatch!(fn weigh_row(x: &mut [f32], max: f32, temperature: f32) = weigh_kernel);

/// How many values [`survey`] looks at for one maximum.
pub const RUN: usize = 64;

/// Leaves the largest value of each [`RUN`] of `x` in `maxima` and says whether all of `x` is
/// finite; where it is not, the maxima mean nothing.
///
/// # Panics
/// Unless there is a place in `maxima` for each run.
pub fn survey(x: &[f32], maxima: &mut [f32]) -> bool {
    assert_eq!(maxima.len(), x.len().div_ceil(RUN), "maxima of {} values", x.len());
    survey_row(x, maxima)
}

#[inline(always)]
fn survey_kernel<V: Vector>(x: &[f32], maxima: &mut [f32]) -> bool {
    // Zero as long as nothing infinite and no NaN was multiplied by it.
    let mut zero = V::zero();
    for (x, max) in x.chunks(RUN).zip(maxima) {
        let mut largest = V::splat(f32::NEG_INFINITY);
        for x in x.chunks(V::LANES) {
            largest = largest.max(V::load_or(x, f32::NEG_INFINITY));
            zero = V::load(x).mul_add(V::zero(), zero);
        }
        *max = largest.largest();
    }
    zero.sum() == 0.0
}

/// `x ← exp((x − max) / temperature)`, in one pass; the sum is the caller's.
///
/// What is below 1e-38 comes out as about that.
pub fn weigh(x: &mut [f32], max: f32, temperature: f32) {
    weigh_row(x, max, temperature);
}

#[inline(always)]
fn weigh_kernel<V: Vector>(x: &mut [f32], max: f32, temperature: f32) {
    let (max, temperature) = (V::splat(max), V::splat(temperature));
    for x in x.chunks_mut(V::LANES) {
        exp((V::load(x) - max) / temperature).store(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, at_every_level, noise};

    #[test]
    fn a_survey_finds_the_largest_of_each_run_and_what_is_not_finite() {
        at_every_level(|level| {
            for len in [1, 7, 64, 65, 200] {
                let mut x = noise(len, 2);
                let expected: Vec<f32> = x
                    .chunks(RUN)
                    .map(|x| x.iter().copied().reduce(f32::max).unwrap_or(0.0))
                    .collect();
                let mut maxima = vec![0.0; len.div_ceil(RUN)];
                assert!(survey(&x, &mut maxima), "{level:?} {len}");
                assert_eq!(maxima, expected, "{level:?} {len}");
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    x[len / 2] = bad;
                    assert!(!survey(&x, &mut maxima), "{level:?} {len} {bad}");
                }
            }
        });
    }

    #[test]
    fn weights_are_the_exponentials() {
        at_every_level(|level| {
            for (len, temperature) in [(1, 0.5), (7, 1.0), (33, 0.01), (100, 3.0)] {
                let x = noise(len, 1);
                let expected: Vec<f32> = x
                    .iter()
                    .map(|x| (f64::from(x - 1.0) / f64::from(temperature)).exp() as f32)
                    .collect();
                let mut weights = x.clone();
                weigh(&mut weights, 1.0, temperature);
                assert_close(&weights, &expected, 1e-6, &format!("{level:?} {len}"));
            }
            // A temperature so low that the quotient is infinite.
            let mut far = [1.0, 0.0];
            weigh(&mut far, 1.0, f32::MIN_POSITIVE);
            assert!(far[0] == 1.0 && far[1] < 1e-37, "{level:?} {far:?}");
        });
    }
}
