//! JSON lines: one object a line, the text in one of its keys.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::utf8::{drop_byte_order_mark, to_text};
use super::{Documents, Piece, ReadAs, Tally, cut_document};
use crate::error::DataError;

/// The longest line that is taken for JSON and not for a mistake, in bytes.
const MAX_LINE_BYTES: u64 = 256 << 20;

/// A reader of one `.jsonl` file.
pub(super) struct JsonLines {
    path: PathBuf,
    read_as: ReadAs,
    file: BufReader<File>,
    line: Vec<u8>,
    line_number: u64,
    /// The offset in the file of the line's first byte.
    line_offset: u64,
    /// The offset in the file of the next byte to be read.
    n_bytes: u64,
    ready: VecDeque<Piece>,
    tally: Tally,
}

impl JsonLines {
    pub(super) fn open(path: &Path, read_as: &ReadAs) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("read", path))?;
        Ok(Self {
            path: path.to_path_buf(),
            read_as: read_as.clone(),
            file: BufReader::with_capacity(256 << 10, file),
            line: Vec::new(),
            line_number: 0,
            line_offset: 0,
            n_bytes: 0,
            ready: VecDeque::new(),
            tally: Tally::default(),
        })
    }

    /// Reads the next line into `line`; false at the end of the file.
    fn read_line(&mut self) -> Result<bool, DataError> {
        self.line_offset = self.n_bytes;
        self.line_number += 1;
        self.line.clear();
        let mut limited = self.file.by_ref().take(MAX_LINE_BYTES);
        let n_bytes =
            limited.read_until(b'\n', &mut self.line).map_err(DataError::io("read", &self.path))?;
        self.n_bytes += n_bytes as u64;
        if n_bytes as u64 == MAX_LINE_BYTES && !self.line.ends_with(b"\n") {
            return Err(self.corrupt(
                format!("longer than {} MiB", MAX_LINE_BYTES >> 20),
                "put one JSON object on each line",
            ));
        }
        Ok(n_bytes > 0)
    }

    /// The text of the current line; `None` for null.
    fn text_of_line(&mut self) -> Result<Option<String>, DataError> {
        let mut line = std::mem::take(&mut self.line);
        if self.line_offset == 0 {
            drop_byte_order_mark(&mut line);
        }
        let line = to_text(line, self.read_as.lossy, &mut self.tally.n_replaced);
        let line = line.map_err(|offset| DataError::InvalidUtf8 {
            path: self.path.clone(),
            offset: self.line_offset + offset as u64,
        })?;
        let mut object: Map<String, Value> = serde_json::from_str(&line).map_err(|error| {
            self.corrupt(format!("not a JSON object ({error})"), "put one JSON object on each line")
        })?;
        let column = &self.read_as.text_column;
        match object.remove(column) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            Some(other) => Err(self.corrupt(
                format!("`{column}` is {}, not a string", kind_of(&other)),
                "choose the column that holds the text with --text-column",
            )),
            None => Err(DataError::MissingColumn {
                path: PathBuf::from(format!("{} line {}", self.path.display(), self.line_number)),
                column: column.clone(),
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
                Some(_) => self.tally.n_empty += 1,
                None => self.tally.n_nulls += 1,
            }
        }
    }

    fn tally(&self) -> Tally {
        self.tally
    }

    fn n_bytes_read(&self) -> u64 {
        self.n_bytes
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
