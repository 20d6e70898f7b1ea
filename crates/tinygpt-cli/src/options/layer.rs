//! Merges options: flags over file over checkpoint over defaults, with the origin of each value.
//!
//! The layers are merged as JSON objects, so that one rule serves every key of every binary; the
//! merged object then becomes the options struct again. Values are interpreted later.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Map, Value};
use tinygpt_data::{Shown, excerpt};
use tinygpt_model::DeviceSpec;
use tinygpt_train::Fault;

use super::Options;
use super::config_file::ConfigFile;
use crate::usage::UsageError;

/// Where a value came from; each overrides those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody gave a value.
    Default,
    /// The checkpoint of the run that is resumed.
    Checkpoint,
    /// The config file.
    File,
    /// A flag; it overrides all others.
    Flag,
}

/// The merged options of a binary, each value with its origin.
#[derive(Clone, Debug)]
pub struct Layered<O> {
    /// The effective value of each key.
    pub options: O,
    flags: Map<String, Value>,
    file: Option<ConfigFile>,
    recorded: Option<Recorded>,
    /// Keys whose value was adapted to the others.
    fitted: BTreeSet<String>,
    /// Notes about them for the user.
    notes: Vec<String>,
}

/// The values stored in a checkpoint.
#[derive(Clone, Debug)]
struct Recorded {
    dir: PathBuf,
    values: Map<String, Value>,
}

impl<O: Options> Layered<O> {
    /// Puts `flags` over `file` over the defaults of `O`.
    ///
    /// # Errors
    /// [`UsageError`] if a flag cannot be written as JSON: a path that is not Unicode.
    pub fn new(flags: &O, file: Option<ConfigFile>) -> Result<Self, UsageError> {
        Self::merged(set_values(flags)?, file, None)
    }

    /// The same with `values` of the checkpoint `dir` above the defaults.
    ///
    /// # Errors
    /// [`UsageError`] if the values are not those of the keys of `O`.
    pub fn resuming(self, dir: PathBuf, values: Map<String, Value>) -> Result<Self, UsageError> {
        Self::merged(self.flags, self.file, Some(Recorded { dir, values }))
    }

    fn merged(
        flags: Map<String, Value>,
        file: Option<ConfigFile>,
        recorded: Option<Recorded>,
    ) -> Result<Self, UsageError> {
        let mut merged = set_values(&O::defaults())?;
        merged.extend(recorded.iter().flat_map(|recorded| recorded.values.clone()));
        merged.extend(file.iter().flat_map(|file| file.values().clone()));
        merged.extend(flags.clone());
        let mut options: O = serde_json::from_value(Value::Object(merged))
            .map_err(|error| UsageError::new(error.to_string()))?;
        options.derive();
        let (fitted, notes) = (BTreeSet::new(), Vec::new());
        let mut layered = Self { options, flags, file, recorded, fitted, notes };
        O::fit(&mut layered);
        Ok(layered)
    }

    /// Replaces the value of `key` by one that fits the others. A value of the wrong type is
    /// ignored.
    pub fn fit(&mut self, key: &str, value: Value) {
        if let Ok(options) = self.options_with(key, value) {
            self.options = options;
            self.fitted.insert(key.to_owned());
        }
    }

    /// Removes the value of `key`, which another option overrides.
    pub fn clear(&mut self, key: &str) {
        self.fit(key, Value::Null);
    }

