//! The layers of GPT-2, one page each.
//!
//! Every page has the layer's formula and two implementations. `autograd` is a function of
//! differentiable candle operations and modules: it runs on any device, trains on CUDA and Metal,
//! and is the reference for the CPU. `forward` and `backward` are the CPU's, written by hand over
//! `tinygpt-kernels`; decoding calls the same pages (`mlp::activate`, `layer_norm::normalize`). An
//! activation or a norm is changed in its page and nowhere else. How layers make a step is in
//! `autograd.rs` and `cpu/step.rs`.

pub(crate) mod attention;
pub(crate) mod block;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod head;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod mlp;
pub(crate) mod pass;
