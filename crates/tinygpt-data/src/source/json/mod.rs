//! JSON lines, or one JSON array, which is never in memory as a whole.

mod array;
mod lines;
mod scan;
mod string;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::BufRead;
use std::path::Path;

use super::fields::Joined;
use super::format::Format;
use super::input::Input;
use super::records::Records;
use super::{Documents, ReadAs};
use crate::error::DataError;
use array::JsonValues;
use lines::JsonLines;
use scan::{Record, ScanFault, keys, list_key, record};
use string::Repair;

/// The longest record, in bytes; a longer value is a mistake.
const MAX_VALUE_BYTES: u64 = 256 << 20;

const ONE_EACH: &str = "put one JSON object on each line";

/// Opens a file of JSON lines, or of JSON; an array is found in either.
pub(super) fn open(
    path: &Path,
    format: Format,
    read_as: &ReadAs,
) -> Result<Box<dyn Documents>, DataError> {
    let mut input = Input::open(path, read_as.lossy)?;
    let is_array = match input.fill_buf() {
        Ok(head) => head.trim_ascii_start().starts_with(b"["),
        Err(error) => return Err(input.error(error)),
    };
    if format == Format::Json || is_array {
        return Ok(Box::new(JsonValues::of(input, read_as)));
    }
    Ok(Box::new(JsonLines::of(input, read_as)))
}

/// The result of reading a record.
enum Parsed {
    Taken,
    Unfinished,
    /// What is wrong with it, in words.
    Wrong(String),
    /// The place of the first byte that is not UTF-8.
    NotUtf8(usize),
    /// An object without the wanted fields, but with a list under this key.
    List(String),
}

/// Takes the text of the record on `line`.
///
/// With `finds_lists`, if an object may be a whole file, a list in it may be the intended text.
fn parse(
    bytes: &[u8],
    records: &mut Records,
    line: u64,
    finds_lists: bool,
) -> Result<Parsed, DataError> {
    if records.read_as.is_chat {
        return parse_conversation(bytes, records, line);
    }
    let mut repair = Repair { lossy: records.read_as.lossy, ..Repair::default() };
    let mut values = Vec::new();
    let found = record(bytes, records.read_as.fields.names(), &mut values, &mut repair);
    let joined = match found {
        Ok(Record::Object) => records.read_as.fields.join(&mut values),
        Ok(Record::Text(text)) => Joined::Text(text),
        Ok(Record::Other(kind)) => {
            return Ok(Parsed::Wrong(format!("not a JSON object but {kind}")));
        }
        Err(ScanFault::Unfinished) => return Ok(Parsed::Unfinished),
        Err(ScanFault::NotUtf8(at)) => return Ok(Parsed::NotUtf8(at)),
        Err(ScanFault::Syntax { at, what }) => {
            return Ok(Parsed::Wrong(format!("not a JSON object ({what}, at column {})", at + 1)));
        }
    };
    if let (true, Joined::Missing(_), Some(key)) = (finds_lists, &joined, list_key(bytes)) {
        return Ok(Parsed::List(key));
    }
    records.stats.n_replaced += repair.n_replaced;
    records.stats.n_half_pairs += repair.n_half_pairs;
    records.take(joined, line, || keys(bytes))?;
    Ok(Parsed::Taken)
}

/// Takes the conversation on `line`.
fn parse_conversation(bytes: &[u8], records: &mut Records, line: u64) -> Result<Parsed, DataError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) if records.read_as.lossy => {
            let text = String::from_utf8_lossy(bytes);
            records.stats.n_replaced += text.matches('\u{fffd}').count() as u64;
            text
        }
        Err(error) => return Ok(Parsed::NotUtf8(error.valid_up_to())),
    };
    match serde_json::from_str(&text) {
        Ok(record) => records.take_conversation(&record, line).map(|()| Parsed::Taken),
        Err(error) if error.is_eof() => Ok(Parsed::Unfinished),
        Err(error) => Ok(Parsed::Wrong(format!("not a JSON object ({error})"))),
    }
}
