//! A tokenizer as files that `transformers` loads, alone or next to a model, with its chat template.
//!
//! The directory is one that nobody reads yet; the caller that publishes it syncs it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{CONFIG_FILE_NAME, END_OF_TEXT, FILE_NAME, Tokenizer};
use crate::error::DataError;

impl Tokenizer {
    /// Writes `tokenizer.json` and `tokenizer_config.json` into an existing directory.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<(), DataError> {
        self.save_config(dir.as_ref(), self.config(NO_LIMIT))
    }

    /// The same next to a model that sees `context` tokens, so that `transformers` can cut a text to what
    /// the model takes, and fill several to one length. Filled on the left, they can be continued.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn save_with_model(&self, dir: impl AsRef<Path>, context: usize) -> Result<(), DataError> {
        let mut config = self.config(context);
        config["pad_token"] = json!(END_OF_TEXT);
        config["padding_side"] = json!("left");
        // Older versions of `transformers` add types of tokens, whose embeddings GPT-2 would add.
        config["model_input_names"] = json!(["input_ids", "attention_mask"]);
        self.save_config(dir.as_ref(), config)
    }

    fn save_config(&self, dir: &Path, config: Value) -> Result<(), DataError> {
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(DataError::io("write", &path))
        };
        write(FILE_NAME, &self.json)?;
        write(CONFIG_FILE_NAME, &format!("{config:#}\n"))
    }

    /// How `transformers` loads this tokenizer for texts of at most `max_length` tokens.
    fn config(&self, max_length: usize) -> Value {
        // With a GPT-2 class it would replace a character-level pipeline by its own.
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "clean_up_tokenization_spaces": false,
            "model_max_length": max_length,
        });
        if let Some(template) = self.chat_template() {
            config["bos_token"] = json!(template.bos_token());
            config["eos_token"] = json!(template.eos_token());
            config["chat_template"] = json!(template.source());
        }
        config
    }
}

/// `model_max_length` of a tokenizer without a model.
const NO_LIMIT: usize = 1_000_000_000;
