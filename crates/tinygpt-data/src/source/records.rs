//! Records of a file in any format: those with text become documents, the others are
//! counted, and too many unusable ones are an error.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::conversations;
use super::fields::Joined;
use super::input::Input;
use super::{Documents, Piece, ReadAs, SourceStats, cut_document};
use crate::chat;
use crate::error::DataError;
use crate::quote::{escaped_excerpt, quoted_list};

/// If none of this many records can be used, the rest is not read.
const HOPELESS: u64 = 1_000;

/// Why a record cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    path: PathBuf,
    line: u64,
    what: String,
    fix: String,
    /// The field that is not there, and those that are.
    missing: Option<(String, Vec<String>)>,
}

impl Fault {
    /// The error of a file of which no record can be used.
    pub(super) fn into_error(self) -> DataError {
        match self.missing {
            Some((column, available)) => DataError::MissingColumn {
                path: self.path,
                line: Some(self.line),
                column,
                available,
            },
            None => {
                let what = format!("line {}: {}", self.line, self.what);
                DataError::corrupt(&self.path, what, self.fix)
            }
        }
    }

    /// The error of a text of which too many records cannot be used.
    pub(super) fn too_many(self, stats: &SourceStats) -> DataError {
        let (refused, allowing) = stats.too_many_bad();
        let what = format!("line {}: {}; {refused}", self.line, self.what);
        let fix = format!("{}, or {allowing}", self.fix);
        DataError::corrupt(&self.path, what, fix)
    }
}

/// The records of one file, so far.
pub(super) struct Records {
    path: PathBuf,
    pub(super) read_as: ReadAs,
    pub(super) ready: VecDeque<Piece>,
    pub(super) stats: SourceStats,
    pub(super) first_fault: Option<Fault>,
    n_good: u64,
}

impl Records {
    pub(super) fn of(path: &Path, read_as: &ReadAs) -> Self {
        Self {
            path: path.to_path_buf(),
            read_as: read_as.clone(),
            ready: VecDeque::new(),
            stats: SourceStats::default(),
            first_fault: None,
            n_good: 0,
        }
    }

    /// Adds the record on `line`; `available` lists its fields.
    pub(super) fn take(
        &mut self,
        joined: Joined,
        line: u64,
        available: impl FnOnce() -> Vec<String>,
    ) -> Result<(), DataError> {
        let select = "set `text_column` to the column that holds the text";
        match joined {
            Joined::Text(text) => {
                self.n_good += 1;
                if text.is_empty() {
                    self.stats.n_empty += 1;
                } else {
                    cut_document(text, &mut self.ready);
                }
                Ok(())
            }
            Joined::Null => {
                self.n_good += 1;
                self.stats.n_nulls += 1;
                Ok(())
            }
            Joined::NotText(what) => self.bad(line, what, select, None),
            Joined::Missing(name) => {
                let available = available();
                let what =
                    format!("no `{}`; it has {}", escaped_excerpt(&name), quoted_list(&available));
                self.bad(line, what, select, Some((name, available)))
            }
        }
    }

    /// Adds the conversation on `line`, whole: its messages are not cut.
    pub(super) fn take_conversation(&mut self, record: &Value, line: u64) -> Result<(), DataError> {
        match conversations::document_of(record) {
            Ok(text) => {
                self.n_good += 1;
                self.ready.push_back(Piece { text, ends_document: true });
                Ok(())
            }
            Err(what) => self.bad(line, what, chat::EXPECTED, None),
        }
    }

    /// Counts a record that cannot be used.
    pub(super) fn bad(
        &mut self,
        line: u64,
        what: String,
        fix: &str,
        missing: Option<(String, Vec<String>)>,
    ) -> Result<(), DataError> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.stats.add_bad(|| format!("{} line {line}: {what}", escaped_excerpt(&name)));
        let path = self.path.clone();
        let fault = Fault { path, line, what, fix: fix.to_owned(), missing };
        let fault = self.first_fault.get_or_insert(fault);
        if self.n_good == 0 && self.stats.n_bad >= HOPELESS {
            return Err(fault.clone().into_error());
        }
        Ok(())
    }
}

/// A reader of a format whose documents are records, taken one after the other.
pub(super) trait RecordReader: Send {
    /// What it has taken so far.
    fn records(&self) -> &Records;

    /// The same, to take documents out of it.
    fn records_mut(&mut self) -> &mut Records;

    /// Its file.
    fn input(&self) -> &Input;

    /// Takes the next record, if it is one; false at the end of the file.
    fn take_next(&mut self) -> Result<bool, DataError>;
}

impl<R: RecordReader> Documents for R {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        loop {
            if let Some(piece) = self.records_mut().ready.pop_front() {
                return Ok(Some(piece));
            }
            if !self.take_next()? {
                return Ok(None);
            }
        }
    }

    fn stats(&self) -> SourceStats {
        let mut stats = self.records().stats.clone();
        stats.n_replaced += self.input().n_replaced();
        stats
    }

    fn n_bytes_read(&self) -> u64 {
        self.input().n_file_bytes()
    }

    fn first_fault(&self) -> Option<&Fault> {
        self.records().first_fault.as_ref()
    }
}
