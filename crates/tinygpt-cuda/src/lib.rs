//! CUDA kernels and matrix products for training a GPT-2.
#![doc = include_str!("../README.md")]

mod blas;
mod cache;
mod ceilings;
mod compiler;
mod context;
mod copies;
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
mod profile;
mod recorder;
mod search;
mod source;
mod spec;
mod staging;
mod sys;

pub use compiler::{Compiled, Compiler, options};
pub use error::{CudaError, show_bytes};
pub use event::GpuEvent;
pub use gpu::{Gpu, GpuInfo, Setup};
pub use graph::Graph;
pub use matmul::Matmul;
pub use memory::{Buffer, Plain, View};
pub use module::{Kernel, Module};
pub use recorder::{KernelTime, Work};
pub use search::{LibraryName, Search};
pub use source::{Defines, KernelSource};
pub use spec::{Compute, Dtype, Epilogue, MatmulSpec, Operand};
