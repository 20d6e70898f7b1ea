//! Layer normalization, with the parameter gradients in the sweep of the backward pass.
//!
//! `y = γ · x̂ + β`, `x̂ = (x − mean) · rstd`, `rstd = 1/√(var + ε)`. Source: Ba et al. 2016,
//! section 3; ε = 1e-5 as in GPT-2. The variance is taken around the mean in a second pass over
//! the row, which lies in L1 by then: `E[x²] − mean²` would cancel.

use crate::accumulate::{sum_rows, sum_rows_in_parallel};
use crate::parallel::rows_per_thread;
use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

/// GPT-2's ε.
pub const EPSILON: f32 = 1e-5;

/// Scale γ `[C]` and shift β `[C]` of a layer norm; β is absent in a model without biases.
#[derive(Clone, Copy, Debug)]
pub struct NormParams<'a> {
    /// γ `[C]`.
    pub weight: &'a [f32],
    /// β `[C]`.
    pub bias: Option<&'a [f32]>,
}

/// Mean and reciprocal standard deviation of each row, `[N]` each: what backward keeps.
#[derive(Debug)]
pub struct Stats<'a> {
    /// Mean of each row.
    pub mean: &'a mut [f32],
    /// `1/√(var + ε)` of each row.
    pub rstd: &'a mut [f32],
}

