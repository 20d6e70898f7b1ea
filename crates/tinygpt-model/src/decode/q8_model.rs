//! [`QuantizedGpt`]: a model with 8-bit matrices, for decoding only.
//!
//! It is rounded once, while it is read ([`crate::hf::read_quantized`]), so its weights are never in
//! memory in another form. All its decoders share the matrices. Vectors and the position table stay
//! f32: they are few, and no product reads them.

use std::sync::Arc;

use crate::config::ModelConfig;
use crate::decode::decoder::{Decoder, useful_threads};
use crate::decode::model::Model;
use crate::decode::q8_params::{Q8Param, QuantizedParts};
use crate::error::Result;
use crate::parts::ModelParts;

/// A GPT-2 of 8-bit weights, 32 to a scale (GGUF's `Q8_0`), on the CPU.
///
/// It takes little more than a quarter of a [`crate::Gpt`]'s memory, and decoding reads as much less.
#[derive(Debug)]
pub struct QuantizedGpt {
    config: ModelConfig,
    parts: Arc<QuantizedParts>,
    n_threads: usize,
    /// Decode with exactly this many threads; `None` for as many of `n_threads` as help.
    decode_threads: Option<usize>,
}

impl QuantizedGpt {
    /// Takes parameters in canonical order.
    pub(crate) fn from_ordered(config: ModelConfig, values: Vec<Q8Param>) -> Result<Self> {
        let parts = Arc::new(ModelParts::from_ordered(&config, values)?);
        Ok(Self { config, parts, n_threads: 1, decode_threads: None })
    }

    /// How many threads its decoders may use; at least one. They use as many of them as help.
    pub fn set_threads(&mut self, n_threads: usize) {
        self.n_threads = n_threads.max(1);
    }

    /// Decodes with exactly this many threads, also if fewer would be faster.
    pub fn set_decode_threads(&mut self, n_threads: usize) {
        self.decode_threads = Some(n_threads.max(1));
    }

    /// Its rounded weights as f32, in canonical order, for [`crate::Gpt::from_quantized`].
    pub(crate) fn values(&self) -> Vec<Vec<f32>> {
        self.parts.iter().map(Q8Param::to_f32).collect()
    }

    /// How many threads its decoders may use.
    pub(crate) fn threads(&self) -> usize {
        self.n_threads
    }
}

impl Model for QuantizedGpt {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn decoder(&self, n_slots: usize) -> Result<Decoder<'_>> {
        Decoder::quantized(&self.config, &self.parts, self.decode_threads(), n_slots)
    }

    fn decode_threads(&self) -> usize {
        // A block is a scale of two bytes and 32 weights of one.
        let useful = || useful_threads(self.config.num_decoded() / 32 * 34, self.n_threads);
        self.decode_threads.unwrap_or_else(useful)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::parts::param_specs;

    #[test]
    fn decoders_share_the_weights() {
        let config = ModelConfig {
            vocab_size: 11,
            block_size: 8,
            n_layer: 1,
            n_head: 2,
            n_embd: 8,
            bias: false,
            ..ModelConfig::default()
        };
        let zeros = |spec| {
            Q8Param::read(&spec, |values| {
                values.fill(0.0);
                Ok(())
            })
        };
        let values = param_specs(&config).into_iter().map(zeros).collect::<Result<_>>().unwrap();
        let mut model = QuantizedGpt::from_ordered(config, values).unwrap();
        model.set_decode_threads(2);
        let decoders = [model.decoder(1).unwrap(), model.decoder(2).unwrap()];
        assert!(Arc::strong_count(&model.parts) >= 3, "each decoder has a handle for its helper");
        drop(decoders);
        assert_eq!(Arc::strong_count(&model.parts), 1);
    }
}
