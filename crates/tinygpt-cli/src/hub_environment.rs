//! Reads the environment variables of the Hugging Face hub.
//!
//! The names and meanings are those of the `huggingface_hub` Python library.

use std::env;
use std::path::PathBuf;

use tinygpt_data::hub::{HubOptions, Token};

use crate::usage::UsageError;

/// Reads `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_CACHE` or `HF_HOME`, and `HF_HUB_OFFLINE`.
///
/// # Errors
/// [`UsageError`] if neither a variable nor a home directory gives the place of the cache.
pub fn read() -> Result<HubOptions, UsageError> {
    let mut options = HubOptions::new(cache_dir()?);
    if let Some(endpoint) = text("HF_ENDPOINT") {
        options.endpoint = endpoint.trim_end_matches('/').to_owned();
    }
    options.token = text("HF_TOKEN").and_then(|token| Token::new(&token));
    options.offline = text("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value));
    Ok(options)
}

/// The value of a variable that is set and not empty.
fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn cache_dir() -> Result<PathBuf, UsageError> {
    let from_home = || env::home_dir().map(|home| home.join(".cache").join("huggingface"));
    path("HF_HUB_CACHE")
        .or_else(|| Some(path("HF_HOME").or_else(from_home)?.join("hub")))
        .ok_or_else(|| {
            UsageError::new("no home directory to keep downloads in")
                .hint("set HF_HOME to a directory with room for them")
        })
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}
