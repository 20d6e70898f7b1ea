//! GELU in the tanh form, with the bias of the linear layer before it.
//!
//! `gelu(x) = ½x (1 + tanh u)`, `u = √(2/π) (x + 0.044715 x³)`. Source: Hendrycks and Gimpel 2016,
//! section 2; GPT-2's `gelu_new`. Since `½(1 + tanh u) = σ(2u)`, one exponential and one division
//! serve: `gelu(x) = x σ(2u)`, and `gelu'(x) = σ + x σ(1 − σ) · 2u'`.

use crate::accumulate::sum_rows_in_parallel;
use crate::math::exp;
use crate::parallel::rows_per_thread;
use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

dispatch!(fn forward_rows(x: &mut [f32], bias: &[f32], out: &mut [f32]) = forward_kernel);
dispatch!(fn backward_rows(x: &mut [f32], d: &mut [f32], dbias: &mut [f32]) = backward_kernel);

/// `x ← x + bias`, `out ← gelu(x)`, for `x` and `out` `[N, F]` and `bias` `[F]`.
///
/// `x` keeps the pre-activation, which is all that [`backward`] needs. A layer without bias passes
/// zeros.
pub fn forward(x: &mut [f32], bias: &[f32], out: &mut [f32], threads: usize) {
    assert_eq!(x.len(), out.len(), "GELU's input and output have one length");
    if threads <= 1 {
        return forward_rows(x, bias, out);
    }
    let each = rows_per_thread(x.len() / bias.len(), threads) * bias.len();
    x.par_chunks_mut(each)
        .zip(out.par_chunks_mut(each))
        .for_each(|(x, out)| forward_rows(x, bias, out));
}

/// `d ← d · gelu'(x)`, `dbias += Σ rows of d`, and `x ← gelu(x)`.
///
/// On entry `x` is the pre-activation that [`forward`] left and `d` the gradient of the output.
/// The output is recomputed into `x` because the weight gradient of the next layer needs it: so
/// the forward pass need not keep it, and the exponential is shared.
pub fn backward(x: &mut [f32], d: &mut [f32], dbias: &mut [f32], threads: usize) {
    assert_eq!(x.len(), d.len(), "GELU's input and gradient have one length");
    if threads <= 1 {
        return backward_rows(x, d, dbias);
    }
    let each = rows_per_thread(x.len() / dbias.len(), threads) * dbias.len();
    let parts = x.par_chunks_mut(each).zip(d.par_chunks_mut(each));
    sum_rows_in_parallel(dbias, parts, threads, |(x, d), dbias| backward_rows(x, d, dbias));
}

/// `√(2/π)`, doubled: the factor of `2u`.
const TWO_ROOT_2_PI: f32 = 1.595_769;
const CUBIC: f32 = 0.044_715;

/// `σ(2u)` at `x`.
#[inline(always)]
fn gate<V: Vector>(x: V) -> V {
    let inner = (x * x).mul_add(V::splat(CUBIC), V::splat(1.0));
    let one = V::splat(1.0);
    one / (one + exp(x * inner * V::splat(-TWO_ROOT_2_PI)))
}

#[inline(always)]
fn forward_kernel<V: Vector>(x: &mut [f32], bias: &[f32], out: &mut [f32]) {
    let f = bias.len();
    for (x, out) in x.chunks_exact_mut(f).zip(out.chunks_exact_mut(f)) {
        let columns = x.chunks_mut(V::LANES).zip(bias.chunks(V::LANES));
        for ((x, bias), out) in columns.zip(out.chunks_mut(V::LANES)) {
            let pre = V::load(x) + V::load(bias);
            pre.store(x);
            (pre * gate(pre)).store(out);
        }
    }
}

#[inline(always)]
fn backward_kernel<V: Vector>(x: &mut [f32], d: &mut [f32], dbias: &mut [f32]) {
    let f = dbias.len();
    let one = V::splat(1.0);
    for (x, d) in x.chunks_exact_mut(f).zip(d.chunks_exact_mut(f)) {
        let columns = x.chunks_mut(V::LANES).zip(d.chunks_mut(V::LANES));
        for ((x, d), dbias) in columns.zip(dbias.chunks_mut(V::LANES)) {
            let pre = V::load(x);
            let gate = gate(pre);
            let out = pre * gate;
            let slope = (pre * pre).mul_add(V::splat(3.0 * CUBIC), one) * V::splat(TWO_ROOT_2_PI);
            let grad = V::load(d) * (out * (one - gate)).mul_add(slope, gate);
            out.store(x);
            grad.store(d);
            (V::load(dbias) + grad).store(dbias);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, assert_gradient, at_every_level, noise, weighted_sum};

    /// The definition, in `f64`.
    fn naive(x: f32) -> f32 {
        let x = f64::from(x);
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        (0.5 * x * (1.0 + u.tanh())) as f32
    }

    #[test]
    fn equals_the_definition_far_out_and_near_zero() {
        at_every_level(|level| {
            let mut x: Vec<f32> = (-1200..=1200).map(|i| i as f32 * 0.01).collect();
            x.extend([-1e4, -50.0, 50.0, 1e4]);
            let expected: Vec<f32> = x.iter().map(|&x| naive(x)).collect();
            let mut out = vec![0.0; x.len()];
            let zeros = vec![0.0; x.len()];
            forward(&mut x, &zeros, &mut out, 1);
            for (got, expected) in out.iter().zip(&expected) {
                let error = (got - expected).abs();
                assert!(error <= 1e-6 * expected.abs().max(0.1), "{level:?}: {got} vs {expected}");
            }
        });
    }

    #[test]
    fn backward_is_the_derivative_and_restores_the_output() {
        at_every_level(|level| {
            for (rows, cols, threads) in [(1, 1, 1), (4, 7, 1), (3, 40, 2), (5, 16, 3)] {
                let what = format!("{level:?} [{rows}, {cols}]");
                let x: Vec<f32> = noise(rows * cols, 1).iter().map(|x| 3.0 * x).collect();
                let (bias, weights) = (noise(cols, 2), noise(rows * cols, 3));
                let run = |x: &[f32], bias: &[f32]| {
                    let (mut x, mut out) = (x.to_vec(), vec![0.0; x.len()]);
                    forward(&mut x, bias, &mut out, threads);
                    (x, out)
                };
                let (mut pre, out) = run(&x, &bias);
                let (mut d, mut dbias) = (weights.clone(), vec![0.5; cols]);
                backward(&mut pre, &mut d, &mut dbias, threads);
                assert_close(&pre, &out, 1e-6, &what);
                assert_gradient(&x, &d, 2e-3, &what, |x| weighted_sum(&run(x, &bias).1, &weights));
                let dbias: Vec<f32> = dbias.iter().map(|d| d - 0.5).collect();
                assert_gradient(&bias, &dbias, 2e-3, &what, |b| {
                    weighted_sum(&run(&x, b).1, &weights)
                });
            }
        });
    }
}
