//! The end of a residual branch: bias, dropout and the addition, in one pass.
//!
//! `out = x + dropout(y + bias)`: the branch `y` is read once and the stream written once.

use crate::accumulate::sum_rows_in_parallel;
use crate::dropout::Dropout;
use crate::parallel::rows_per_thread;
use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

dispatch!(fn forward_rows(x: &[f32], y: &[f32], bias: &[f32], dropout: Option<Dropout>, out: &mut [f32]) = forward_kernel);
dispatch!(fn backward_rows(dout: &[f32], dropout: Option<Dropout>, dy: &mut [f32], dbias: &mut [f32]) = backward_kernel);

/// `out ← x + dropout(y + bias)`, for `x`, `y`, `out` `[N, C]` and `bias` `[C]`.
///
/// # Panics
/// If the lengths do not fit together.
pub fn forward(
    x: &[f32],
    y: &[f32],
    bias: &[f32],
    dropout: Option<Dropout>,
    out: &mut [f32],
    threads: usize,
) {
    let c = bias.len();
    assert!(x.len() == out.len() && y.len() == out.len(), "a residual's three lengths are one");
    if threads <= 1 {
        return forward_rows(x, y, bias, dropout, out);
    }
    let each = rows_per_thread(out.len() / c, threads);
    x.par_chunks(each * c)
        .zip(y.par_chunks(each * c))
        .zip(out.par_chunks_mut(each * c))
        .enumerate()
        .for_each(|(i, ((x, y), out))| {
            forward_rows(x, y, bias, dropout.map(|d| d.skip_rows(i * each)), out);
        });
}

/// `dy ← dropout mask · dout` and `dbias += Σ rows of dy`; the gradient of `x` is `dout` itself.
///
/// # Panics
/// If the lengths do not fit together.
pub fn backward(
    dout: &[f32],
    dropout: Option<Dropout>,
    dy: &mut [f32],
    dbias: &mut [f32],
    threads: usize,
) {
    let c = dbias.len();
    assert_eq!(dout.len(), dy.len(), "a residual branch's gradient has the stream's length");
    if threads <= 1 {
        return backward_rows(dout, dropout, dy, dbias);
    }
    let each = rows_per_thread(dout.len() / c, threads);
    let parts = dout.par_chunks(each * c).zip(dy.par_chunks_mut(each * c)).enumerate();
    sum_rows_in_parallel(dbias, parts, threads, |(i, (dout, dy)), dbias| {
        backward_rows(dout, dropout.map(|d| d.skip_rows(i * each)), dy, dbias);
    });
}

#[inline(always)]
fn forward_kernel<V: Vector>(
    x: &[f32],
    y: &[f32],
    bias: &[f32],
    dropout: Option<Dropout>,
    out: &mut [f32],
) {
    let c = bias.len();
    let rows = x.chunks_exact(c).zip(y.chunks_exact(c)).zip(out.chunks_exact_mut(c));
    for (row, ((x, y), out)) in rows.enumerate() {
        let key = dropout.map(|d| (d, d.row_key(row)));
        let inputs = x.chunks(V::LANES).zip(y.chunks(V::LANES)).zip(bias.chunks(V::LANES));
        for (i, (((x, y), bias), out)) in inputs.zip(out.chunks_mut(V::LANES)).enumerate() {
            let branch = V::load(y) + V::load(bias);
            let branch = match key {
                Some((dropout, key)) => dropout.apply(branch, key, i * V::LANES),
                None => branch,
            };
            (V::load(x) + branch).store(out);
        }
    }
}

#[inline(always)]
fn backward_kernel<V: Vector>(
    dout: &[f32],
    dropout: Option<Dropout>,
    dy: &mut [f32],
    dbias: &mut [f32],
) {
    let c = dbias.len();
    for (row, (dout, dy)) in dout.chunks_exact(c).zip(dy.chunks_exact_mut(c)).enumerate() {
        let key = dropout.map(|d| (d, d.row_key(row)));
        let columns = dout.chunks(V::LANES).zip(dy.chunks_mut(V::LANES));
        for (i, ((dout, dy), dbias)) in columns.zip(dbias.chunks_mut(V::LANES)).enumerate() {
            let grad = match key {
                Some((dropout, key)) => dropout.apply(V::load(dout), key, i * V::LANES),
                None => V::load(dout),
            };
            grad.store(dy);
            (V::load(dbias) + grad).store(dbias);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, at_every_level, noise, weighted_sum};

    fn naive(x: &[f32], y: &[f32], bias: &[f32], dropout: Option<Dropout>) -> Vec<f32> {
        let c = bias.len();
        let factor = |i: usize| match dropout {
            Some(d) if d.keeps(i / c, (i % c) as u32) => d.scale(),
            Some(_) => 0.0,
            None => 1.0,
        };
        (0..x.len()).map(|i| x[i] + factor(i) * (y[i] + bias[i % c])).collect()
    }

    #[test]
    fn forward_and_backward_equal_the_definition() {
        at_every_level(|level| {
            for (rows, c, threads) in [(1, 1, 1), (4, 7, 1), (3, 40, 2), (7, 33, 3)] {
                for dropout in [None, Dropout::new(0.4, 9).map(|d| d.skip_rows(2))] {
                    let what = format!("{level:?} [{rows}, {c}] {dropout:?}");
                    let (x, y, bias) = (noise(rows * c, 1), noise(rows * c, 2), noise(c, 3));
                    let mut out = vec![0.0; rows * c];
                    forward(&x, &y, &bias, dropout, &mut out, threads);
                    assert_close(&out, &naive(&x, &y, &bias, dropout), 1e-6, &what);

                    let weights = noise(rows * c, 4);
                    let (mut dy, mut dbias) = (vec![0.0; rows * c], vec![0.0; c]);
                    backward(&weights, dropout, &mut dy, &mut dbias, threads);
                    let f =
                        |y: &[f32], b: &[f32]| weighted_sum(&naive(&x, y, b, dropout), &weights);
                    assert_gradient(&y, &dy, 2e-3, &what, |y| f(y, &bias));
                    assert_gradient(&bias, &dbias, 2e-3, &what, |b| f(&y, b));
                }
            }
        });
    }
}
