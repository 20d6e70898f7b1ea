//! Hints for errors of `tinygpt-data`.

use tinygpt_data::DataError;
use tinygpt_data::hub::HubError;

use crate::options;

/// Keys of the hub's options that are set by environment variables.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("endpoint", "HF_ENDPOINT"),
    ("token", "HF_TOKEN"),
    ("offline", "HF_HUB_OFFLINE"),
    ("proxy", "HTTPS_PROXY"),
];

/// What to do about an error of the data library.
pub fn of_data(error: &DataError, binary: &str) -> Option<String> {
    match error {
        DataError::Hub(error) => of_hub(error, binary),
        DataError::NotPrepared { dataset, encoding, .. } => {
            let encoding = encoding.as_deref().map(|it| format!(" --encoding-type {it}"));
            let encoding = encoding.unwrap_or_default();
            Some(format!("run `prepare --dataset-name {}{encoding}`", dataset.escape_debug()))
        }
        DataError::DamagedPreparation { dataset, encoding, .. } => Some(format!(
            "run `prepare --dataset-name {dataset} --encoding-type {encoding} --force` to make it \
             again"
        )),
        error => error.hint().as_deref().map(in_flags),
    }
}

/// What to do if the hub cannot be reached, must not be asked, or answered with an error.
pub fn of_hub(error: &HubError, binary: &str) -> Option<String> {
    let instead = match (error.is_about_model(), binary) {
        (true, "prepare") => "name a tokenizer on this machine with --tokenizer PATH",
        (true, "train") => "name a model on this machine with --init-from DIR",
        (true, _) => "name a model on this machine with --checkpoint DIR",
        (false, _) => {
            "prepare your own text with --source PATH, or the built-in stories with \
             --dataset-name tiny_tales"
        }
    };
    match error {
        HubError::Unreachable { .. } | HubError::Redirect { .. } => Some(format!(
            "check the connection (HF_ENDPOINT names a mirror, HTTPS_PROXY a proxy); without it, \
             {instead}"
        )),
        HubError::NotCached { .. } => {
            Some(format!("unset HF_HUB_OFFLINE to download it once, or {instead}"))
        }
        error => error.hint().map(in_flags),
    }
}

/// A text of a library with each key in backticks replaced by its flag or environment variable.
pub fn in_flags(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    for (i, part) in text.split('`').enumerate() {
        let is_quoted = i % 2 == 1;
        match is_quoted.then(|| name_of(part)).flatten() {
            Some(name) => words.push_str(&name),
            None if is_quoted => words.push_str(&format!("`{part}`")),
            None => words.push_str(part),
        }
    }
    words
}

/// How a user sets a key.
fn name_of(key: &str) -> Option<String> {
    if let Some((_, variable)) = ENVIRONMENT.iter().find(|(name, _)| *name == key) {
        return Some((*variable).to_owned());
    }
    let is_flag = !options::owners(key).is_empty();
    is_flag.then(|| format!("--{}", key.replace('_', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_flags_and_variables_and_other_names_stay() {
        for (text, expected) in [
            ("set `text_column` to `story`", "set --text-column to `story`"),
            ("check `endpoint`, or use a `source`", "check HF_ENDPOINT, or use a --source"),
            ("no key at all", "no key at all"),
            ("half a `quote", "half a `quote`"),
        ] {
            assert_eq!(in_flags(text), expected);
        }
    }
}
