//! The sum of squares of a gradient, for clipping by the global norm.

use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

/// Elements summed in `f32` before the sum moves on to `f64`.
const BLOCK: usize = 16 * 1024;

dispatch!(fn block_sum(x: &[f32]) -> f32 = block_sum_kernel);

/// The sum of the squares of `x`, at memory speed.
///
/// Blocks of 16,384 elements are summed in `f32` and added up in `f64` in order: the result is the
/// same for every thread count. Any NaN or infinity in `x` makes the result non-finite.
pub fn sum_of_squares(x: &[f32], threads: usize) -> f64 {
    if threads <= 1 || x.len() <= BLOCK {
        return x.chunks(BLOCK).map(|block| f64::from(block_sum(block))).sum();
    }
    let blocks_each = x.len().div_ceil(BLOCK).div_ceil(threads);
    let mut sums = vec![0.0_f64; x.len().div_ceil(BLOCK)];
    sums.par_chunks_mut(blocks_each).zip(x.par_chunks(blocks_each * BLOCK)).for_each(
        |(sums, part)| {
            for (sum, block) in sums.iter_mut().zip(part.chunks(BLOCK)) {
                *sum = f64::from(block_sum(block));
            }
        },
    );
    sums.iter().sum()
}

#[inline(always)]
fn block_sum_kernel<V: Vector>(x: &[f32]) -> f32 {
    // Four sums, because one would wait for its own previous addition.
    let mut sums = [V::zero(); 4];
    for four in x.chunks(4 * V::LANES) {
        for (sum, x) in sums.iter_mut().zip(four.chunks(V::LANES)) {
            let x = V::load(x);
            *sum = x.mul_add(x, *sum);
        }
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::testing::at_every_level;

    #[test]
    fn equals_the_plain_sum_at_every_length_and_thread_count() {
        at_every_level(|_| {
            for len in [0, 1, 15, 16, 17, 1000, BLOCK - 1, BLOCK + 1, 3 * BLOCK + 77] {
                let x: Vec<f32> = (0..len).map(|i| (i % 17) as f32 * 0.25 - 2.0).collect();
                let plain: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                let serial = sum_of_squares(&x, 1);
                assert!((serial - plain).abs() <= 1e-6 * plain, "{len}: {serial} vs {plain}");
                assert_eq!(serial, sum_of_squares(&x, 2), "two threads, length {len}");
                assert_eq!(serial, sum_of_squares(&x, 5), "five threads, length {len}");
            }
        });
    }

    #[test]
    fn a_nan_or_an_infinity_shows() {
        let mut x = vec![1.0; 100];
        x[99] = f32::NAN;
        assert!(sum_of_squares(&x, 1).is_nan());
        x[99] = f32::NEG_INFINITY;
        assert!(sum_of_squares(&x, 1).is_infinite());
    }
}
