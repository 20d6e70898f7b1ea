//! The layers of GPT-2, one page each.
//!
//! Every page holds the layer's reference, `composed`: a function of differentiable candle ops
//! that runs on any device, trains on CUDA and Metal, and is the oracle of the CPU's hand-written
//! `forward` and `backward`. How layers make a step is in `composed.rs`.

pub(crate) mod attention;
pub(crate) mod block;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod head;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod mlp;
