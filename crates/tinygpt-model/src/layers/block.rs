//! One pre-norm block: `x += attn(ln_1(x))`, `x += mlp(ln_2(x))` (GPT-2 paper, section 2.3).

use candle_core::{DType, Result, Tensor};

use super::attention::Attention;
use super::dropout::{self, Dropout, Site};
use super::{layer_norm, mlp};
use crate::params::BlockParts;

/// The attention layer of block `layer`.
pub(crate) fn attention(block: &BlockParts<Tensor>, n_head: usize, layer: usize) -> Attention<'_> {
    Attention { c_attn: &block.c_attn, c_proj: &block.attn_c_proj, n_head, layer }
}

/// The whole block over whole sequences.
///
/// # Shapes
/// `x` `[B, T, C]` → `[B, T, C]`, f32.
pub(crate) fn composed(
    x: &Tensor,
    block: &BlockParts<Tensor>,
    attention: &Attention<'_>,
    dropout: Option<&Dropout>,
    compute: DType,
) -> Result<Tensor> {
    let y = attention.composed(&layer_norm::composed(x, &block.ln_1)?, dropout, compute)?;
    let site = Site::AttentionOutput(attention.layer);
    let x = (x + dropout::composed(y, dropout, site)?)?;
    composed_mlp(&x, block, attention.layer, dropout, compute)
}

/// The second half of the block: `x + mlp(ln_2(x))`.
pub(crate) fn composed_mlp(
    x: &Tensor,
    block: &BlockParts<Tensor>,
    layer: usize,
    dropout: Option<&Dropout>,
    compute: DType,
) -> Result<Tensor> {
    let y = layer_norm::composed(x, &block.ln_2)?;
    let y = mlp::composed(&y, &block.c_fc, &block.mlp_c_proj, compute)?;
    x + dropout::composed(y, dropout, Site::MlpOutput(layer))?
}
