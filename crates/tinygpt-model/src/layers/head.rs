//! The head: logits `h wteᵀ` and the mean cross-entropy over them, in nats per token.
//!
//! `loss = mean(log Σⱼ exp(zⱼ) − z_target)`. The last layer norm comes before it; rows are given in
//! chunks by the caller so that the whole `[N, V]` never exists.

use candle_core::{DType, Result, Tensor};
use candle_nn::loss::cross_entropy;
use tinygpt_kernels::{Matrix, MatrixMut, Store, gemm};

use super::linear;

/// Logits of some rows.
///
/// # Shapes
/// `h` `[N, C]`, `wte` `[V, C]` → `[N, V]`, f32.
pub(crate) fn autograd_logits(h: &Tensor, wte: &Tensor, compute: DType) -> Result<Tensor> {
    linear::matmul(h, &wte.t()?, compute)
}

/// Sum of the cross-entropies of some rows, a scalar.
///
/// # Shapes
/// `logits` `[N, V]`, `targets` `[N]` (u32) → `[]`.
pub(crate) fn autograd_loss(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    cross_entropy(logits, targets)? * targets.elem_count() as f64
}

/// `logits ← x wteᵀ`, all of them; where only the loss or its gradient is wanted,
/// [`tinygpt_kernels::head`] does it in chunks of rows.
///
/// # Shapes
/// `x` `[N, C]`, `wte` `[V, C]` → `logits` `[N, V]`.
pub(crate) fn logits(x: &[f32], wte: &[f32], logits: &mut [f32], c: usize, threads: usize) {
    let (n, v) = (x.len() / c, wte.len() / c);
    let (x, wte) = (Matrix::new(x, n, c), Matrix::new(wte, v, c));
    gemm(MatrixMut::new(logits, n, v), x, wte.t(), Store::Overwrite, threads);
}
