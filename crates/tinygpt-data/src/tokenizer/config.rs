//! The chat template of a tokenizer's directory: `chat_template.jinja`, or `chat_template` in
//! `tokenizer_config.json`, as `transformers` writes them.

use std::path::Path;

use serde_json::Value;

use super::{CONFIG_FILE_NAME, Tokenizer};
use crate::chat::ChatTemplate;
use crate::error::DataError;
use crate::regular::{FileError, read_regular_text};

/// The file that newer versions of `transformers` write a template to.
pub(super) const TEMPLATE_FILE_NAME: &str = "chat_template.jinja";

/// The largest of these files that is read, in bytes. Llama 3's has 50 KiB.
const MAX_BYTES: u64 = 16 << 20;

impl Tokenizer {
    /// The same tokenizer with the chat template of the directory of `path`, if it has one.
    pub(super) fn with_template_next_to(self, path: &Path) -> Result<Self, DataError> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let config = config_of(dir)?;
        let source = match read_if_there(&dir.join(TEMPLATE_FILE_NAME))? {
            Some(source) => Some(source),
            None => default_template(&config["chat_template"]),
        };
        let token = |name: &str| token(&config[name]);
        Ok(match source {
            Some(source) => {
                let (bos, eos) = (token("bos_token"), token("eos_token"));
                self.with_chat_template(ChatTemplate::new(source, bos, eos))
            }
            None => self,
        })
    }
}

fn config_of(dir: &Path) -> Result<Value, DataError> {
    let path = dir.join(CONFIG_FILE_NAME);
    let Some(text) = read_if_there(&path)? else { return Ok(Value::Null) };
    serde_json::from_str(&text).map_err(|error| {
        DataError::corrupt(&path, format!("not JSON ({error})"), "restore the file, or remove it")
    })
}

fn read_if_there(path: &Path) -> Result<Option<String>, DataError> {
    match read_regular_text(path, MAX_BYTES) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(FileError::at(path, "restore the file, or remove it")(error)),
    }
}

/// The template, or of several with names the one called `default`.
fn default_template(value: &Value) -> Option<String> {
    let named = value.as_array().into_iter().flatten();
    let default = named.filter(|item| item["name"] == "default").map(|item| &item["template"]);
    let template = default.into_iter().next().unwrap_or(value);
    template.as_str().map(str::to_owned)
}

/// A special token of the configuration: its name, or an object with it.
fn token(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}
