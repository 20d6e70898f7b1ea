//! From logits to a token: [`SamplingParams`] say how, [`Sampler`] chooses.

mod candidates;
mod logprobs;
mod params;
mod processors;
mod sampler;

pub use logprobs::Logprobs;
pub(crate) use logprobs::logprobs;
pub use params::{ParamRange, SamplingParams};
pub use sampler::Sampler;
