//! The columns of a parquet file that hold the text: found, checked, and read by row group.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::{Compression, Type};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::schema::types::ColumnDescriptor;

use super::guard::CheckedPages;
use crate::error::DataError;
use crate::quote::{escaped_excerpt, escaped_message};
use crate::source::fields::{Joined, Value};
use crate::source::records::Fault;
use crate::source::utf8::to_text;
use crate::source::{PIECE_BYTES, Piece, ReadAs, SourceStats, cut_document};

/// The amount of text that is always accepted, in bytes.
const HARMLESS_BYTES: u64 = 256 << 20;

/// Real text is never compressed more densely. A dictionary's entry can be repeated without end.
const MAX_RATIO: u64 = 1_000;

/// How many rows are read at once.
const BATCH_ROWS: usize = 256;

/// Some rows of a row group, in order.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) pieces: VecDeque<Piece>,
    pub(super) stats: SourceStats,
    pub(super) n_rows: u64,
    /// The first row that could not be used; only conversations have such rows.
    pub(super) first_fault: Option<Fault>,
    pub(super) n_bytes: usize,
}

/// The columns that hold a text, with what the file says about itself.
pub(super) struct Columns {
    path: PathBuf,
    metadata: ParquetMetaData,
    column_idxs: Vec<usize>,
    read_as: ReadAs,
    n_file_bytes: u64,
    /// The text that was read so far.
    n_text_bytes: AtomicU64,
}

impl Columns {
    /// Reads the file's own description and finds the columns in it.
    pub(super) fn open(path: &Path, read_as: &ReadAs) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("read", path))?;
        let n_file_bytes = file.metadata().map_err(DataError::io("read", path))?.len();
        let metadata = ParquetMetaDataReader::new()
            .parse_and_finish(&file)
            .map_err(|error| unreadable(path, Some(&error)))?;
        let schema = metadata.file_metadata().schema_descr_ptr();
        let mut column_idxs = Vec::new();
        for name in read_as.fields.names() {
            let found = schema.columns().iter().position(|c| c.path().string() == *name);
            let column_idx = found.ok_or_else(|| DataError::MissingColumn {
                path: path.to_path_buf(),
                line: None,
                column: name.clone(),
                available: schema.columns().iter().map(|c| c.path().string()).collect(),
            })?;
            check_column(path, &schema.column(column_idx))?;
            for row_group in metadata.row_groups() {
                check_codec(path, row_group.column(column_idx).compression())?;
            }
            column_idxs.push(column_idx);
        }
        let path = path.to_path_buf();
        let (read_as, n_text_bytes) = (read_as.clone(), AtomicU64::new(0));
        Ok(Self { path, metadata, column_idxs, read_as, n_file_bytes, n_text_bytes })
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
        let n_declared =
            u64::try_from(self.metadata.row_group(row_group_idx).num_rows()).unwrap_or(0);
        let mut columns: Vec<Cells> = self
            .column_idxs
            .iter()
            .map(|&column_idx| self.cells_of(row_group_idx, column_idx))
            .collect::<Result<_, _>>()?;
        let (mut n_rows, mut batch) = (0, Batch::default());
        loop {
            let mut n_read = None;
            for column in &mut columns {
                let n = column.read().map_err(|e| self.broken(&e))?;
                if *n_read.get_or_insert(n) != n {
                    let what = format!("row group {row_group_idx} has columns of other lengths");
                    return Err(DataError::corrupt(&self.path, what, REPLACE));
                }
            }
            let n_read = n_read.unwrap_or(0);
            for row in 0..n_read {
                self.take_row(&mut columns, row, (row_group_idx, n_rows), &mut batch)?;
                n_rows += 1;
                batch.n_rows += 1;
                // A row may be as long as a page: there is no waiting for more of them.
                if batch.n_bytes >= PIECE_BYTES && !send(self.counted(&mut batch)?) {
                    return Ok(false);
                }
            }
            if n_read == 0 {
                break;
            }
        }
        if !send(self.counted(&mut batch)?) {
            return Ok(false);
        }
        if n_rows == n_declared {
            return Ok(true);
        }
        let what = format!("row group {row_group_idx} has {n_rows} rows, expected {n_declared}");
        Err(DataError::corrupt(&self.path, what, REPLACE))
    }

    /// Takes a batch that is full, after its bytes were counted.
    fn counted(&self, batch: &mut Batch) -> Result<Batch, DataError> {
        let n_bytes = batch.n_bytes as u64;
        let n_all = self.n_text_bytes.fetch_add(n_bytes, Ordering::Relaxed) + n_bytes;
        if n_all > HARMLESS_BYTES.max(self.n_file_bytes.saturating_mul(MAX_RATIO)) {
            let what = format!(
                "{} bytes that unpack to more than {n_all} bytes of text",
                self.n_file_bytes
            );
            return Err(DataError::corrupt(&self.path, what, REPLACE));
        }
        Ok(std::mem::take(batch))
    }

    fn broken(&self, error: &ParquetError) -> DataError {
        unreadable(&self.path, Some(error))
    }

    /// Opens the pages of a column; each decoder reads through a file handle of its own.
    fn cells_of(&self, row_group_idx: usize, column_idx: usize) -> Result<Cells, DataError> {
        let row_group = self.metadata.row_group(row_group_idx);
        let column = row_group.column(column_idx);
        let file = File::open(&self.path).map_err(DataError::io("read", &self.path))?;
        let n_rows = usize::try_from(row_group.num_rows()).unwrap_or(0);
        let has_levels = column.column_descr().max_def_level() > 0;
        let pages = CheckedPages::open(file, column, n_rows, has_levels);
        let pages = pages.map_err(|error| self.broken(&error))?;
        Ok(Cells {
            rows: ColumnReaderImpl::new(column.column_descr_ptr(), Box::new(pages)),
            max_level: column.column_descr().max_def_level(),
            values: Vec::new(),
            levels: Vec::new(),
            value_idx: 0,
        })
    }

    /// Adds a row, the next one of each column, to the batch.
    fn take_row(
        &self,
        columns: &mut [Cells],
        row: usize,
        (row_group_idx, row_in_group): (usize, u64),
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        let mut values = Vec::with_capacity(columns.len());
        for (name, column) in self.read_as.fields.names().iter().zip(columns) {
            let Some(bytes) = column.next(row) else {
                values.push(Value::Null);
                continue;
            };
            batch.n_bytes += bytes.len();
            let n_replaced = &mut batch.stats.n_replaced;
            let text = to_text(bytes.data().to_vec(), self.read_as.lossy, n_replaced);
            values.push(Value::Text(Cow::Owned(text.map_err(|offset| {
                DataError::corrupt(
                    &self.path,
                    format!(
                        "row group {row_group_idx}, row {row_in_group}, column `{}`: invalid \
                         UTF-8 at byte {offset} of the value",
                        escaped_excerpt(name)
                    ),
                    "write the column again as UTF-8 strings, or use `lossy` to replace such bytes",
                )
            })?)));
        }
        match self.read_as.fields.join(&mut values) {
            Joined::Text(text) if text.is_empty() => batch.stats.n_empty += 1,
            Joined::Text(text) => cut_document(text, &mut batch.pieces),
            _ => batch.stats.n_nulls += 1,
        }
        Ok(())
    }
}

