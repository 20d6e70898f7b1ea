//! CUDA kernels and matrix products for training a GPT-2.
#![doc = include_str!("../README.md")]

mod error;
mod event;
mod gpu;
mod graph;
pub mod kernels;
mod matmul;
mod memory;
mod module;

pub use error::CudaError;
pub use event::Event;
pub use gpu::{Card, Gpu};
pub use graph::Graph;
pub use matmul::{Compute, Dtype, Epilogue, Matmul, MatmulSpec, Operand};
pub use memory::{Buffer, Plain, View};
pub use module::{Kernel, Module, Source};
