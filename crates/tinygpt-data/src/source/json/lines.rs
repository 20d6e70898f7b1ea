//! JSON lines: an object on each line, the text in its fields, or a string on each line.

use std::io::{BufRead, Read};

use super::{ONE_EACH, Parsed, parse};
use crate::error::DataError;
use crate::source::ReadAs;
use crate::source::input::Input;
use crate::source::records::{RecordReader, Records};

use super::MAX_VALUE_BYTES;

/// A reader of one file of JSON lines.
pub(in crate::source) struct JsonLines {
    input: Input,
    records: Records,
    line: Vec<u8>,
    line_number: u64,
    /// The offset in the text of the line's first byte.
    line_offset: u64,
    /// The offset in the text of the next byte to be read.
    offset: u64,
}

impl JsonLines {
    pub(super) fn of(input: Input, read_as: &ReadAs) -> Self {
        Self {
            records: Records::of(input.path(), read_as),
            offset: input.text_offset(),
            input,
            line: Vec::new(),
            line_number: 0,
            line_offset: 0,
        }
    }

    /// Reads the next line into `line`; false at the end of the file.
    fn read_line(&mut self) -> Result<bool, DataError> {
        self.line_offset = self.offset;
        self.line_number += 1;
        self.line.clear();
        let mut limited = (&mut self.input).take(MAX_VALUE_BYTES);
        let n_bytes = match limited.read_until(b'\n', &mut self.line) {
            Ok(n_bytes) => n_bytes,
            Err(error) => return Err(self.input.error(error)),
        };
        self.offset += n_bytes as u64;
        if n_bytes as u64 == MAX_VALUE_BYTES && !self.line.ends_with(b"\n") {
            let what =
                format!("line {}: longer than {} MiB", self.line_number, MAX_VALUE_BYTES >> 20);
            return Err(DataError::corrupt(self.input.path(), what, ONE_EACH));
        }
        Ok(n_bytes > 0)
    }

    /// Takes the record of the current line.
    fn take_line(&mut self) -> Result<(), DataError> {
        match parse(&self.line, &mut self.records, self.line_number, false)? {
            Parsed::Taken | Parsed::List(_) => Ok(()),
            Parsed::NotUtf8(at) => Err(self.input.not_utf8(self.line_offset + at as u64)),
            Parsed::Unfinished => {
                let is_last = match self.input.fill_buf() {
                    Ok(rest) => rest.is_empty(),
                    Err(error) => return Err(self.input.error(error)),
                };
                let (what, fix) = if is_last {
                    ("the last line is cut off", "fetch the file again")
                } else {
                    ("not a JSON object (the line ends inside it)", ONE_EACH)
                };
                self.records.bad(self.line_number, what.to_owned(), fix, None)
            }
            Parsed::Wrong(what) => self.records.bad(self.line_number, what, ONE_EACH, None),
        }
    }
}

impl RecordReader for JsonLines {
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
        if !self.read_line()? {
            return Ok(false);
        }
        if !self.line.trim_ascii().is_empty() {
            self.take_line()?;
        }
        Ok(true)
    }
}
