//! Conversations in a parquet file: whole rows, whose columns may be nested.
//!
//! One thread decodes rows with the library's own reader of records. That is slower than reading pages of a
//! text column, but datasets of conversations are small.

use std::path::Path;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::column::{self, Batch};
use crate::error::DataError;
use crate::source::ReadAs;
use crate::source::records::Records;

/// Rows that are decoded before they are handed over.
const BATCH_ROWS: u64 = 256;

/// A file of conversations.
pub(super) struct Rows {
    file: SerializedFileReader<std::fs::File>,
    records: Records,
}

impl Rows {
    pub(super) fn open(path: &Path, read_as: &ReadAs) -> Result<Self, DataError> {
        let file = std::fs::File::open(path).map_err(DataError::io("read", path))?;
        let file = SerializedFileReader::new(file)
            .map_err(|error| column::unreadable(path, Some(&error)))?;
        Ok(Self { file, records: Records::of(path, read_as) })
    }

    pub(super) fn n_rows(&self) -> u64 {
        u64::try_from(self.file.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Reads all rows in batches; ends early, with false, when `send` returns false.
    pub(super) fn read(
        mut self,
        path: &Path,
        mut send: impl FnMut(Batch) -> bool,
    ) -> Result<bool, DataError> {
        let broken = |error| column::unreadable(path, Some(&error));
        let mut n_rows = 0;
        for row in self.file.get_row_iter(None).map_err(broken)? {
            n_rows += 1;
            self.records.take_conversation(&object_of(&row.map_err(broken)?), n_rows)?;
            if n_rows % BATCH_ROWS == 0 && !send(batch_of(&mut self.records, BATCH_ROWS)) {
                return Ok(false);
            }
        }
        Ok(send(batch_of(&mut self.records, n_rows % BATCH_ROWS)))
    }
}

/// What was taken since the last batch.
fn batch_of(records: &mut Records, n_rows: u64) -> Batch {
    Batch {
        pieces: std::mem::take(&mut records.ready),
        stats: std::mem::take(&mut records.stats),
        first_fault: records.first_fault.clone(),
        n_rows,
        n_bytes: 0,
    }
}

fn object_of(row: &Row) -> Value {
    let fields = row.get_column_iter().map(|(name, field)| (name.clone(), value_of(field)));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// A field as JSON, as far as conversations need it.
fn value_of(field: &Field) -> Value {
    match field {
        Field::Str(text) => Value::from(text.as_str()),
        Field::Group(row) => object_of(row),
        Field::ListInternal(list) => list.elements().iter().map(value_of).collect(),
        Field::Bool(value) => Value::from(*value),
        Field::Int(value) => Value::from(*value),
        Field::Long(value) => Value::from(*value),
        Field::Double(value) => Value::from(*value),
        // Nothing else can be a part of a message.
        _ => Value::Null,
    }
}
