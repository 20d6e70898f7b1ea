//! The CUDA backend: a training step over the kernels of `tinygpt-cuda`, all of it on the GPU.
//!
//! The page of each kernel is in that crate. Here is what makes a step of them: [`arena`] holds parameters,
//! gradients and moments, [`workspace`] the activations, [`products`] the matrix products, [`step`] the order
//! of launches, the same as in `cpu/step.rs`, and [`model`] is what [`crate::Gpt`] calls.

pub(crate) mod arena;
mod attention;
mod bias_sums;
pub(crate) mod decoder;
mod evaluation;
mod inputs;
pub(crate) mod model;
mod products;
mod recompute;
mod room;
mod step;
pub(crate) mod workspace;