    /// Keeps `note` for the user.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Notes about values that were adapted.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn options_with(&self, key: &str, value: Value) -> Result<O, UsageError> {
        let wrong = |error: serde_json::Error| UsageError::new(error.to_string());
        let mut all = serde_json::to_value(&self.options).map_err(wrong)?;
        all[key] = value;
        serde_json::from_value(all).map_err(wrong)
    }

    /// The same with another value of `key`, as if a flag had set it.
    ///
    /// # Errors
    /// If the value has the wrong type.
    pub fn with(mut self, key: &str, value: Value) -> Result<Self, UsageError> {
        self.options = self.options_with(key, value.clone())?;
        self.flags.insert(key.to_owned(), value);
        Ok(self)
    }

    /// Where the value of `key` came from.
    pub fn origin(&self, key: &str) -> Origin {
        if self.fitted.contains(key) { Origin::Default } else { self.given_by(key) }
    }

    /// The origin of the given value of `key`, even if it was adapted.
    pub fn given_by(&self, key: &str) -> Origin {
        if self.flags.contains_key(key) {
            Origin::Flag
        } else if self.file.as_ref().is_some_and(|file| file.values().contains_key(key)) {
            Origin::File
        } else if self.recorded.as_ref().is_some_and(|it| it.values.contains_key(key)) {
            Origin::Checkpoint
        } else {
            Origin::Default
        }
    }

    /// The value of `key` in the checkpoint of the run that is resumed: null if it has none, `None` if
    /// no run is resumed.
    pub fn recorded(&self, key: &str) -> Option<Value> {
        let recorded = self.recorded.as_ref()?;
        Some(recorded.values.get(key).cloned().unwrap_or_default())
    }

    /// The config file's path, if one was read.
    pub fn config_path(&self) -> Option<&std::path::Path> {
        self.file.as_ref().map(ConfigFile::path)
    }

    /// Where the value of `key` was given: `--n-head`, `config/x.json line 7`, `default`.
    pub fn place(&self, key: &str) -> String {
        match (self.given_by(key), &self.file, &self.recorded) {
            (Origin::Flag, ..) => format!("--{}", key.replace('_', "-")),
            (Origin::File, Some(file), _) => {
                format!("{} line {}", Shown(file.path()), file.line(key).unwrap_or_default())
            }
            (Origin::Checkpoint, _, Some(recorded)) => {
                format!("the checkpoint {}", recorded.dir.display())
            }
            _ => "default".to_owned(),
        }
    }

    /// The value of `key` as JSON.
    pub fn value(&self, key: &str) -> Value {
        match serde_json::to_value(&self.options) {
            Ok(Value::Object(mut all)) => all.remove(key).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// The values that the config file and flags give, as JSON.
    pub fn given(&self) -> Map<String, Value> {
        let mut given = self.file.as_ref().map(|file| file.values().clone()).unwrap_or_default();
        given.extend(self.flags.clone());
        given
    }

    /// All keys that have a value, as JSON.
    pub fn values(&self) -> Map<String, Value> {
        set_values(&self.options).unwrap_or_default()
    }

    /// The whole configuration as JSON, one key per line, each with value and origin.
    pub fn show(&self) -> String {
        let all = match serde_json::to_value(&self.options) {
            Ok(Value::Object(all)) => all,
            _ => Map::new(),
        };
        let width = all.keys().map(String::len).max().unwrap_or(0) + 3;
        let mut lines = Vec::new();
        for (key, value) in all {
            let origin = match self.origin(&key) {
                Origin::Default => "default",
                Origin::Checkpoint => "checkpoint",
                Origin::File => "file",
                Origin::Flag => "flag",
            };
            let hidden = O::SECRETS.contains(&key.as_str()) && !value.is_null();
            let value = if hidden { Value::from("(hidden)") } else { value };
            let key = format!("\"{key}\":");
            lines
                .push(format!("  {key:width$} {{ \"value\": {value}, \"origin\": \"{origin}\" }}"));
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(text, "{{\n{}\n}}\n", lines.join(",\n"));
        text
    }
}

/// `options` as a JSON object, without the keys that have no value.
fn set_values<O: Options>(options: &O) -> Result<Map<String, Value>, UsageError> {
    match serde_json::to_value(options) {
        Ok(Value::Object(mut map)) => {
            map.retain(|_, value| !value.is_null());
            Ok(map)
        }
        Ok(other) => Err(UsageError::new(format!("options are not an object: {other}"))),
        Err(error) => Err(UsageError::new(format!("a flag is not Unicode text: {error}"))),
    }
}

/// Collects the faults of a merged configuration, so that all can be listed at once.
pub struct Faults<'a, O> {
    layered: &'a Layered<O>,
    /// The key and the message of each fault.
    list: Vec<(String, String)>,
}

impl<'a, O: Options> Faults<'a, O> {
    /// An empty list.
    pub fn of(layered: &'a Layered<O>) -> Self {
        Self { layered, list: Vec::new() }
    }

    /// Adds the fault of a value of `key` that is not accepted; `expected` is what is accepted.
    pub fn add(&mut self, key: &str, expected: &str) {
        let got = self.layered.value(key).to_string();
        self.push(key, &got, expected);
    }

    /// [`Faults::add`] unless `holds`.
    pub fn unless(&mut self, holds: bool, key: &str, expected: &str) {
        if !holds {
            self.add(key, expected);
        }
    }

    /// Adds the faults that the training crate found.
    pub fn extend(&mut self, found: &[Fault]) {
        for fault in found {
            self.push(fault.key, &fault.got, &fault.expected);
        }
    }

    /// Adds the conflict of `key` with the option `other`; `reason` may be empty.
    pub fn conflict(&mut self, key: &str, other: &str, reason: &str) {
        self.push_combination(key, &format!("cannot be combined with {other}"), reason);
    }

    /// Adds that `key` also needs the option `other`.
    pub fn needs(&mut self, key: &str, other: &str) {
        self.push_combination(key, &format!("needs {other}"), "");
    }

    fn push_combination(&mut self, key: &str, what: &str, reason: &str) {
        let place = self.layered.place(key);
        let option = match self.layered.given_by(key) {
            Origin::Flag => place,
            _ => format!("`{key}` ({place})"),
        };
        let colon = if reason.is_empty() { "" } else { ": " };
        self.push_line(key, format!("{option} {what}{colon}{reason}"));
    }

    fn push(&mut self, key: &str, got: &str, expected: &str) {
        let (got, place) = (excerpt(got), self.layered.place(key));
        self.push_line(key, format!("`{key}` is {got} ({place}), expected {expected}"));
    }

    /// One fault per key: a second check of the same key would report it again.
    fn push_line(&mut self, key: &str, line: String) {
        if !self.list.iter().any(|(known, _)| known == key) {
            self.list.push((key.to_owned(), line));
        }
    }

    /// Checks a count.
    pub fn at_least_one(&mut self, key: &str, value: Option<u64>) {
        self.unless(value.is_none_or(|n| n >= 1), key, "1 or more");
    }

    /// Checks `threads`.
    pub fn threads(&mut self, threads: Option<usize>) {
        let expected = "1 to 1024; without it, one per physical core";
        self.unless(threads.is_none_or(|n| (1..=1024).contains(&n)), "threads", expected);
    }

    /// Parses `device`.
    pub fn device(&mut self, text: Option<&str>) -> DeviceSpec {
        match text.unwrap_or("cpu").parse() {
            Ok(choice) => choice,
            Err(expected) => {
                self.add("device", &expected);
                DeviceSpec::Cpu
            }
        }
    }

    /// All faults as one error.
    ///
    /// # Errors
    /// [`UsageError`] if there is any.
    pub fn into_result(self) -> anyhow::Result<()> {
        match UsageError::from_faults(self.list.into_iter().map(|(_, line)| line).collect()) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::options::TrainOptions;

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.json");
        std::fs::write(&path, "{\"n_layer\": 2,\n\"n_head\": 3, \"vocab_size\": null}").unwrap();
        let file = ConfigFile::read::<TrainOptions>(&path).unwrap();
        let flags: TrainOptions = serde_json::from_str("{\"n_head\": 4}").unwrap();
        let layered = Layered::new(&flags, Some(file)).unwrap();
        let values = ["n_layer", "n_head", "n_embd"].map(|key| layered.value(key));
        assert_eq!(values, [2, 4, 384]);
        let origins = ["n_layer", "n_head", "n_embd", "vocab_size"].map(|k| layered.origin(k));
        assert_eq!(origins, [Origin::File, Origin::Flag, Origin::Default, Origin::Default]);
        assert!(layered.place("n_layer").ends_with("c.json line 1"));
        assert_eq!(layered.place("n_head"), "--n-head");
    }
}
