//! The f32 CPU kernels behind TinyGPT's training step, over plain slices.
//!
//! Each family is one file that holds the forward pass, its backward pass beside it, and in its
//! tests a naive version of both that the fast one must equal. This crate sits below everything
//! else: it knows nothing of candle, of GPT-2's shape or of files.
//!
//! # How the kernels are built
//!
//! - Matrix products go through one door, [`gemm()`], to blocks of our own; where a processor has
//!   neither AVX2 nor AVX-512, to the `gemm` crate.
//! - Everything else is written once, generic over the vector type of [`simd`], and compiled three
//!   times: for AVX-512, for AVX2 with FMA, and in portable form. The processor is asked once.
//! - [`peak`] measures what the machine could do, [`profile`] what it did.
//! - Chains of element-wise operations are one pass over memory: bias with GELU, bias with dropout
//!   with residual, a layer norm's backward with its parameter gradients.
//!
//! # Conventions
//!
//! - B batch, T time, C channels, H heads, D = C/H, V vocabulary, N = B·T rows. Matrices are
//!   row-major; weights are `[in, out]`, as GPT-2 stores them.
//! - `threads` is always an argument; 1 means "in the calling thread". Kernels with more threads
//!   use rayon's current pool. For one thread count the result is the same to the bit, always.
//! - Gradients of parameters are *added* to what the slice holds; gradients of activations are
//!   written, unless the document of a function says otherwise.
//! - Lengths that do not fit together are a bug of the caller and panic; nothing else does.

pub mod accumulate;
pub mod adamw;
pub mod attention;
pub mod bias;
pub mod decode;
pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod gemm;
pub mod grad_norm;
pub mod head;
pub mod layer_norm;
mod math;
mod parallel;
pub mod peak;
pub mod profile;
pub mod q8;
pub mod residual;
mod scratch;
pub mod simd;
pub mod softmax;
#[cfg(test)]
mod testing;

pub use gemm::{Matrix, MatrixMut, Store, gemm};
