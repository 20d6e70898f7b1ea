//! The f32 CPU kernels behind TinyGPT.
//!
#![doc = include_str!("../README.md")]
//!
//! # How the kernels are built
//!
//! - Matrix products have one entry point, [`gemm()`], with blocked kernels of our own; on a processor
//!   with neither AVX2 nor AVX-512 it calls the `gemm` crate.
//! - Everything else is written once, generic over the vector type of [`simd`], and compiled three
//!   times: for AVX-512, for AVX2 with FMA, and in portable form. The CPU is detected once.
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
mod learned;
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
pub use learned::{IGNORED_TARGET, n_learned};
