//! The column of a parquet file that holds the text: found, checked, and read by row group.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, Type};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;

use super::guard::{CheckedFile, CheckedPages};
use crate::error::DataError;
use crate::source::utf8::to_text;
use crate::source::{PIECE_BYTES, Piece, ReadAs, Tally, cut_document};

/// How many rows are read at once.
const BATCH_ROWS: usize = 256;

/// Some rows of a row group, in order.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) pieces: VecDeque<Piece>,
    pub(super) tally: Tally,
    pub(super) n_rows: u64,
}

/// A text column, with what the file says about itself.
pub(super) struct Column {
    path: PathBuf,
    metadata: ParquetMetaData,
    column_idx: usize,
    read_as: ReadAs,
    n_file_bytes: u64,
}

impl Column {
    /// Reads the file's own description and finds the column in it.
    pub(super) fn open(path: &Path, read_as: &ReadAs) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("read", path))?;
        let n_file_bytes = file.metadata().map_err(DataError::io("read", path))?.len();
        let metadata = ParquetMetaDataReader::new()
            .parse_and_finish(&file)
            .map_err(|error| unreadable(path, Some(&error)))?;
        let schema = metadata.file_metadata().schema_descr_ptr();
        let found = schema.columns().iter().position(|c| c.path().string() == read_as.text_column);
        let column_idx = found.ok_or_else(|| DataError::MissingColumn {
            path: path.to_path_buf(),
            column: read_as.text_column.clone(),
            available: schema.columns().iter().map(|c| c.path().string()).collect(),
        })?;
        check_column(path, &schema.column(column_idx))?;
        for row_group in metadata.row_groups() {
            check_codec(path, row_group.column(column_idx).compression())?;
        }
        let path = path.to_path_buf();
        Ok(Self { path, metadata, column_idx, read_as: read_as.clone(), n_file_bytes })
    }

    pub(super) fn n_row_groups(&self) -> usize {
        self.metadata.num_row_groups()
    }

    /// The rows that the file says it has.
    pub(super) fn n_rows(&self) -> u64 {
        u64::try_from(self.metadata.file_metadata().num_rows()).unwrap_or(0)
    }

    pub(super) fn n_file_bytes(&self) -> u64 {
        self.n_file_bytes
    }

    /// Reads a row group in batches of about [`PIECE_BYTES`]; ends early, with false, when
    /// `send` returns false.
    pub(super) fn read_row_group(
        &self,
        row_group_idx: usize,
        mut send: impl FnMut(Batch) -> bool,
    ) -> Result<bool, DataError> {
        let broken = |error: ParquetError| unreadable(&self.path, Some(&error));
        let row_group = self.metadata.row_group(row_group_idx);
        let n_declared = u64::try_from(row_group.num_rows()).unwrap_or(0);
        let mut rows = self.rows_of(row_group_idx)?;
        let descriptor = row_group.column(self.column_idx).column_descr();
        let max_level = descriptor.max_def_level();
        let (mut values, mut levels) = (Vec::<ByteArray>::new(), Vec::new());
        let (mut n_rows, mut n_bytes, mut batch) = (0, 0, Batch::default());
        loop {
            values.clear();
            levels.clear();
            let wanted = (max_level > 0).then_some(&mut levels);
            let (n_read, _, _) =
                rows.read_records(BATCH_ROWS, wanted, None, &mut values).map_err(broken)?;
            batch.n_rows += n_read as u64;
            batch.tally.n_nulls += levels.iter().filter(|&&level| level < max_level).count() as u64;
            for (value_idx, value) in values.iter().enumerate() {
                n_bytes += value.len();
                let row = || row_of_value(n_rows, &levels, max_level, value_idx);
                self.take(value, row_group_idx, row, &mut batch)?;
            }
            n_rows += n_read as u64;
            if (n_bytes >= PIECE_BYTES || n_read == 0) && !send(std::mem::take(&mut batch)) {
                return Ok(false);
            }
            if n_bytes >= PIECE_BYTES {
                n_bytes = 0;
            }
            if n_read == 0 {
                break;
            }
        }
        if n_rows == n_declared {
            return Ok(true);
        }
        let what = format!("row group {row_group_idx} has {n_rows} rows, expected {n_declared}");
        Err(DataError::corrupt(&self.path, what, REPLACE))
    }

    /// Opens the pages of a row group; each decoder reads through a file handle of its own.
    fn rows_of(&self, row_group_idx: usize) -> Result<ColumnReaderImpl<ByteArrayType>, DataError> {
        let broken = |error: ParquetError| unreadable(&self.path, Some(&error));
        let row_group = self.metadata.row_group(row_group_idx);
        let column = row_group.column(self.column_idx);
        let file = File::open(&self.path).map_err(DataError::io("read", &self.path))?;
        let n_rows = usize::try_from(row_group.num_rows()).unwrap_or(0);
        let pages = SerializedPageReader::new(Arc::new(CheckedFile(file)), column, n_rows, None)
            .map_err(broken)?;
        let has_levels = column.column_descr().max_def_level() > 0;
        let pages = CheckedPages { pages: Box::new(pages), has_levels };
        Ok(ColumnReaderImpl::new(column.column_descr_ptr(), Box::new(pages)))
    }

    /// Adds one value to the batch.
    fn take(
        &self,
        value: &ByteArray,
        row_group_idx: usize,
        row: impl FnOnce() -> u64,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        let bytes = value.data().to_vec();
        let text = to_text(bytes, self.read_as.lossy, &mut batch.tally.n_replaced);
        match text {
            Ok(text) if text.is_empty() => batch.tally.n_empty += 1,
            Ok(text) => cut_document(text, &mut batch.pieces),
            Err(offset) => {
                let (column, row) = (&self.read_as.text_column, row());
                return Err(DataError::corrupt(
                    &self.path,
                    format!(
                        "row group {row_group_idx}, row {row}, column `{column}`: invalid UTF-8 \
                         at byte {offset} of the value"
                    ),
                    "write the column again as UTF-8 strings, or replace such bytes with --lossy",
                ));
            }
        }
        Ok(())
    }
}

/// The row, in its row group, of a value: nulls have a row but no value.
fn row_of_value(first_row: u64, levels: &[i16], max_level: i16, value_idx: usize) -> u64 {
    let with_value = levels.iter().enumerate().filter(|&(_, &level)| level == max_level);
    let row = with_value.map(|(row, _)| row).nth(value_idx).unwrap_or(value_idx);
    first_row + row as u64
}

/// Refuses a column that does not hold one string a row.
fn check_column(path: &Path, column: &ColumnDescriptor) -> Result<(), DataError> {
    let is_text = column.physical_type() == Type::BYTE_ARRAY;
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

/// Refuses a codec that is not compiled in.
fn check_codec(path: &Path, codec: Compression) -> Result<(), DataError> {
    match codec {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_) => Ok(()),
        other => {
            let name = format!("{other:?}");
            let name = name.split('(').next().unwrap_or_default().to_ascii_lowercase();
            Err(DataError::corrupt(
                path,
                format!("compressed with {name}, which this program does not read"),
                "write it again uncompressed or with snappy or zstd",
            ))
        }
    }
}

const REPLACE: &str = "check that it is a whole parquet file, or fetch it again";

/// The error of a file that the library cannot read, or over which it panicked.
pub(super) fn unreadable(path: &Path, error: Option<&ParquetError>) -> DataError {
    let why = error.map(|error| format!(" ({error})")).unwrap_or_default();
    DataError::corrupt(path, format!("not a readable parquet file{why}"), REPLACE)
}
