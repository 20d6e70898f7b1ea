//! The affine map `y = x W + b`, GPT-2's "Conv1D": W is `[in, out]`, so neither direction needs a
//! transposed copy. What is applied to y (GELU, residual) is the caller's.

use candle_core::{DType, Result, Tensor};
use tinygpt_kernels::profile::{Op, timed};
use tinygpt_kernels::{Matrix, MatrixMut, Store, gemm};

use crate::parts::Affine;

/// Multiplies in `compute` and adds the bias in f32, which `candle_nn::Linear` would add in `compute`.
///
/// # Shapes
/// `x` `[.., in]`, weight `[in, out]`, bias `[out]` → `[.., out]`, f32.
pub(crate) fn autograd(x: &Tensor, linear: &Affine<Tensor>, compute: DType) -> Result<Tensor> {
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

/// `y ← x W`; the bias is added by the next operation, in a pass that it makes anyway.
///
/// # Shapes
/// `x` `[N, in]`, `weight` `[in, out]` → `y` `[N, out]`.
pub(crate) fn forward(x: &[f32], weight: &[f32], y: &mut [f32], n_in: usize, threads: usize) {
    let (n, n_out) = (x.len() / n_in, weight.len() / n_in);
    let (x, weight) = (Matrix::new(x, n, n_in), Matrix::new(weight, n_in, n_out));
    let y = MatrixMut::new(y, n, n_out);
    let flops = 2 * n * n_in * n_out;
    timed(Op::Linear, threads, flops, || gemm(y, x, weight, Store::Overwrite, threads));
}

/// `dx ← dy Wᵀ`.
///
/// # Shapes
/// `dy` `[N, out]`, `weight` `[in, out]` → `dx` `[N, in]`.
pub(crate) fn backward_input(
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    n_in: usize,
    threads: usize,
) {
    let (n, n_out) = (dx.len() / n_in, weight.len() / n_in);
    let (dy, weight) = (Matrix::new(dy, n, n_out), Matrix::new(weight, n_in, n_out));
    let dx = MatrixMut::new(dx, n, n_in);
    let flops = 2 * n * n_in * n_out;
    timed(Op::LinearInputGradient, threads, flops, || {
        gemm(dx, dy, weight.t(), Store::Overwrite, threads);
    });
}

/// `dW ← xᵀ dy` or `dW += xᵀ dy`.
///
/// # Shapes
/// `x` `[N, in]`, `dy` `[N, out]` → `dweight` `[in, out]`.
pub(crate) fn backward_weight(
    x: &[f32],
    dy: &[f32],
    dweight: &mut [f32],
    (n_in, store): (usize, Store),
    threads: usize,
) {
    let (n, n_out) = (x.len() / n_in, dweight.len() / n_in);
    let (x, dy) = (Matrix::new(x, n, n_in), Matrix::new(dy, n, n_out));
    let dweight = MatrixMut::new(dweight, n_in, n_out);
    let flops = 2 * n * n_in * n_out;
    timed(Op::LinearWeightGradient, threads, flops, || gemm(dweight, x.t(), dy, store, threads));
}
