//! Layer norm over the last dimension: `y = (x − mean) / √(var + ε) · g + b` (Ba et al. 2016,
//! section 3; ε = 1e-5 as in GPT-2). The variance is the biased one, computed in two passes.

use candle_core::{D, Result, Tensor};

use crate::params::Affine;

/// GPT-2's `layer_norm_epsilon`.
pub(crate) const EPS: f32 = 1e-5;

/// Own composition: candle's fused layer norm has no backward and cuts the graph silently
/// (huggingface/candle#3011).
///
/// # Shapes
/// `x` `[.., C]`, gain and bias `[C]` → `[.., C]`.
pub(crate) fn composed(x: &Tensor, norm: &Affine<Tensor>) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?; // [.., 1]
    let normed = centred.broadcast_div(&(variance + f64::from(EPS))?.sqrt()?)?;
    let y = normed.broadcast_mul(&norm.weight)?;
    match &norm.bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}
