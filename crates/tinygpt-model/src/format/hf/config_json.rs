//! `config.json` and `generation_config.json` in both directions.
//!
//! Keys that `transformers` knows and that do not change the numbers are skipped; a key that
//! describes another model than this GPT-2 is refused by name.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CONFIG, GENERATION_CONFIG, files};
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::layers::layer_norm;

/// The largest of these files, in bytes. GPT-2's has less than 1 KiB.
const MAX_BYTES: u64 = 1 << 20;

/// Ids that begin and end a document. GPT-2's own, 50256, would be out of range for most of our
/// vocabularies, so they are always written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The token that a text without a prompt starts from.
    pub bos: u32,
    /// Ends a document; `None` for a model that never saw one end.
    pub eos: Option<u32>,
}

/// What is written; the order of fields is the order in the file.
#[derive(Serialize)]
struct Written {
    architectures: [&'static str; 1],
    model_type: &'static str,
    vocab_size: usize,
    n_positions: usize,
    n_ctx: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: &'static str,
    layer_norm_epsilon: f32,
    initializer_range: f32,
    scale_attn_weights: bool,
    resid_pdrop: f32,
    embd_pdrop: f32,
    attn_pdrop: f32,
    tie_word_embeddings: bool,
    bos_token_id: u32,
    eos_token_id: Option<u32>,
    torch_dtype: &'static str,
    /// Ours: `transformers` always has biases, so a model without them is saved with zeros.
    bias: bool,
}

#[derive(Serialize)]
struct Generation {
    bos_token_id: u32,
    eos_token_id: Option<u32>,
    pad_token_id: Option<u32>,
}

/// What is read: only what the numbers depend on. `None` stands for the default in `transformers`.
#[derive(Deserialize)]
struct Read {
    model_type: Option<String>,
    vocab_size: Option<usize>,
    n_positions: Option<usize>,
    n_embd: Option<usize>,
    n_layer: Option<usize>,
    n_head: Option<usize>,
    n_inner: Option<usize>,
    activation_function: Option<String>,
    layer_norm_epsilon: Option<f64>,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    add_cross_attention: Option<bool>,
    tie_word_embeddings: Option<bool>,
    resid_pdrop: Option<f32>,
    initializer_range: Option<f32>,
    bias: Option<bool>,
}

/// Reads the shape of the model in `dir` from its `config.json`.
///
/// GPT-2 has three dropouts, we have one: `resid_pdrop` is taken.
///
/// # Errors
/// [`ModelError::Io`] if the file cannot be read, [`ModelError::File`] if it is not JSON, is not
/// GPT-2 as we compute it, or holds a shape that cannot be.
pub fn read_config(dir: &Path) -> Result<ModelConfig> {
    let path = dir.join(CONFIG);
    let read: Read = read_json(&path)?;
    if let Some(fault) = read.other_model() {
        return Err(ModelError::file(&path, fault));
    }
    let config = ModelConfig {
        vocab_size: read.vocab_size.unwrap_or(50257),
        block_size: read.n_positions.unwrap_or(1024),
        n_layer: read.n_layer.unwrap_or(12),
        n_head: read.n_head.unwrap_or(12),
        n_embd: read.n_embd.unwrap_or(768),
        dropout: read.resid_pdrop.unwrap_or(0.1),
        bias: read.bias.unwrap_or(true),
        init_std: read.init_std(),
        embedding_std: read.init_std(),
    };
    config.validate().map_err(|e| ModelError::file(&path, e.to_string()))?;
    Ok(config)
}

/// Reads from `config.json` what begins and ends a document. `None` where it names no begin.
///
/// # Errors
/// [`ModelError::Io`] if the file cannot be read, [`ModelError::File`] if it is not JSON.
pub fn read_special_tokens(dir: &Path) -> Result<Option<SpecialTokens>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ends {
        One(u32),
        Several(Vec<u32>),
    }
    #[derive(Deserialize)]
    struct Ids {
        bos_token_id: Option<u32>,
        eos_token_id: Option<Ends>,
    }
    let Ids { bos_token_id, eos_token_id } = read_json(&dir.join(CONFIG))?;
    // Of several, which only models of conversations have, the last ends a document.
    let eos = eos_token_id.and_then(|ends| match ends {
        Ends::One(eos) => Some(eos),
        Ends::Several(all) => all.last().copied(),
    });
    Ok(bos_token_id.map(|bos| SpecialTokens { bos, eos }))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = files::read_text(path, MAX_BYTES)?;
    serde_json::from_str(&text)
        .map_err(|e| ModelError::file(path, format!("is not a GPT-2 configuration: {e}")))
}