/// A column of a row group, some rows at a time.
struct Cells {
    rows: ColumnReaderImpl<ByteArrayType>,
    max_level: i16,
    /// The values that are not null.
    values: Vec<ByteArray>,
    levels: Vec<i16>,
    /// The place of the next row's value, if it has one.
    value_idx: usize,
}

impl Cells {
    /// Reads the next rows and returns how many there are.
    fn read(&mut self) -> Result<usize, ParquetError> {
        self.values.clear();
        self.levels.clear();
        self.value_idx = 0;
        let levels = (self.max_level > 0).then_some(&mut self.levels);
        let (n_read, _, _) = self.rows.read_records(BATCH_ROWS, levels, None, &mut self.values)?;
        Ok(n_read)
    }

    /// The value of a row, which follows the last one that was asked for.
    fn next(&mut self, row: usize) -> Option<&ByteArray> {
        if self.max_level > 0 && self.levels.get(row).is_none_or(|&it| it < self.max_level) {
            return None;
        }
        self.value_idx += 1;
        self.values.get(self.value_idx - 1)
    }
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
        format!(
            "column `{}` holds {found}, not one string a row",
            escaped_excerpt(&column.path().string())
        ),
        "set `text_column` to the column that holds the text",
    ))
}

/// Refuses a codec that is not compiled in.
fn check_codec(path: &Path, codec: Compression) -> Result<(), DataError> {
    match codec {
        Compression::UNCOMPRESSED
        | Compression::SNAPPY
        | Compression::GZIP(_)
        | Compression::BROTLI(_)
        | Compression::LZ4
        | Compression::LZ4_RAW
        | Compression::ZSTD(_) => Ok(()),
        other => {
            let name = format!("{other:?}");
            let name = name.split('(').next().unwrap_or_default().to_ascii_lowercase();
            Err(DataError::corrupt(
                path,
                format!("compressed with {name}, which this program does not read"),
                "write it again uncompressed or with zstd",
            ))
        }
    }
}

const REPLACE: &str = "check that it is a whole parquet file, or fetch it again";

/// The error of a file that the library cannot read, or over which it panicked.
pub(super) fn unreadable(path: &Path, error: Option<&ParquetError>) -> DataError {
    let why = error.map(|error| format!(" ({})", escaped_message(&error.to_string())));
    let why = why.unwrap_or_default();
    DataError::corrupt(path, format!("not a readable parquet file{why}"), REPLACE)
}
