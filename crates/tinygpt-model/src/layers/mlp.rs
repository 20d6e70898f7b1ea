//! The MLP of a block: `gelu(x W₁ + b₁) W₂ + b₂` with an inner width of 4C.
//!
//! GELU in GPT-2's tanh form (Hendrycks and Gimpel 2016, section 2; `gelu_new` in transformers).
//! The residual is the block's.

use candle_core::{DType, Result, Tensor};

use super::linear;
use crate::params::Affine;

/// √(2/π).
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

/// Own composition of GELU: the backward of candle's has constants cut to six digits.
///
/// # Shapes
/// `x` `[B, T, C]` → `[B, T, C]`.
pub(crate) fn composed(
    x: &Tensor,
    c_fc: &Affine<Tensor>,
    c_proj: &Affine<Tensor>,
    compute: DType,
) -> Result<Tensor> {
    let hidden = gelu(&linear::composed(x, c_fc, compute)?)?; // [B, T, 4C]
    linear::composed(&hidden, c_proj, compute)
}

/// `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
fn gelu(x: &Tensor) -> Result<Tensor> {
    let inner = (x * x.sqr()?.affine(0.044_715 * SQRT_2_OVER_PI, SQRT_2_OVER_PI)?)?;
    x * inner.tanh()?.affine(0.5, 0.5)?
}
