//! The shape of a GPT-2: seven numbers, checked once.
//!
//! Names are nanoGPT's. How they are written in a Hugging Face directory is in [`crate::hf`]; what
//! a run adds to them (batch size, learning rate) belongs to the training crate.

use crate::error::{ModelError, Result};
use crate::params::{self, ParamKind};

/// Token ids are u32; no other size is ever near this.
const MAX_SIZE: usize = u32::MAX as usize;
/// More than any model has, few enough that a list of all parameter names is small.
const MAX_LAYERS: usize = 10_000;

/// The shape of a model.
///
/// ```
/// use tinygpt_model::ModelConfig;
/// let gpt2 = ModelConfig { vocab_size: 50257, block_size: 1024, n_layer: 12, n_head: 12,
///     n_embd: 768, dropout: 0.1, bias: true };
/// assert_eq!(gpt2.num_params(), 124_439_808);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// V: rows of the embedding table, at least as many as the tokenizer has tokens.
    pub vocab_size: usize,
    /// The longest sequence the model can see, in tokens.
    pub block_size: usize,
    /// L: number of blocks.
    pub n_layer: usize,
    /// H: attention heads; divides `n_embd`.
    pub n_head: usize,
    /// C: width of the residual stream.
    pub n_embd: usize,
    /// Probability with which an activation is dropped in training, in `[0, 1)`.
    pub dropout: f32,
    /// Whether linear layers and layer norms have a bias.
    pub bias: bool,
}

impl ModelConfig {
    /// Checks all ranges.
    ///
    /// # Errors
    /// [`ModelError::Config`] with every fault listed.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let sizes = [
            ("vocab_size", self.vocab_size, MAX_SIZE),
            ("block_size", self.block_size, MAX_SIZE),
            ("n_layer", self.n_layer, MAX_LAYERS),
            ("n_head", self.n_head, MAX_SIZE),
            ("n_embd", self.n_embd, MAX_SIZE),
        ];
        for (key, value, max) in sizes {
            if value == 0 || value > max {
                faults.push(format!("{key} is {value}, expected 1 to {max}"));
            }
        }
        if self.n_head != 0 && !self.n_embd.is_multiple_of(self.n_head) {
            faults.push(format!(
                "n_embd is {}, expected a multiple of n_head ({})",
                self.n_embd, self.n_head
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            faults.push(format!("dropout is {}, expected 0 or more and below 1", self.dropout));
        }
        if faults.is_empty() && self.checked_num_params().is_none() {
            faults.push("the model has more parameters than this machine can address".to_owned());
        }
        if faults.is_empty() { Ok(()) } else { Err(ModelError::Config { faults }) }
    }

    /// Number of parameters, the tied table counted once; `usize::MAX` where it would overflow.
    pub fn num_params(&self) -> usize {
        self.checked_num_params().unwrap_or(usize::MAX)
    }

    /// Number of parameters that decoding one token reads: all but the table of positions.
    pub fn num_decoded(&self) -> usize {
        params::count(self, |kind| kind != ParamKind::Position).unwrap_or(usize::MAX)
    }

    /// D: width of one head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    fn checked_num_params(&self) -> Option<usize> {
        let total = params::count(self, |_| true)?;
        // Four bytes each have to be addressable too.
        total.checked_mul(4).map(|_| total)
    }

    /// Floating-point operations of the matrix products that training on one token takes.
    ///
    /// Six for each weight of a matrix (multiply and add, forward and twice backward), the head once
    /// and no lookup; and for attention `6 L (T + 1) C`, what lies on or below the diagonal. What a
    /// pass computes again instead of keeping it does not count (Chowdhery et al. 2022, appendix B).
    pub fn flops_per_token(&self) -> f64 {
        let [l, c, t] = [self.n_layer, self.n_embd, self.block_size].map(|n| n as f64);
        let n_weights = params::count(self, ParamKind::is_multiplied).unwrap_or(usize::MAX);
        6.0 * n_weights as f64 + 6.0 * l * (t + 1.0) * c
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn tiny() -> ModelConfig {
        ModelConfig {
            vocab_size: 65,
            block_size: 16,
            n_layer: 2,
            n_head: 2,
            n_embd: 32,
            dropout: 0.0,
            bias: true,
        }
    }

    #[test]
    fn every_fault_is_listed_at_once() {
        let bad = ModelConfig { n_layer: 0, n_head: 5, dropout: 1.0, ..tiny() };
        let message = bad.validate().unwrap_err().to_string();
        for key in ["n_layer", "n_head", "dropout"] {
            assert!(message.contains(key), "{message}");
        }
        assert!(ModelConfig { dropout: f32::NAN, ..tiny() }.validate().is_err());
        let deep = ModelConfig { n_layer: 1_000_000, ..tiny() };
        assert!(deep.validate().unwrap_err().to_string().contains("n_layer"));
        let huge = ModelConfig { n_layer: MAX_LAYERS, n_embd: MAX_SIZE, n_head: 1, ..tiny() };
        assert!(huge.validate().unwrap_err().to_string().contains("address"));
        tiny().validate().unwrap();
    }

    #[test]
    fn counts_of_the_original_run() {
        // The 6/6/384 character model of the original: 10,845,312 with biases and V 259.
        let config = ModelConfig {
            vocab_size: 259,
            block_size: 256,
            n_layer: 6,
            n_head: 6,
            n_embd: 384,
            ..tiny()
        };
        assert_eq!(config.num_params(), 10_845_312);
        // 6 · (6 · 12 · 384² + 259 · 384) + 6 · 6 · 257 · 384.
        assert_eq!(config.flops_per_token(), 67_850_496.0);
    }
}
