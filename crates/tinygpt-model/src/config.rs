//! The shape of a GPT-2 and how it is initialized and trained: eight numbers, checked once.
//!
//! Names are nanoGPT's. How they are written in a Hugging Face directory is in [`crate::hf`]; what
//! a run adds to them (batch size, learning rate) belongs to the training crate.

use serde_json::Value;

use crate::error::{ModelError, Result};

/// Token ids are u32; no other size is ever near this.
const MAX_SIZE: usize = u32::MAX as usize;
/// More than any model has, few enough that a list of all parameter names is small.
const MAX_LAYERS: usize = 10_000;

/// The shape of a model. The default is GPT-2's smallest, without dropout.
///
/// ```
/// use tinygpt_model::ModelConfig;
/// assert_eq!(ModelConfig::gpt2().num_params(), 124_439_808);
/// let tiny = ModelConfig { vocab_size: 65, block_size: 64, n_layer: 4, n_head: 4, n_embd: 128,
///     ..ModelConfig::default() };
/// assert_eq!(tiny.num_params(), 809_856);
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
    /// Standard deviation of the initial weights, `initializer_range` in Hugging Face files.
    ///
    /// 0.02 in GPT-2; see [`ModelConfig::init_std_of_width`] for narrow models.
    pub init_std: f32,
    /// Standard deviation of the initial token embeddings: `init_std` in GPT-2. With
    /// another one, the gain of the last layer norm starts at `init_std / embedding_std`, so that the
    /// first logits stay as small.
    ///
    /// The table is tied to the head, which pulls the rows of words together that appear in the same
    /// places, such as names, and a word whose row is that of all others cannot be copied. Rows that
    /// are large compared with the steps of AdamW, 100 learning rates or more, stay apart until
    /// attention has learned to copy.
    pub embedding_std: f32,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self::gpt2()
    }
}

impl ModelConfig {
    /// GPT-2, 124M parameters (GPT-2 paper, table 2), without dropout.
    pub fn gpt2() -> Self {
        Self {
            vocab_size: 50257,
            block_size: 1024,
            n_layer: 12,
            n_head: 12,
            n_embd: 768,
            dropout: 0.0,
            bias: true,
            init_std: 0.02,
            embedding_std: 0.02,
        }
    }

    /// GPT-2 medium, 355M parameters.
    pub fn gpt2_medium() -> Self {
        Self { n_layer: 24, n_head: 16, n_embd: 1024, ..Self::gpt2() }
    }

    /// GPT-2 large, 774M parameters.
    pub fn gpt2_large() -> Self {
        Self { n_layer: 36, n_head: 20, n_embd: 1280, ..Self::gpt2() }
    }

    /// GPT-2 XL, 1,558M parameters.
    pub fn gpt2_xl() -> Self {
        Self { n_layer: 48, n_head: 25, n_embd: 1600, ..Self::gpt2() }
    }

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
        let stds = [("init_std", self.init_std), ("embedding_std", self.embedding_std)];
        for (name, std) in stds.iter().filter(|(_, std)| !(*std > 0.0 && std.is_finite())) {
            faults.push(format!("{name} is {std}, expected more than 0 and finite"));
        }
        if faults.is_empty() && self.checked_num_params().is_none() {
            faults.push("the model has more parameters than this machine can address".to_owned());
        }
        if faults.is_empty() { Ok(()) } else { Err(ModelError::Config { faults }) }
    }

    /// What the weights of a model determine, by the names of settings: not dropout or how they
    /// were initialized.
    pub fn shape(&self) -> [(&'static str, Value); 6] {
        [
            ("n_layer", self.n_layer.into()),
            ("n_head", self.n_head.into()),
            ("n_embd", self.n_embd.into()),
            ("block_size", self.block_size.into()),
            ("vocab_size", self.vocab_size.into()),
            ("bias", self.bias.into()),
        ]
    }

    /// The standard deviation of the initial weights of a model of width C: GPT-2's 0.02 from its
    /// width of 768 on, more below, 0.02 √(768 / C).
    ///
    /// A product with a matrix of C rows multiplies the variance of its input by C times that of the
    /// weights. With 0.02 a narrow model starts out with nearly uniform attention, and learns to
    /// look back at the words before only after many steps.
    pub fn init_std_of_width(n_embd: usize) -> f32 {
        let gpt2 = Self::gpt2();
        gpt2.init_std * (gpt2.n_embd as f32 / n_embd as f32).sqrt().max(1.0)
    }

    /// D: width of one head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
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
            ..ModelConfig::default()
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
        for init_std in [0.0, -0.02, f32::INFINITY, f32::NAN] {
            let message = ModelConfig { init_std, ..tiny() }.validate().unwrap_err().to_string();
            assert!(message.contains("init_std"), "{message}");
        }
        let deep = ModelConfig { n_layer: 1_000_000, ..tiny() };
        assert!(deep.validate().unwrap_err().to_string().contains("n_layer"));
        let huge = ModelConfig { n_layer: MAX_LAYERS, n_embd: MAX_SIZE, n_head: 1, ..tiny() };
        assert!(huge.validate().unwrap_err().to_string().contains("address"));
        tiny().validate().unwrap();
    }

    #[test]
    fn presets_have_the_published_sizes() {
        let sizes = [
            (ModelConfig::gpt2(), 124_439_808),
            (ModelConfig::gpt2_medium(), 354_823_168),
            (ModelConfig::gpt2_large(), 774_030_080),
            (ModelConfig::gpt2_xl(), 1_557_611_200),
        ];
        for (config, n_params) in sizes {
            config.validate().unwrap();
            assert_eq!(config.num_params(), n_params);
        }
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