impl Read {
    /// Whatever stands there, the weights of this model exist already: never a reason to refuse it.
    fn init_std(&self) -> f32 {
        let default = ModelConfig::gpt2().init_std;
        self.initializer_range.filter(|it| *it > 0.0 && it.is_finite()).unwrap_or(default)
    }

    /// The first key that asks for another model than ours.
    fn other_model(&self) -> Option<String> {
        let activation = self.activation_function.as_deref().unwrap_or("gelu_new");
        let epsilon = self.layer_norm_epsilon.unwrap_or(1e-5);
        let inner = self.n_embd.unwrap_or(768).checked_mul(4);
        let differs = |key: &str, got: String, expected: &str| {
            Some(format!("{key} is {got}, expected {expected}: this is not a plain GPT-2"))
        };
        let model = self.model_type.as_deref().map_or("null".to_owned(), |it| format!("{it:?}"));
        let inner_or_none = self.n_inner.filter(|found| Some(*found) != inner);
        if self.model_type.as_deref() != Some("gpt2") {
            differs("model_type", model, "\"gpt2\"")
        } else if !["gelu_new", "gelu_pytorch_tanh"].contains(&activation) {
            differs("activation_function", format!("{activation:?}"), "\"gelu_new\"")
        } else if (epsilon - f64::from(layer_norm::EPS)).abs() > 1e-9 {
            differs("layer_norm_epsilon", epsilon.to_string(), "1e-5")
        } else if let Some(found) = inner_or_none {
            differs("n_inner", found.to_string(), "null, for 4 n_embd")
        } else if self.scale_attn_weights == Some(false) {
            differs("scale_attn_weights", "false".to_owned(), "true")
        } else if self.scale_attn_by_inverse_layer_idx == Some(true) {
            differs("scale_attn_by_inverse_layer_idx", "true".to_owned(), "false")
        } else if self.add_cross_attention == Some(true) {
            differs("add_cross_attention", "true".to_owned(), "false")
        } else if self.tie_word_embeddings == Some(false) {
            differs("tie_word_embeddings", "false".to_owned(), "true")
        } else {
            None
        }
    }
}

/// Writes both JSON files into `dir`.
pub(super) fn write(config: &ModelConfig, dir: &Path, special: &SpecialTokens) -> Result<()> {
    let SpecialTokens { bos, eos } = *special;
    let written = Written {
        architectures: ["GPT2LMHeadModel"],
        model_type: "gpt2",
        vocab_size: config.vocab_size,
        n_positions: config.block_size,
        n_ctx: config.block_size,
        n_embd: config.n_embd,
        n_layer: config.n_layer,
        n_head: config.n_head,
        n_inner: None,
        activation_function: "gelu_new",
        layer_norm_epsilon: layer_norm::EPS,
        initializer_range: config.init_std,
        scale_attn_weights: true,
        resid_pdrop: config.dropout,
        embd_pdrop: config.dropout,
        attn_pdrop: config.dropout,
        tie_word_embeddings: true,
        bos_token_id: bos,
        eos_token_id: eos,
        torch_dtype: "float32",
        bias: config.bias,
    };
    write_json(&dir.join(CONFIG), &written)?;
    let generation = Generation { bos_token_id: bos, eos_token_id: eos, pad_token_id: eos };
    write_json(&dir.join(GENERATION_CONFIG), &generation)
}

/// Makes `end_of_turn` end a text, too, in the `generation_config.json` of `dir`: the answers of a model that was
/// trained on conversations end with it, and its documents with `eos`.
///
/// # Errors
/// [`ModelError::Io`] if the file cannot be read or written, [`ModelError::File`] if it is not JSON.
pub fn add_end_of_turn(dir: &Path, end_of_turn: u32, eos: Option<u32>) -> Result<()> {
    let path = dir.join(GENERATION_CONFIG);
    let mut config: Map<String, Value> = read_json(&path)?;
    let ends: Vec<u32> =
        [end_of_turn].into_iter().chain(eos.filter(|it| *it != end_of_turn)).collect();
    config.insert("eos_token_id".to_owned(), ends.into());
    write_json(&path, &config)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|e| ModelError::io("write", path, e.into()))?;
    text.push('\n');
    fs::write(path, text).map_err(|e| ModelError::io("write", path, e))
}
