//! Tables of values separated by commas or tabs, with a header.

use std::io::{self, BufRead, Read};
use std::path::Path;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::ReadAs;
use super::fields::Value;
use super::format::Format;
use super::input::Input;
use super::records::{RecordReader, Records};
use super::utf8::to_text;
use crate::error::DataError;

/// The longest record, in bytes; a longer one is an unclosed quote.
const MAX_RECORD_BYTES: u64 = 256 << 20;

/// A reader of one table.
pub(super) struct Table {
    reader: Reader<Budget>,
    records: Records,
    record: ByteRecord,
    header: Vec<String>,
    /// The column of each wanted field.
    columns: Vec<usize>,
}

impl Table {
    pub(super) fn open(path: &Path, format: Format, read_as: &ReadAs) -> Result<Self, DataError> {
        let mut input = Input::open(path, read_as.lossy)?;
        let delimiter = match (format, input.fill_buf()) {
            (_, Err(error)) => return Err(input.error(error)),
            (Format::Tsv, _) => b'\t',
            (_, Ok(head)) => delimiter(head),
        };
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .from_reader(Budget { input, left: MAX_RECORD_BYTES });
        let header = match reader.byte_headers() {
            Ok(header) => header.clone(),
            Err(error) => return Err(broken(&reader, error)),
        };
        let header: Vec<String> =
            header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let column_of = |name: &String| {
            let found = header.iter().position(|column| column == name);
            found.ok_or_else(|| DataError::MissingColumn {
                path: path.to_path_buf(),
                line: Some(1),
                column: name.clone(),
                available: header.clone(),
            })
        };
        // An empty file is an empty text, as in other formats.
        let columns = match header.is_empty() {
            true => Vec::new(),
            false => read_as.fields.names().iter().map(column_of).collect::<Result<_, _>>()?,
        };
        let records = Records::of(path, read_as);
        Ok(Self { reader, records, record: ByteRecord::new(), header, columns })
    }

    /// Takes the current record.
    fn take_record(&mut self) -> Result<(), DataError> {
        let line = self.record.position().map_or(0, csv::Position::line);
        let mut values = Vec::with_capacity(self.columns.len());
        for &column in &self.columns {
            let Some(field) = self.record.get(column) else {
                let what = format!(
                    "{} values, but the header has {}",
                    self.record.len(),
                    self.header.len()
                );
                return self.records.bad(line, what, "check the separators and the quotes", None);
            };
            let n_replaced = &mut self.records.stats.n_replaced;
            let text = to_text(field.to_vec(), self.records.read_as.lossy, n_replaced);
            // The record's position is that of the byte; its quotes may add to it.
            let start = self.record.position().map_or(0, csv::Position::byte);
            let text =
                text.map_err(|at| self.reader.get_ref().input.not_utf8(start + at as u64))?;
            values.push(Value::Text(text.into()));
        }
        let joined = self.records.read_as.fields.join(&mut values);
        self.records.take(joined, line, Vec::new)
    }
}

/// What separates the values of a table called `.csv`: of comma, semicolon, tab and bar the one
/// that its first line has most of.
fn delimiter(head: &[u8]) -> u8 {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let count = |delimiter: u8| line.iter().filter(|&&byte| byte == delimiter).count();
    let mut best = b',';
    for other in [b';', b'\t', b'|'] {
        if count(other) > count(best) {
            best = other;
        }
    }
    best
}

/// The error of a table that cannot be read further.
fn broken(reader: &Reader<Budget>, error: csv::Error) -> DataError {
    let Budget { input, left } = reader.get_ref();
    let line = reader.position().line();
    if *left == 0 {
        let what = format!("line {line}: a record longer than {} MiB", MAX_RECORD_BYTES >> 20);
        return DataError::corrupt(input.path(), what, "look for a quote that is never closed");
    }
    match error.into_kind() {
        csv::ErrorKind::Io(error) => input.error(error),
        _ => {
            let what = format!("line {line}: not a record of a table");
            DataError::corrupt(input.path(), what, "check the separators and the quotes")
        }
    }
}

/// A file of which no more than a record's length is read for one record.
struct Budget {
    input: Input,
    left: u64,
}

impl Read for Budget {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(into)?;
        self.left = self.left.saturating_sub(n as u64);
        if self.left == 0 && n > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the record is too long"));
        }
        Ok(n)
    }
}

impl RecordReader for Table {
    fn records(&self) -> &Records {
        &self.records
    }

    fn records_mut(&mut self) -> &mut Records {
        &mut self.records
    }

    fn input(&self) -> &Input {
        &self.reader.get_ref().input
    }

    fn take_next(&mut self) -> Result<bool, DataError> {
        self.reader.get_mut().left = MAX_RECORD_BYTES;
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => self.take_record().map(|()| true),
            Ok(false) => Ok(false),
            Err(error) => Err(broken(&self.reader, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::tests::{as_usual, file, read};
    use super::super::{Fields, tests};
    use super::*;

    #[test]
    fn tables_are_read_by_their_header() {
        let dir = tempfile::tempdir().unwrap();
        let quoted = "id,text\r\n1,\"a, \"\"b\"\"\nc\"\r\n2,d\r\n3,\r\n";
        for (name, content, expected) in [
            ("a.csv", quoted, &["a, \"b\"\nc", "d"][..]),
            ("a.csv", "text\na\nb", &["a", "b"]),
            ("a.csv", "id;text\n1;a, b\n2;c", &["a, b", "c"]),
            ("a.tsv", "id\ttext\n1\ta, b\n2\tc \"d\"", &["a, b", "c \"d\""]),
            ("a.csv", "\u{feff}text\nwith a mark", &["with a mark"]),
            ("a.csv", "text\n", &[]),
            ("a.csv", "", &[]),
        ] {
            let (documents, _) = read(&file(&dir, name, content)).unwrap();
            assert_eq!(documents, expected, "{name}: {content:?}");
        }
        let path = file(&dir, "b.csv", "q,a\nwhy,so\nwho,me");
        let fields = Fields::template("{q}? {a}!").unwrap();
        let (documents, _) = tests::read_as(&path, ReadAs { fields, ..as_usual() }).unwrap();
        assert_eq!(documents, ["why? so!", "who? me!"]);
    }

    #[test]
    fn wrong_tables_are_refused_by_place() {
        let dir = tempfile::tempdir().unwrap();
        for (content, expected_text) in [
            (&b"id,story\n1,a"[..], "line 1: no text column `text`; it has `id` and `story`"),
            (b"id,text\n1,a\n2\n", "line 3: 1 values, but the header has 2"),
            (b"text\nfine\ncaf\xe9 au lait", "invalid UTF-8 at byte 13"),
        ] {
            let error = read(&file(&dir, "a.csv", content)).unwrap_err().to_string();
            assert!(error.contains(expected_text), "{expected_text}: {error}");
        }
    }

    #[test]
    fn the_delimiter_is_read_off_the_header() {
        for (head, expected) in [
            (&b"text\nno, it; is\n"[..], b','),
            (b"id,text\na;b;c", b','),
            (b"id;text\n1;a, b, c", b';'),
            (b"id\ttext", b'\t'),
            (b"id|text|title", b'|'),
            (b"", b','),
        ] {
            assert_eq!(delimiter(head), expected, "{head:?}");
        }
    }
}
