//! The MLP of a block: `gelu(x W₁ + b₁) W₂ + b₂` with an inner width of 4C.
//!
//! GELU in GPT-2's tanh form (Hendrycks and Gimpel 2016, section 2; `gelu_new` in transformers).
//! The residual is the block's.

use candle_core::{DType, Result, Tensor};
use tinygpt_kernels::gelu as kernel;
use tinygpt_kernels::profile::{Op, timed};

use super::linear;
use super::pass::BlockPass;
use crate::parts::{Affine, BlockParts};

/// √(2/π).
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

/// GELU is composed here: the backward of candle's has constants rounded to six digits.
///
/// # Shapes
/// `x` `[B, T, C]` → `[B, T, C]`.
pub(crate) fn autograd(
    x: &Tensor,
    c_fc: &Affine<Tensor>,
    c_proj: &Affine<Tensor>,
    compute: DType,
) -> Result<Tensor> {
    let hidden = gelu(&linear::autograd(x, c_fc, compute)?)?; // [B, T, 4C]
    linear::autograd(&hidden, c_proj, compute)
}

/// `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
fn gelu(x: &Tensor) -> Result<Tensor> {
    let inner = (x * x.sqr()?.affine(0.044_715 * SQRT_2_OVER_PI, SQRT_2_OVER_PI)?)?;
    x * inner.tanh()?.affine(0.5, 0.5)?
}

/// `y ← gelu(x W₁ + b₁) W₂`; b₂ is added with the residual.
///
/// # Shapes
/// `x`, `y` `[N, C]`; `hidden` `[N, 4C]` keeps the pre-activation; `wide` `[N, 4C]` is scratch.
pub(crate) fn forward(
    pass: &BlockPass<'_>,
    x: &[f32],
    hidden: &mut [f32],
    y: &mut [f32],
    wide: &mut [f32],
    no_bias: &[f32],
) {
    let (weights, d) = (pass.weights, pass.dims);
    linear::forward(x, weights.c_fc.weight, hidden, d.c, d.threads);
    let bias = weights.c_fc.bias.unwrap_or(no_bias);
    timed(Op::Gelu, d.threads, 0, || activate(hidden, bias, wide, d.threads));
    linear::forward(wide, weights.mlp_c_proj.weight, y, 4 * d.c, d.threads);
}

/// `out ← gelu(x + b)`, and `x ← x + b`: the activation of every path on the CPU, decoding included.
///
/// # Shapes
/// `x`, `out` `[N, F]`, `bias` `[F]`.
pub(crate) fn activate(x: &mut [f32], bias: &[f32], out: &mut [f32], threads: usize) {
    kernel::forward(x, bias, out, threads);
}

/// `dx ←` the gradient of the input, given that of the output; adds to both matrices' gradients
/// and to that of b₁.
///
/// The pre-activation in `hidden` becomes the activation: the weight gradient of W₂ wants it, and
/// so the forward pass did not have to keep it.
///
/// # Shapes
/// `dy`, `x`, `dx` `[N, C]`, `hidden` `[N, 4C]`; `wide` `[N, 4C]` is scratch, and so is `no_bias_grad`
/// `[4C]`.
pub(crate) fn backward(
    pass: &BlockPass<'_>,
    dy: &[f32],
    x: &[f32],
    hidden: &mut [f32],
    dx: &mut [f32],
    grads: &mut BlockParts<&mut [f32]>,
    (wide, no_bias_grad): (&mut [f32], &mut [f32]),
) {
    let (weights, d) = (pass.weights, pass.dims);
    linear::backward_input(dy, weights.mlp_c_proj.weight, wide, 4 * d.c, d.threads);
    let dbias = grads.c_fc.bias.as_deref_mut().unwrap_or(no_bias_grad);
    timed(Op::GeluBackward, d.threads, 0, || kernel::backward(hidden, wide, dbias, d.threads));
    linear::backward_weight(hidden, dy, grads.mlp_c_proj.weight, (4 * d.c, pass.store), d.threads);
    linear::backward_input(wide, weights.c_fc.weight, dx, d.c, d.threads);
    linear::backward_weight(x, wide, grads.c_fc.weight, (d.c, pass.store), d.threads);
}
