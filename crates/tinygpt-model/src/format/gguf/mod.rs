//! GGUF, the file of llama.cpp: a GPT-2 with its tokenizer in one file.
//!
//! This file has the tensors and the keys `gpt2.*`; `write.rs` has the layout of the file. The caller
//! provides the tokenizer's keys. GGUF files are written, never read.
//!
//! GGUF stores matrices as `[out, in]`, so GPT-2's are transposed. The head is the token table, which
//! is stored once. Padding rows of the table are cut off, since llama.cpp would not mask them when it
//! samples. Vectors and positions stay f32 for every type, as in llama.cpp's own converter.

mod write;

use std::path::Path;
use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::gpt::Gpt;
use crate::layers::layer_norm;
use crate::parts::{ParamKind, ParamSpec, param_specs};
use write::{Entry, Writer};

/// How matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightType {
    /// As they are.
    F32,
    /// Rounded to half precision.
    F16,
    /// 8-bit integers, one scale per 32 weights.
    Q8_0,
}

impl WeightType {
    /// All of them, the most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8_0];

    /// The name in settings: llama.cpp's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }
}

impl FromStr for WeightType {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|weights| weights.as_str() == name).ok_or_else(|| {
            ModelError::request(format!("`{name}` is not a type of weights: f32, f16 or q8_0"))
        })
    }
}

/// A value of the file's metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count or an id.
    U32(u32),
    /// A number.
    F32(f32),
    /// Yes or no.
    Bool(bool),
    /// A text.
    String(String),
    /// Texts in order.
    Strings(Vec<String>),
    /// Numbers in order.
    I32s(Vec<i32>),
}

/// Keys of the metadata with their values.
pub type Metadata = Vec<(String, Value)>;

/// How the matrices of a file were stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Matrices in the type that was asked for, or in f16 instead.
    pub n_matrices: usize,
    /// Those in f16 although 8 bits were asked for: their rows do not divide into blocks of 32.
    pub n_f16_instead: usize,
}

/// Writes `gpt` with the first `n_tokens` rows of its token table to a new file at `path`.
///
/// `metadata` is what the model does not know: its name and its tokenizer. The caller syncs the file
/// and renames it.
///
/// # Errors
/// [`ModelError::Request`] if the table has fewer rows or a weight is too large for `weights`,
/// [`ModelError::Io`] if the file cannot be written, [`ModelError::Tensor`] if the device refuses.
pub fn write_file(
    gpt: &Gpt,
    n_tokens: usize,
    weights: WeightType,
    metadata: Metadata,
    path: &Path,
) -> Result<Stored> {
    let config = gpt.config();
    if n_tokens > config.vocab_size {
        let rows = config.vocab_size;
        let message = format!("{n_tokens} tokens, but the model has {rows} rows");
        return Err(ModelError::request(message));
    }
    let entries = entries(gpt, n_tokens, weights);
    let mut keys = own_metadata(gpt, mostly(&entries, weights))?;
    keys.extend(metadata);
    let mut writer = Writer::create(path, &keys, &entries)?;
    for entry in &entries {
        writer.tensor(entry, &entry.values(gpt)?)?;
    }
    writer.finish()?;
    let matrices = entries.iter().filter(|entry| entry.spec.kind.is_multiplied());
    let n_f16_instead = matrices.clone().filter(|entry| entry.weights() != weights).count();
    Ok(Stored { n_matrices: matrices.count(), n_f16_instead })
}

/// The type of most weights in matrices, which the file declares.
fn mostly(entries: &[Entry], asked: WeightType) -> WeightType {
    let n_weights = |is_asked: bool| -> usize {
        let matrices = entries.iter().filter(|entry| entry.spec.kind.is_multiplied());
        let such = matrices.filter(|entry| (entry.weights() == asked) == is_asked);
        such.map(|entry| entry.spec.len()).sum()
    };
    if n_weights(true) >= n_weights(false) { asked } else { WeightType::F16 }
}

/// The metadata of the model itself.
fn own_metadata(gpt: &Gpt, weights: WeightType) -> Result<Metadata> {
    let config = gpt.config();
    let text = |value: &str| Value::String(value.to_owned());
    let count = |key: &str, n: usize| -> Result<(String, Value)> {
        let n = u32::try_from(n)
            .map_err(|_| ModelError::request(format!("{key} is {n}, too large for GGUF")))?;
        Ok((key.to_owned(), Value::U32(n)))
    };
    // llama.cpp's numbers for "all of this type" and "mostly of this type".
    let file_type = match weights {
        WeightType::F32 => 0,
        WeightType::F16 => 1,
        WeightType::Q8_0 => 7,
    };
    Ok(vec![
        ("general.architecture".to_owned(), text("gpt2")),
        ("general.type".to_owned(), text("model")),
        count("general.file_type", file_type)?,
        count("general.quantization_version", 2)?,
        count("gpt2.context_length", config.block_size)?,
        count("gpt2.embedding_length", config.n_embd)?,
        count("gpt2.feed_forward_length", 4 * config.n_embd)?,
        count("gpt2.block_count", config.n_layer)?,
        count("gpt2.attention.head_count", config.n_head)?,
        ("gpt2.attention.layer_norm_epsilon".to_owned(), Value::F32(layer_norm::EPS)),
    ])
}

/// GPT-2's names of modules and GGUF's; those of a block come after its number.
const NAMES: [(&str, &str); 9] = [
    ("wte", "token_embd"),
    ("wpe", "position_embd"),
    ("ln_1", "attn_norm"),
    ("attn.c_attn", "attn_qkv"),
    ("attn.c_proj", "attn_output"),
    ("ln_2", "ffn_norm"),
    ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"),
    ("ln_f", "output_norm"),
];

/// GGUF's name of a parameter: `h.3.mlp.c_fc.bias` is `blk.3.ffn_up.bias`.
fn gguf_name(name: &str) -> String {
    let (block, name) = match name.strip_prefix("h.").and_then(|rest| rest.split_once('.')) {
        Some((layer, name)) => (format!("blk.{layer}."), name),
        None => (String::new(), name),
    };
    let (module, end) = name.rsplit_once('.').unwrap_or((name, ""));
    let gguf = NAMES.iter().find(|(ours, _)| *ours == module).map_or(module, |(_, gguf)| gguf);
    format!("{block}{gguf}.{end}")
}

/// All tensors in the order of the file. Biases are there even if the model has none: llama.cpp
/// asks for them.
fn entries(gpt: &Gpt, n_tokens: usize, weights: WeightType) -> Vec<Entry> {
    let specs = param_specs(&ModelConfig { bias: true, ..gpt.config().clone() });
    let entry = |mut spec: ParamSpec| {
        match spec.kind {
            ParamKind::Table => spec.shape[0] = n_tokens,
            ParamKind::Matrix => spec.shape.reverse(),
            _ => {}
        }
        Entry::new(gguf_name(&spec.name), spec, weights)
    };
    specs.into_iter().map(entry).collect()
}

impl Entry {
    /// The values, row by row as the file has them.
    fn values(&self, gpt: &Gpt) -> Result<Vec<f32>> {
        let Some(tensor) = gpt.params().get(&self.spec.name) else {
            return Ok(vec![0.0; self.spec.len()]);
        };
        let tensor = match self.spec.kind {
            ParamKind::Table => tensor.narrow(0, 0, self.spec.shape[0])?,
            ParamKind::Matrix => tensor.t()?,
            _ => tensor.clone(),
        };
        Ok(flat(&tensor)?)
    }
}

fn flat(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.detach().flatten_all()?.to_vec1()
}
