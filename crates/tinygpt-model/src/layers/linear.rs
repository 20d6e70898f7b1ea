//! The affine map `y = x W + b`, GPT-2's "Conv1D": W is `[in, out]`, so neither direction needs a
//! transposed copy. What is applied to y (GELU, residual) is the caller's.

use candle_core::{DType, Result, Tensor};

use crate::params::Affine;

/// Multiplies in `compute` and adds the bias in f32.
///
/// # Shapes
/// `x` `[.., in]`, weight `[in, out]`, bias `[out]` → `[.., out]`, f32.
pub(crate) fn composed(x: &Tensor, linear: &Affine<Tensor>, compute: DType) -> Result<Tensor> {
    let (n_in, n_out) = linear.weight.dims2()?;
    let mut dims = x.dims().to_vec();
    let rows = x.reshape(((), n_in))?; // [N, in]
    let y = matmul(&rows, &linear.weight, compute)?; // [N, out]
    let y = match &linear.bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    if let Some(last) = dims.last_mut() {
        *last = n_out;
    }
    y.reshape(dims)
}

/// `a b` with both sides rounded to `compute` (f32 or bf16) and the product returned as f32.
///
/// Weights, sums and everything between two products stay in f32, as under PyTorch's autocast.
pub(crate) fn matmul(a: &Tensor, b: &Tensor, compute: DType) -> Result<Tensor> {
    a.to_dtype(compute)?.matmul(&b.to_dtype(compute)?)?.to_dtype(DType::F32)
}
