//! Reads our own JSON files strictly: an unknown key is an error that suggests the nearest
//! known key. Used for recipes and `meta.json`; the library reads a tokenizer's JSON.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::error::DataError;
use crate::quote::{escaped_excerpt, escaped_message};

/// Parses `text`, which came from `path`.
///
/// # Errors
/// [`DataError::Json`] with line, column and, for an unknown key, a suggestion.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, DataError> {
    from_str(text).map_err(|what| DataError::Json { path: path.to_path_buf(), what })
}

/// Parses `text`; the error says what is wrong and, if that helps, what was expected.
pub(crate) fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text)
        .map_err(|error| match error.classify() {
            Category::Syntax | Category::Eof => format!(
                "{error}; expected one JSON object, without comments and without a comma after the \
             last key"
            ),
            Category::Data | Category::Io => with_suggestion(&error.to_string()),
        })
        .map_err(|message: String| escaped_message(&message))
}

/// Adds "did you mean" to serde's message about an unknown key or value.
///
/// The message reads "unknown field `x`, expected one of `a`, `b` at line 1 column 2": the first
/// quoted word is what was found, the others are what could have been.
fn with_suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    match quoted.next() {
        // The expected values follow the unknown word: clipping the whole message would lose them.
        Some(found) if unknown && escaped_excerpt(found) != found => {
            message.replacen(found, &escaped_excerpt(found), 1)
        }
        Some(found) if unknown => match nearest(found, quoted) {
            Some(known) => format!("{message}; did you mean `{known}`?"),
            None => message.to_owned(),
        },
        _ => message.to_owned(),
    }
}

/// The candidate most similar to `word`, if any is similar enough to suggest it.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.8;
    candidates
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_get_the_nearest_known_one() {
        let message = "unknown field `sorce`, expected one of `source`, `description` at line 1";
        assert!(with_suggestion(message).ends_with("did you mean `source`?"));
        assert_eq!(with_suggestion("trailing comma at line 3"), "trailing comma at line 3");
        assert_eq!(nearest("zebra", ["source", "seed"].into_iter()), None);
    }
}
