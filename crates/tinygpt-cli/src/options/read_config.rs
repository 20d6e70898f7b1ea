//! Reads a config file: one JSON object whose keys are the flags of the binary in snake_case.
//!
//! Each wrong key or value is reported with its line, all of them at once. Ranges are not checked
//! here: a flag may override the value.

use std::fmt;
use std::fs::File;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use tinygpt_data::{FileError, MAX_QUOTED, Shown, excerpt, excerpt_quoted, nearest, read_limited};

use super::Options;
use super::config_file::ConfigFile;
use super::prepare::PrepareOptions;
use super::sample::SampleOptions;
use super::train::TrainOptions;
use crate::usage::UsageError;

/// The largest config file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

impl ConfigFile {
    /// Reads and checks the file for the binary of `O`. A key that is `null` counts as missing.
    ///
    /// # Errors
    /// [`UsageError`] if the file cannot be read, is not a JSON object, or holds unknown keys or
    /// values of the wrong type.
    pub fn read<O: Options>(path: &Path) -> Result<Self, UsageError> {
        // It may be a pipe, such as `<(…)` in a shell.
        let bytes = File::open(path)
            .map_err(FileError::Io)
            .and_then(|file| read_limited(file, MAX_BYTES))
            .map_err(|error| unreadable(path, &error))?;
        let text = String::from_utf8(bytes)
            .map_err(|error| UsageError::not_utf8(Shown(path), &error.utf8_error()))?;
        // Editors on Windows put a byte order mark in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let Entries(entries) = serde_json::from_str(text).map_err(|error| {
            let (path, error) = (Shown(path), excerpt_quoted(&error.to_string()));
            UsageError::new(format!("{path} is not one JSON object: {error}")).hint(
                "JSON has no comments and no comma after the last key; \
                 config/tiny_stories.json is an example",
            )
        })?;
        Self::check::<O>(path, entries, key_lines(text))
    }

    fn check<O: Options>(
        path: &Path,
        entries: Vec<(String, Value)>,
        lines: Vec<usize>,
    ) -> Result<Self, UsageError> {
        let known = known_keys::<O>();
        let mut file = Self::new(path);
        let mut faults = Vec::new();
        for ((key, value), line) in entries.into_iter().zip(lines) {
            let place = format!("{} line {line}", Shown(path));
            if !known.contains(&key) {
                let owners = owners(&key);
                let advice = if owners.is_empty() {
                    did_you_mean(&key, &known)
                } else {
                    format!(", which is a key of {}", quoted(&owners))
                };
                faults.push(format!("{place}: unknown key `{}`{advice}", excerpt(&key)));
            } else if file.values().contains_key(&key) {
                faults.push(format!("{place}: `{key}` is set twice, expected once"));
            } else if let Some(reason) = type_fault::<O>(&key, &value) {
                faults.push(format!("{place}: `{key}`: {reason}"));
            }
            if !value.is_null() {
                file.push(key, value, line);
            }
        }
        UsageError::from_faults(faults).map_or(Ok(file), |error| {
            Err(error.hint(format!("`{} --help` lists every key with its meaning", O::BINARY)))
        })
    }
}

/// All keys of a binary, in the order of its struct.
pub fn known_keys<O: Options>() -> Vec<String> {
    match serde_json::to_value(O::defaults()) {
        Ok(Value::Object(map)) => map.into_iter().map(|(key, _)| key).collect(),
        _ => Vec::new(),
    }
}

/// The binaries that have a key or flag of this name.
pub fn owners(key: &str) -> Vec<&'static str> {
    let has = |known: Vec<String>| known.iter().any(|known| known == key);
    [
        (PrepareOptions::BINARY, has(known_keys::<PrepareOptions>())),
        (TrainOptions::BINARY, has(known_keys::<TrainOptions>())),
        (SampleOptions::BINARY, has(known_keys::<SampleOptions>())),
    ]
    .into_iter()
    .filter_map(|(binary, has)| has.then_some(binary))
    .collect()
}

/// `a` and `b`, for a message.
pub fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
}

/// The closest of `known`, as the end of a sentence; empty if none is close.
fn did_you_mean<S: AsRef<str>>(word: &str, known: &[S]) -> String {
    // No key is this long, and comparing takes time.
    if word.len() > MAX_QUOTED {
        return String::new();
    }
    let word = word.replace('-', "_");
    nearest(&word, known.iter().map(AsRef::as_ref))
        .map(|key| format!(", did you mean `{key}`?"))
        .unwrap_or_default()
}

/// Why `value` cannot be the value of `key`, if it cannot.
fn type_fault<O: Options>(key: &str, value: &Value) -> Option<String> {
    let alone = Value::Object(Map::from_iter([(key.to_owned(), value.clone())]));
    let reason = serde_json::from_value::<O>(alone).err()?.to_string();
    // serde names Rust's types; a config file has numbers, words and true or false.
    let spelled = [
        ("expected usize", "expected an integer, 0 or more"),
        ("expected u64", "expected an integer, 0 or more"),
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("expected path string", "expected a path in quotes"),
        ("expected a sequence", "expected a list of paths"),
        ("expected a string", "expected text in quotes"),
    ];
    let reason = excerpt_quoted(&reason);
    Some(spelled.iter().fold(reason, |reason, (rust, plain)| reason.replace(rust, plain)))
}

/// The error of a file that cannot be read; for a wrong name, the hint lists the existing files.
fn unreadable(path: &Path, error: &FileError) -> UsageError {
    let what = match error {
        FileError::Io(error) => {
            format!("cannot read the config file {}: {error}", Shown(path))
        }
        FileError::Refused(what) => format!("the config file {} {what}", Shown(path)),
    };
    let what = UsageError::new(what);
    if !error.is_not_found() {
        return what.hint("expected a file that holds one JSON object");
    }
    let mut names: Vec<String> = std::fs::read_dir("config")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| path.display().to_string())
        .collect();
    names.sort();
    if names.is_empty() {
        return what.hint("run it from the repository's root, where config/ is");
    }
    what.hint(format!("there are: {}", names.join(", ")))
}

/// A JSON object's entries in order, duplicates kept: `Map` would silently take the last.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object in braces: {\"key\": value, …}")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The line of each key of the outermost object, in order. `text` is known to be valid JSON.
fn key_lines(text: &str) -> Vec<usize> {
    let (mut lines, mut line, mut depth) = (Vec::new(), 1, 0);
    let (mut in_string, mut escaped, mut expects_key) = (false, false, false);
    for byte in text.bytes() {
        line += usize::from(byte == b'\n');
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' => {
                in_string = true;
                if depth == 1 && expects_key {
                    lines.push(line);
                    expects_key = false;
                }
            }
            b'{' | b'[' => {
                depth += 1;
                expects_key = depth == 1;
            }
            b'}' | b']' => depth -= 1,
            b',' if depth == 1 => expects_key = true,
            _ => {}
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn each_outer_key_has_its_line() {
        let text = "{\n \"a\": {\"b\": [1,\n \"c\"]}, \"d\\\"\": \",\",\n\n\"e\": 1}";
        let Entries(entries) = serde_json::from_str(text).unwrap();
        let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!((keys, key_lines(text)), (vec!["a", "d\"", "e"], vec![2, 3, 5]));
    }

    #[test]
    fn suggests_only_what_is_close() {
        let known = ["n_layer", "n_head", "learning_rate"];
        assert_eq!(did_you_mean("n_layers", &known), ", did you mean `n_layer`?");
        assert_eq!(did_you_mean("learning-rate", &known), ", did you mean `learning_rate`?");
        assert_eq!(did_you_mean("colour", &known), "");
    }
}
