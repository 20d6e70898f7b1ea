//! The keys that a config file sets, each with its value and its line.
//!
//! `read_config.rs` reads and checks the file.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// The keys of a config file, each known to the binary and of the right type.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    values: Map<String, Value>,
    lines: Vec<usize>,
}

impl ConfigFile {
    /// A file without keys.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), values: Map::new(), lines: Vec::new() }
    }

    /// Adds a key that the file sets in this line.
    pub(super) fn push(&mut self, key: String, value: Value, line: usize) {
        self.values.insert(key, value);
        self.lines.push(line);
    }

    /// The path it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys that are set, with their values, in the file's order.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// The line that sets `key`, counted from 1.
    pub fn line(&self, key: &str) -> Option<usize> {
        let position = self.values.keys().position(|k| k == key)?;
        self.lines.get(position).copied()
    }
}
