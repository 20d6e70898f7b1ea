//! Parquet: one string column, read in small batches, row group by row group.
//!
//! Only that column's pages are read. Nulls are counted and left out. A declared count in the
//! file is a hint and never an allocation of ours.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::{Documents, Piece, cut_document};
use crate::error::DataError;

/// How many rows are read at once.
const BATCH_ROWS: usize = 256;

/// A reader of one `.parquet` file.
pub(super) struct Parquet {
    path: PathBuf,
    text_column: String,
    file: SerializedFileReader<File>,
    column_idx: usize,
    /// The definition level of a value that is there; a lower level is a null.
    max_definition_level: i16,
    next_row_group: usize,
    rows: Option<ColumnReaderImpl<ByteArrayType>>,
    values: Vec<ByteArray>,
    definition_levels: Vec<i16>,
    ready: VecDeque<Piece>,
    n_skipped: u64,
    n_file_bytes: u64,
    n_rows_read: u64,
}

impl Parquet {
    pub(super) fn open(path: &Path, text_column: &str) -> Result<Self, DataError> {
        let handle = File::open(path).map_err(DataError::io("read", path))?;
        let n_file_bytes = handle.metadata().map_err(DataError::io("read", path))?.len();
        let file = guarded(path, || SerializedFileReader::new(handle))?;
        let schema = file.metadata().file_metadata().schema_descr_ptr();
        let found = schema.columns().iter().position(|c| c.path().string() == text_column);
        let column_idx = found.ok_or_else(|| DataError::MissingColumn {
            path: path.to_path_buf(),
            column: text_column.to_owned(),
            available: schema.columns().iter().map(|c| c.path().string()).collect(),
        })?;
        let column = schema.column(column_idx);
        check_column(path, &column)?;
        Ok(Self {
            path: path.to_path_buf(),
            text_column: text_column.to_owned(),
            file,
            column_idx,
            max_definition_level: column.max_def_level(),
            next_row_group: 0,
            rows: None,
            values: Vec::new(),
            definition_levels: Vec::new(),
            ready: VecDeque::new(),
            n_skipped: 0,
            n_file_bytes,
            n_rows_read: 0,
        })
    }

    /// Reads the next rows into `ready`; false at the end of the file.
    fn read_batch(&mut self) -> Result<bool, DataError> {
        let Some(rows) = &mut self.rows else { return self.open_row_group() };
        self.values.clear();
        self.definition_levels.clear();
        let levels = (self.max_definition_level > 0).then_some(&mut self.definition_levels);
        let values = &mut self.values;
        let (n_records, _, _) =
            guarded(&self.path, || rows.read_records(BATCH_ROWS, levels, None, values))?;
        if n_records == 0 {
            self.rows = None;
            return Ok(true);
        }
        self.n_rows_read += n_records as u64;
        let nulls = self.definition_levels.iter().filter(|&&l| l < self.max_definition_level);
        self.n_skipped += nulls.count() as u64;
        for value in &self.values {
            let text = std::str::from_utf8(value.data()).map_err(|error| {
                DataError::corrupt(
                    &self.path,
                    format!(
                        "row group {}, column `{}`: invalid UTF-8 at byte {} of a value",
                        self.next_row_group - 1,
                        self.text_column,
                        error.valid_up_to()
                    ),
                    "write the column again as UTF-8 strings",
                )
            })?;
            match text {
                "" => self.n_skipped += 1,
                text => cut_document(text.to_owned(), &mut self.ready),
            }
        }
        Ok(true)
    }

    /// Goes on to the next row group; false if there is none.
    fn open_row_group(&mut self) -> Result<bool, DataError> {
        if self.next_row_group >= self.file.num_row_groups() {
            return Ok(false);
        }
        let (row_group_idx, column_idx) = (self.next_row_group, self.column_idx);
        let file = &self.file;
        let reader = guarded(&self.path, || {
            file.get_row_group(row_group_idx)?.get_column_reader(column_idx)
        })?;
        if let ColumnReader::ByteArrayColumnReader(rows) = reader {
            self.rows = Some(rows);
        }
        self.next_row_group += 1;
        Ok(true)
    }
}

impl Documents for Parquet {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            if !self.read_batch()? {
                return Ok(None);
            }
        }
    }

    fn n_skipped(&self) -> u64 {
        self.n_skipped
    }

    /// The rows read so far, as their share of the file's bytes.
    fn n_bytes_read(&self) -> u64 {
        let n_rows = u64::try_from(self.file.metadata().file_metadata().num_rows()).unwrap_or(0);
        let share = self.n_rows_read as f64 / n_rows.max(self.n_rows_read).max(1) as f64;
        (self.n_file_bytes as f64 * share) as u64
    }
}

/// Refuses a column that does not hold one string a row.
fn check_column(path: &Path, column: &ColumnDescriptor) -> Result<(), DataError> {
    let is_text = column.physical_type() == parquet::basic::Type::BYTE_ARRAY;
    if is_text && column.max_rep_level() == 0 {
        return Ok(());
    }
    let found = if is_text { "a list".to_owned() } else { column.physical_type().to_string() };
    Err(DataError::corrupt(
        path,
        format!("column `{}` holds {found}, not one string a row", column.path().string()),
        "choose the column that holds the text with --text-column",
    ))
}

/// Runs a call of the parquet library, whose answer to a broken file may be a panic.
fn guarded<T>(path: &Path, call: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DataError> {
    const REPLACE: &str = "check that it is a whole parquet file, or fetch it again";
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let message = error.to_string();
            let (what, fix) = if message.contains("Disabled feature") {
                (
                    "compressed with a codec that this program does not read",
                    "write it again uncompressed or with snappy or zstd",
                )
            } else {
                ("not a readable parquet file", REPLACE)
            };
            Err(DataError::corrupt(path, format!("{what} ({message})"), fix))
        }
        Err(_) => Err(DataError::corrupt(path, "not a readable parquet file", REPLACE)),
    }
}
