//! From logits to a token: [`SamplingParams`] say how, [`Sampler`] chooses.

mod adjust;
mod candidates;
mod logprobs;
mod params;
mod sampler;

pub use logprobs::Logprobs;
pub(crate) use logprobs::logprobs;
pub use params::{ParamRange, SamplingParams};
pub use sampler::Sampler;