dispatch!(fn forward_rows(x: &[f32], p: NormParams<'_>, out: &mut [f32], mean: &mut [f32], rstd: &mut [f32]) = forward_kernel);
dispatch!(fn backward_rows(dout: &[f32], saved: Saved<'_>, dx: &mut [f32], dparams: &mut [f32]) = backward_kernel);

/// What a backward pass reads of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// Input `[N, C]`.
    pub x: &'a [f32],
    /// γ `[C]`.
    pub weight: &'a [f32],
    /// Mean of each row, `[N]`.
    pub mean: &'a [f32],
    /// `1/√(var + ε)` of each row, `[N]`.
    pub rstd: &'a [f32],
}

/// Normalizes every row of `x` `[N, C]` into `out` `[N, C]` and leaves the statistics in `stats`.
///
/// # Panics
/// If the lengths do not fit together.
pub fn forward(
    x: &[f32],
    affine: NormParams<'_>,
    out: &mut [f32],
    stats: Stats<'_>,
    threads: usize,
) {
    let (c, n) = (affine.weight.len(), stats.mean.len());
    assert!(
        x.len() == n * c && out.len() == n * c && stats.rstd.len() == n,
        "layer norm of [{n}, {c}] got {} inputs and {} outputs",
        x.len(),
        out.len()
    );
    if threads <= 1 {
        return forward_rows(x, affine, out, stats.mean, stats.rstd);
    }
    let each = rows_per_thread(n, threads);
    x.par_chunks(each * c)
        .zip(out.par_chunks_mut(each * c))
        .zip(stats.mean.par_chunks_mut(each))
        .zip(stats.rstd.par_chunks_mut(each))
        .for_each(|(((x, out), mean), rstd)| forward_rows(x, affine, out, mean, rstd));
}

/// Adds to `dx` `[N, C]` the gradient of the input, to `dweight` and `dbias` `[C]` those of γ, β.
///
/// With `g = dout · γ`: `dx += rstd · (g − mean(g) − x̂ · mean(g · x̂))`, `dγ += Σ dout · x̂`,
/// `dβ += Σ dout`. `dx` is added to because a residual stream runs around every layer norm of
/// GPT-2.
///
/// # Panics
/// If the lengths do not fit together.
pub fn backward(
    dout: &[f32],
    saved: Saved<'_>,
    dx: &mut [f32],
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
    threads: usize,
) {
    let (c, n) = (saved.weight.len(), saved.mean.len());
    assert!(
        dout.len() == n * c && dx.len() == n * c && saved.x.len() == n * c,
        "layer norm backward of [{n}, {c}] got {} and {} gradients",
        dout.len(),
        dx.len()
    );
    // dγ and behind it dβ, whether or not the model has a β.
    let mut dparams = vec![0.0; 2 * c];
    if threads <= 1 {
        backward_rows(dout, saved, dx, &mut dparams);
    } else {
        backward_in_parallel(dout, saved, dx, &mut dparams, threads);
    }
    sum_rows(&dparams[..c], dweight);
    if let Some(dbias) = dbias {
        sum_rows(&dparams[c..], dbias);
    }
}

fn backward_in_parallel(
    dout: &[f32],
    saved: Saved<'_>,
    dx: &mut [f32],
    dparams: &mut [f32],
    threads: usize,
) {
    let c = saved.weight.len();
    let each = rows_per_thread(saved.mean.len(), threads);
    let parts = dout
        .par_chunks(each * c)
        .zip(saved.x.par_chunks(each * c))
        .zip(saved.mean.par_chunks(each).zip(saved.rstd.par_chunks(each)))
        .zip(dx.par_chunks_mut(each * c));
    sum_rows_in_parallel(dparams, parts, threads, |(((dout, x), (mean, rstd)), dx), dparams| {
        backward_rows(dout, Saved { x, mean, rstd, ..saved }, dx, dparams);
    });
}

#[inline(always)]
fn forward_kernel<V: Vector>(
    x: &[f32],
    p: NormParams<'_>,
    out: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let c = p.weight.len();
    let per_channel = 1.0 / c as f32;
    let rows = x.chunks_exact(c).zip(out.chunks_exact_mut(c));
    for ((x, out), (mean, rstd)) in rows.zip(mean.iter_mut().zip(rstd)) {
        let mut sum = V::zero();
        for x in x.chunks(V::LANES) {
            sum = sum + V::load(x);
        }
        *mean = sum.sum() * per_channel;
        let m = V::splat(*mean);
        let mut squares = V::zero();
        for x in x.chunks(V::LANES) {
            let centred = V::load_or(x, *mean) - m;
            squares = centred.mul_add(centred, squares);
        }
        *rstd = 1.0 / (squares.sum() * per_channel + EPSILON).sqrt();
        let r = V::splat(*rstd);
        let columns = x.chunks(V::LANES).zip(p.weight.chunks(V::LANES)).enumerate();
        for ((i, (x, weight)), out) in columns.zip(out.chunks_mut(V::LANES)) {
            let shift = p.bias.map_or(V::zero(), |bias| V::load(&bias[i * V::LANES..]));
            ((V::load(x) - m) * r).mul_add(V::load(weight), shift).store(out);
        }
    }
}

#[inline(always)]
fn backward_kernel<V: Vector>(dout: &[f32], saved: Saved<'_>, dx: &mut [f32], dparams: &mut [f32]) {
    let c = saved.weight.len();
    let per_channel = 1.0 / c as f32;
    let (dweight, dbias) = dparams.split_at_mut(c);
    for (row, (&mean, &rstd)) in saved.mean.iter().zip(saved.rstd).enumerate() {
        let at = row * c..(row + 1) * c;
        let (dout, x, dx) = (&dout[at.clone()], &saved.x[at.clone()], &mut dx[at]);
        let (m, r) = (V::splat(mean), V::splat(rstd));
        let (mut sum, mut sum_x_hat) = (V::zero(), V::zero());
        let inputs = dout.chunks(V::LANES).zip(x.chunks(V::LANES));
        let columns = inputs.zip(saved.weight.chunks(V::LANES));
        let params = dweight.chunks_mut(V::LANES).zip(dbias.chunks_mut(V::LANES));
        for (((dout, x), weight), (dweight, dbias)) in columns.zip(params) {
            let d = V::load(dout);
            let x_hat = (V::load(x) - m) * r;
            d.mul_add(x_hat, V::load(dweight)).store(dweight);
            (V::load(dbias) + d).store(dbias);
            let g = d * V::load(weight);
            sum = sum + g;
            sum_x_hat = g.mul_add(x_hat, sum_x_hat);
        }
        let mean_g = V::splat(sum.sum() * per_channel);
        let mean_g_x_hat = V::splat(sum_x_hat.sum() * per_channel);
        let inputs = dout.chunks(V::LANES).zip(x.chunks(V::LANES));
        let columns = inputs.zip(saved.weight.chunks(V::LANES));
        for (((dout, x), weight), dx) in columns.zip(dx.chunks_mut(V::LANES)) {
            let x_hat = (V::load(x) - m) * r;
            let g = V::load(dout) * V::load(weight);
            ((g - mean_g - x_hat * mean_g_x_hat).mul_add(r, V::load(dx))).store(dx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, at_every_level, noise, weighted_sum};

    /// The definition, in `f64`.
    fn naive(x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let c = weight.len();
        let row = |x: &[f32]| {
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / c as f64;
            let var = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / c as f64;
            let value = |j: usize| {
                let x_hat = (f64::from(x[j]) - mean) / (var + 1e-5).sqrt();
                (x_hat * f64::from(weight[j]) + bias.map_or(0.0, |b| f64::from(b[j]))) as f32
            };
            (0..c).map(value).collect::<Vec<f32>>()
        };
        x.chunks(c).flat_map(row).collect()
    }

    fn run(x: &[f32], affine: NormParams<'_>, threads: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let n = x.len() / affine.weight.len();
        let (mut out, mut mean, mut rstd) = (vec![0.0; x.len()], vec![0.0; n], vec![0.0; n]);
        forward(x, affine, &mut out, Stats { mean: &mut mean, rstd: &mut rstd }, threads);
        (out, mean, rstd)
    }

    #[test]
    fn forward_equals_the_definition_even_far_from_zero() {
        at_every_level(|level| {
            for (rows, c, threads) in [(1, 1, 1), (4, 7, 1), (3, 40, 2), (5, 129, 3)] {
                let x: Vec<f32> = noise(rows * c, 1).iter().map(|x| x + 100.0).collect();
                let (weight, bias) = (noise(c, 2), noise(c, 3));
                for bias in [None, Some(&bias[..])] {
                    let (out, ..) = run(&x, NormParams { weight: &weight, bias }, threads);
                    let what = format!("{level:?} [{rows}, {c}]");
                    assert_close(&out, &naive(&x, &weight, bias), 1e-4, &what);
                }
            }
        });
    }

    #[test]
    fn backward_is_the_derivative() {
        at_every_level(|level| {
            for (rows, c, threads) in [(2, 5, 1), (3, 24, 2), (5, 33, 2)] {
                let what = format!("{level:?} [{rows}, {c}]");
                let x: Vec<f32> = noise(rows * c, 1).iter().map(|x| 2.0 * x).collect();
                let (weight, bias, weights) = (noise(c, 2), noise(c, 3), noise(rows * c, 4));
                let affine = NormParams { weight: &weight, bias: Some(&bias) };
                let (_, mean, rstd) = run(&x, affine, threads);
                let saved = Saved { x: &x, weight: &weight, mean: &mean, rstd: &rstd };
                let (mut dx, mut dparams) = (vec![1.0; rows * c], vec![0.0; 2 * c]);
                let (dweight, dbias) = dparams.split_at_mut(c);
                backward(&weights, saved, &mut dx, dweight, Some(dbias), threads);
                let dx: Vec<f32> = dx.iter().map(|d| d - 1.0).collect();
                let f = |x: &[f32], weight: &[f32], bias: &[f32]| {
                    weighted_sum(&naive(x, weight, Some(bias)), &weights)
                };
                assert_gradient(&x, &dx, 2e-3, &what, |x| f(x, &weight, &bias));
                assert_gradient(&weight, &dparams[..c], 2e-3, &what, |w| f(&x, w, &bias));
                assert_gradient(&bias, &dparams[c..], 2e-3, &what, |b| f(&x, &weight, b));
            }
        });
    }
}
