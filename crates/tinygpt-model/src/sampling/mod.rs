//! From logits to a token.

mod adjust;
mod candidates;
mod logprobs;
mod sampler;

pub use logprobs::Logprobs;
pub(crate) use logprobs::logprobs;
pub use sampler::{Sampler, SamplingParams};
