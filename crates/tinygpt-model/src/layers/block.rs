//! One pre-norm block: `x += attn(ln_1(x))`, `x += mlp(ln_2(x))` (GPT-2 paper, section 2.3).

use candle_core::{DType, Result, Tensor};
use tinygpt_kernels::profile::{Op, timed};
use tinygpt_kernels::residual;

use super::attention::{self, Attention};
use super::dropout::{self, Dropout, Site};
use super::pass::{BlockActs, BlockPass, Scratch};
use super::{layer_norm, mlp};
use crate::parts::BlockParts;

/// The attention layer of block `layer`.
pub(crate) fn attention(block: &BlockParts<Tensor>, n_head: usize, layer: usize) -> Attention<'_> {
    Attention { c_attn: &block.c_attn, c_proj: &block.attn_c_proj, n_head, layer }
}

/// The whole block over whole sequences.
///
/// # Shapes
/// `x` `[B, T, C]`, `mask` as in [`Attention::autograd`] → `[B, T, C]`, f32.
pub(crate) fn autograd(
    x: &Tensor,
    block: &BlockParts<Tensor>,
    (attention, mask): (&Attention<'_>, &Tensor),
    dropout: Option<&Dropout>,
    compute: DType,
) -> Result<Tensor> {
    let y = attention.autograd(&layer_norm::autograd(x, &block.ln_1)?, mask, dropout, compute)?;
    let site = Site::AttentionOutput(attention.layer);
    let x = (x + dropout::autograd(y, dropout, site)?)?;
    autograd_mlp(&x, block, attention.layer, dropout, compute)
}

/// The second half of the block: `x + mlp(ln_2(x))`.
pub(crate) fn autograd_mlp(
    x: &Tensor,
    block: &BlockParts<Tensor>,
    layer: usize,
    dropout: Option<&Dropout>,
    compute: DType,
) -> Result<Tensor> {
    let y = layer_norm::autograd(x, &block.ln_2)?;
    let y = mlp::autograd(&y, &block.c_fc, &block.mlp_c_proj, compute)?;
    x + dropout::autograd(y, dropout, Site::MlpOutput(layer))?
}

/// `out ← block(x)`; what [`backward`] needs is kept in `acts`.
///
/// # Shapes
/// `x`, `out` `[N, C]`.
pub(crate) fn forward(
    pass: &BlockPass<'_>,
    x: &[f32],
    acts: &mut BlockActs,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let (weights, masks, threads) = (pass.weights, &pass.masks, pass.dims.threads);
    let Scratch { wide, branch, no_bias, .. } = scratch;
    let stands_in = &no_bias[..pass.dims.c];
    layer_norm::forward(x, &weights.ln_1, &mut acts.norm_1, threads);
    attention::forward(pass, &acts.norm_1.out, &mut acts.attention, branch);
    let bias = weights.attn_c_proj.bias.unwrap_or(stands_in);
    timed(Op::Residual, threads, 0, || {
        residual::forward(x, branch, bias, masks.attention_output, &mut acts.middle, threads);
    });

    layer_norm::forward(&acts.middle, &weights.ln_2, &mut acts.norm_2, threads);
    mlp::forward(pass, &acts.norm_2.out, &mut acts.hidden, branch, wide, no_bias);
    let bias = weights.mlp_c_proj.bias.unwrap_or(stands_in);
    timed(Op::Residual, threads, 0, || {
        residual::forward(&acts.middle, branch, bias, masks.mlp_output, out, threads);
    });
}

/// Turns `dstream` from the gradient of the block's output into that of its input, and adds to the
/// gradients of its parameters.
///
/// # Shapes
/// `x`, `dstream` `[N, C]`.
pub(crate) fn backward(
    pass: &BlockPass<'_>,
    x: &[f32],
    acts: &mut BlockActs,
    dstream: &mut [f32],
    grads: &mut BlockParts<&mut [f32]>,
    scratch: &mut Scratch,
) {
    let (weights, masks, d) = (pass.weights, &pass.masks, pass.dims);
    let Scratch { wide, branch: dbranch, dnormed, no_bias_grad, .. } = scratch;
    let dbias = grads.mlp_c_proj.bias.as_deref_mut().unwrap_or(&mut no_bias_grad[..d.c]);
    timed(Op::ResidualBackward, d.threads, 0, || {
        residual::backward(dstream, masks.mlp_output, dbranch, dbias, d.threads);
    });
    let (normed, hidden) = (&acts.norm_2.out, &mut acts.hidden);
    mlp::backward(pass, dbranch, normed, hidden, dnormed, grads, (wide, no_bias_grad));
    let (norm, grad) = (&weights.ln_2, &mut grads.ln_2);
    layer_norm::backward(dnormed, &acts.middle, norm, &acts.norm_2, dstream, grad, d.threads);

    let dbias = grads.attn_c_proj.bias.as_deref_mut().unwrap_or(&mut no_bias_grad[..d.c]);
    timed(Op::ResidualBackward, d.threads, 0, || {
        residual::backward(dstream, masks.attention_output, dbranch, dbias, d.threads);
    });
    let normed = &acts.norm_1.out;
    attention::backward(pass, dbranch, normed, &acts.attention, dnormed, grads, wide);
    let (norm, grad) = (&weights.ln_1, &mut grads.ln_1);
    layer_norm::backward(dnormed, x, norm, &acts.norm_1, dstream, grad, d.threads);
}
