//! One JSON array, or a sequence of values: read value by value.
//!
//! Brackets and quotes show where a value ends, so an array of any length is read in the
//! memory of its longest value.

use std::io::BufRead;

use memchr::{memchr_iter, memchr2};

use super::{MAX_VALUE_BYTES, Parsed, parse};
use crate::error::DataError;
use crate::quote::escaped_excerpt;
use crate::source::ReadAs;
use crate::source::input::Input;
use crate::source::records::{RecordReader, Records};

const EXPECTED: &str = "an array of objects or strings is expected, such as [{\"text\": \"…\"}]; \
                        with `jq -c '.[]' IN.json > OUT.jsonl` an array becomes JSON lines";

/// The reader's position in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    InArray,
    BehindArray,
    /// Between values without an array around them.
    Between,
}

/// A reader of one file of JSON.
pub(super) struct JsonValues {
    input: Input,
    records: Records,
    place: Place,
    value: Vec<u8>,
    line_number: u64,
    /// The offset in the text of the next byte to be read.
    offset: u64,
}

impl JsonValues {
    pub(super) fn of(input: Input, read_as: &ReadAs) -> Self {
        Self {
            records: Records::of(input.path(), read_as),
            offset: input.text_offset(),
            input,
            place: Place::Start,
            value: Vec::new(),
            line_number: 1,
        }
    }

    fn corrupt(&self, what: &str) -> DataError {
        DataError::corrupt(
            self.input.path(),
            format!("line {}: {what}", self.line_number),
            EXPECTED,
        )
    }

    /// The next bytes of the text; none at its end.
    fn peek(&mut self) -> Result<&[u8], DataError> {
        // Called twice, because a borrow that is returned cannot be held where an error is made.
        if let Err(error) = self.input.fill_buf() {
            return Err(self.input.error(error));
        }
        Ok(self.input.fill_buf().unwrap_or_default())
    }

    fn consume(&mut self, n_bytes: usize, n_lines: usize) {
        self.input.consume(n_bytes);
        self.offset += n_bytes as u64;
        self.line_number += n_lines as u64;
    }

    /// Skips white space, commas and the array's brackets; returns whether another value follows.
    fn find_value(&mut self) -> Result<bool, DataError> {
        loop {
            let place = self.place;
            let Some(&byte) = self.peek()?.first() else {
                if place == Place::InArray {
                    self.cut_off(self.line_number, "the array is cut off")?;
                }
                return Ok(false);
            };
            match (byte, place) {
                (b' ' | b'\t' | b'\r', _) | (b',', Place::InArray) => self.consume(1, 0),
                (b'\n', _) => self.consume(1, 1),
                (b'[', Place::Start) => {
                    self.place = Place::InArray;
                    self.consume(1, 0);
                }
                (b']', Place::InArray) => {
                    self.place = Place::BehindArray;
                    self.consume(1, 0);
                }
                (_, Place::BehindArray) => return Err(self.corrupt("more after the array's end")),
                (_, Place::Start) => self.place = Place::Between,
                _ => return Ok(true),
            }
        }
    }

    /// Reads the value that starts here into `value`.
    fn read_value(&mut self) -> Result<(), DataError> {
        let mut end = ValueEnd::default();
        self.value.clear();
        loop {
            let bytes = self.peek()?;
            let n_bytes = end.find(bytes);
            let n = n_bytes.unwrap_or(bytes.len());
            let (part, is_at_end) = (bytes[..n].to_vec(), bytes.is_empty());
            let n_lines = memchr_iter(b'\n', &part).count();
            self.value.extend(part);
            self.consume(n, n_lines);
            if self.value.len() as u64 > MAX_VALUE_BYTES {
                let what = format!("a value longer than {} MiB", MAX_VALUE_BYTES >> 20);
                return Err(self.corrupt(&what));
            }
            if n_bytes.is_some() || is_at_end {
                return Ok(());
            }
        }
    }

    /// Counts a record that the end of the file has cut off.
    fn cut_off(&mut self, line: u64, what: &str) -> Result<(), DataError> {
        self.place = Place::BehindArray;
        self.records.bad(line, what.to_owned(), "fetch the file again", None)
    }

    fn take_value(&mut self) -> Result<(), DataError> {
        let (line, offset) = (self.line_number, self.offset);
        self.read_value()?;
        let finds_lists = self.place == Place::Between;
        match parse(&self.value, &mut self.records, line, finds_lists)? {
            Parsed::Taken => Ok(()),
            Parsed::List(key) => {
                let key = escaped_excerpt(&key);
                let what = format!("an object with its records in `{key}`, not an array");
                let fix = format!("write the array alone: `jq '.{key}' IN.json > OUT.json`");
                self.records.bad(line, what, &fix, None)
            }
            Parsed::NotUtf8(at) => Err(self.input.not_utf8(offset + at as u64)),
            Parsed::Unfinished => self.cut_off(line, "the last value is cut off"),
            Parsed::Wrong(what) => self.records.bad(line, what, EXPECTED, None),
        }
    }
}

/// Finds the end of a value that is read in parts.
#[derive(Default)]
struct ValueEnd {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    in_scalar: bool,
}

impl ValueEnd {
    /// The length of the part of `bytes` that belongs to the value, if the value ends there.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.is_escaped {
                self.is_escaped = false;
                at += 1;
                continue;
            }
            if self.in_string {
                let n = memchr2(b'"', b'\\', &bytes[at..])?;
                at += n + 1;
                self.is_escaped = bytes[at - 1] == b'\\';
                self.in_string = self.is_escaped;
                if !self.in_string && self.depth == 0 {
                    return Some(at);
                }
                continue;
            }
            match bytes[at] {
                b']' | b'}' | b',' | b' ' | b'\t' | b'\r' | b'\n' if self.in_scalar => {
                    return Some(at);
                }
                b'"' => self.in_string = true,
                b'[' | b'{' => self.depth += 1,
                b']' | b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => self.in_scalar = self.depth == 0,
            }
            at += 1;
        }
        None
    }
}

impl RecordReader for JsonValues {
    fn records(&self) -> &Records {
        &self.records
    }

    fn records_mut(&mut self) -> &mut Records {
        &mut self.records
    }

    fn input(&self) -> &Input {
        &self.input
    }

    fn take_next(&mut self) -> Result<bool, DataError> {
        let has_value = self.find_value()?;
        if has_value {
            self.take_value()?;
        }
        Ok(has_value)
    }
}
