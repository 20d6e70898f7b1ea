//! Layer norm over the last dimension: `y = (x − mean) / √(var + ε) · g + b` (Ba et al. 2016,
//! section 3; ε = 1e-5 as in GPT-2). The variance is the biased one, computed in two passes.

use candle_core::{D, Result, Tensor};
use tinygpt_kernels::layer_norm as kernel;
use tinygpt_kernels::profile::{Op, timed};

use super::pass::NormActs;
use crate::parts::Affine;

/// GPT-2's `layer_norm_epsilon`.
pub(crate) const EPS: f32 = 1e-5;

/// Composed here: candle's fused layer norm has no backward and cuts the graph silently
/// (huggingface/candle#3011).
///
/// # Shapes
/// `x` `[.., C]`, gain and bias `[C]` → `[.., C]`.
pub(crate) fn autograd(x: &Tensor, norm: &Affine<Tensor>) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?; // [.., 1]
    let normed = centred.broadcast_div(&(variance + f64::from(EPS))?.sqrt()?)?;
    let y = normed.broadcast_mul(&norm.weight)?;
    match &norm.bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// `acts.out ← norm(x)`; the statistics are kept for [`backward`].
///
/// # Shapes
/// `x` `[N, C]` → `acts.out` `[N, C]`.
pub(crate) fn forward(x: &[f32], norm: &Affine<&[f32]>, acts: &mut NormActs, threads: usize) {
    let (out, stats) = acts.split();
    timed(Op::LayerNorm, threads, 0, || normalize(x, norm, out, stats, threads));
}

/// `out ← norm(x)`: the norm of every path on the CPU, decoding included.
///
/// # Shapes
/// `x`, `out` `[N, C]`, `stats` `[N]` each.
pub(crate) fn normalize(
    x: &[f32],
    norm: &Affine<&[f32]>,
    out: &mut [f32],
    stats: kernel::Stats<'_>,
    threads: usize,
) {
    let affine = kernel::NormParams { weight: norm.weight, bias: norm.bias };
    kernel::forward(x, affine, out, stats, threads);
}

/// Adds the gradients of the input to `dx` and those of gain and bias to `grad`.
///
/// With `g = dout · gain`: `dx += rstd · (g − mean(g) − x̂ · mean(g · x̂))`.
///
/// # Shapes
/// `dout`, `x`, `dx` `[N, C]`.
pub(crate) fn backward(
    dout: &[f32],
    x: &[f32],
    norm: &Affine<&[f32]>,
    acts: &NormActs,
    dx: &mut [f32],
    grad: &mut Affine<&mut [f32]>,
    threads: usize,
) {
    let saved = kernel::Saved { x, weight: norm.weight, mean: &acts.mean, rstd: &acts.rstd };
    timed(Op::LayerNormBackward, threads, 0, || {
        kernel::backward(dout, saved, dx, grad.weight, grad.bias.as_deref_mut(), threads);
    });
}
