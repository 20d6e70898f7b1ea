//! JSON lines: one object a line, the text in one of its keys.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Documents, Piece, cut_document};
use crate::error::DataError;

/// The longest line that is taken for JSON and not for a mistake, in bytes.
const MAX_LINE_BYTES: u64 = 256 << 20;

/// A reader of one `.jsonl` file.
pub(super) struct JsonLines {
    path: PathBuf,
    text_column: String,
    file: BufReader<File>,
    line: Vec<u8>,
    line_number: u64,
    /// The offset in the file of the line's first byte.
    line_offset: u64,
    ready: VecDeque<Piece>,
    n_skipped: u64,
}

impl JsonLines {
    pub(super) fn open(path: &Path, text_column: &str) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("read", path))?;
        Ok(Self {
            path: path.to_path_buf(),
            text_column: text_column.to_owned(),
            file: BufReader::with_capacity(256 << 10, file),
            line: Vec::new(),
            line_number: 0,
            line_offset: 0,
            ready: VecDeque::new(),
            n_skipped: 0,
        })
    }

    /// Reads the next line into `line`; false at the end of the file.
    fn read_line(&mut self) -> Result<bool, DataError> {
        self.line_offset += self.line.len() as u64;
        self.line_number += 1;
        self.line.clear();
        let mut limited = self.file.by_ref().take(MAX_LINE_BYTES);
        let n_bytes =
            limited.read_until(b'\n', &mut self.line).map_err(DataError::io("read", &self.path))?;
        if n_bytes as u64 == MAX_LINE_BYTES && !self.line.ends_with(b"\n") {
            return Err(self.corrupt(
                format!("longer than {} MiB", MAX_LINE_BYTES >> 20),
                "put one JSON object on each line",
            ));
        }
        Ok(n_bytes > 0)
    }

    /// The text of the current line; `None` for null.
    fn text_of_line(&self) -> Result<Option<String>, DataError> {
        let line = std::str::from_utf8(&self.line).map_err(|error| DataError::InvalidUtf8 {
            path: self.path.clone(),
            offset: self.line_offset + error.valid_up_to() as u64,
        })?;
        let mut object: Map<String, Value> = serde_json::from_str(line).map_err(|error| {
            self.corrupt(format!("not a JSON object ({error})"), "put one JSON object on each line")
        })?;
        match object.remove(&self.text_column) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            Some(other) => Err(self.corrupt(
                format!("`{}` is {}, not a string", self.text_column, kind_of(&other)),
                "choose the column that holds the text with --text-column",
            )),
            None => Err(DataError::MissingColumn {
                path: PathBuf::from(format!("{} line {}", self.path.display(), self.line_number)),
                column: self.text_column.clone(),
                available: object.keys().cloned().collect(),
            }),
        }
    }

    fn corrupt(&self, what: String, fix: &str) -> DataError {
        DataError::corrupt(&self.path, format!("line {}: {what}", self.line_number), fix)
    }
}

impl Documents for JsonLines {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            if !self.read_line()? {
                return Ok(None);
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            match self.text_of_line()? {
                Some(text) if !text.is_empty() => cut_document(text, &mut self.ready),
                _ => self.n_skipped += 1,
            }
        }
    }

    fn n_skipped(&self) -> u64 {
        self.n_skipped
    }

    fn n_bytes_read(&self) -> u64 {
        self.line_offset + self.line.len() as u64
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
