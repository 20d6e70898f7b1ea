//! Hugging Face GPT-2 directories: `config.json`, `generation_config.json`, `model.safetensors`.
//!
//! What is written loads in `transformers` as `GPT2LMHeadModel`; what `transformers` saved, with
//! or without the prefix `transformer.`, in f32, f16 or bf16, in one file or several, is read. The
//! tokenizer's files next to them belong to the data crate. No pickle is ever opened.

mod config_json;
mod files;
mod read;
mod write;

pub use config_json::{SpecialTokens, add_end_of_turn, read_config, read_special_tokens};
pub use read::{read_dir, read_quantized, shard_names};
pub use write::{write_dir, write_dir_without_padding};

/// The file with the model's shape.
pub const CONFIG: &str = "config.json";
/// The file with the tokens that begin and end a text.
pub const GENERATION_CONFIG: &str = "generation_config.json";
/// The file with the weights.
pub const WEIGHTS: &str = "model.safetensors";
/// The file that names several with the weights.
pub const INDEX: &str = "model.safetensors.index.json";
