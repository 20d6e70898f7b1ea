//! Text from a model: prompts go in, samples come out token by token.

mod autograd_decoder;
mod barrier;
mod cpu_decoder;
pub(crate) mod decoder;
pub(crate) mod engine;
pub(crate) mod generate;
pub(crate) mod model;
pub(crate) mod q8_model;
pub(crate) mod q8_params;
pub(crate) mod score;
mod shard;
mod weights;
