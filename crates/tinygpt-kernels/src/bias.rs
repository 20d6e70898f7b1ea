//! Adding a bias to every row, and its gradient: the sum over rows.
//!
//! Where a bias meets another element-wise operation it is fused there instead: see
//! [`gelu`](crate::gelu) and [`residual`](crate::residual).

use crate::accumulate::{sum_rows, sum_rows_in_parallel};
use crate::parallel::rows_per_thread;
use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

dispatch!(fn add_rows(y: &mut [f32], bias: &[f32]) = add_rows_kernel);

/// Adds `bias` `[F]` to every row of `y` `[N, F]`, in place.
pub fn forward(y: &mut [f32], bias: &[f32], threads: usize) {
    if threads <= 1 {
        return add_rows(y, bias);
    }
    let each = rows_per_thread(y.len() / bias.len(), threads) * bias.len();
    y.par_chunks_mut(each).for_each(|y| add_rows(y, bias));
}

/// Adds the column sums of `dy` `[N, F]` to `dbias` `[F]`.
pub fn backward(dy: &[f32], dbias: &mut [f32], threads: usize) {
    if threads <= 1 {
        return sum_rows(dy, dbias);
    }
    let each = rows_per_thread(dy.len() / dbias.len(), threads) * dbias.len();
    sum_rows_in_parallel(dbias, dy.par_chunks(each), threads, sum_rows);
}

#[inline(always)]
fn add_rows_kernel<V: Vector>(y: &mut [f32], bias: &[f32]) {
    for row in y.chunks_exact_mut(bias.len()) {
        for (y, b) in row.chunks_mut(V::LANES).zip(bias.chunks(V::LANES)) {
            (V::load(y) + V::load(b)).store(y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, at_every_level, noise};

    #[test]
    fn forward_and_backward_equal_the_plain_loops() {
        at_every_level(|level| {
            for (rows, cols, threads) in [(1, 1, 1), (3, 7, 1), (5, 33, 2), (17, 64, 3)] {
                let what = format!("{level:?} [{rows}, {cols}]");
                let (y, bias) = (noise(rows * cols, 1), noise(cols, 2));
                let mut out = y.clone();
                forward(&mut out, &bias, threads);
                let expected: Vec<f32> = (0..y.len()).map(|i| y[i] + bias[i % cols]).collect();
                assert_close(&out, &expected, 1e-6, &what);

                let mut dbias = bias.clone();
                backward(&y, &mut dbias, threads);
                let expected: Vec<f32> = (0..cols)
                    .map(|j| bias[j] + (0..rows).map(|i| y[i * cols + j]).sum::<f32>())
                    .collect();
                assert_close(&dbias, &expected, 1e-6, &what);
            }
        });
    }
}
