//! CUDA kernels and matrix products for training a GPT-2.
#![doc = include_str!("../README.md")]

mod blas;
mod cache;
mod compiler;
mod driver;
mod error;
mod event;
mod gpu;
mod graph;
pub mod kernels;
mod load;
mod matmul;
mod memory;
mod module;
mod search;
mod staging;
mod sys;

pub use compiler::{Compiled, Compiler, options};
pub use error::CudaError;
pub use event::Event;
pub use gpu::{Card, Gpu, Setup};
pub use graph::Graph;
pub use matmul::{Compute, Dtype, Epilogue, Matmul, MatmulSpec, Operand};
pub use memory::{Buffer, Plain, View};
pub use module::{Defines, Kernel, Module, Source};
pub use search::{LibraryName, Search};
