//! Parquet: a string column or several, its row groups decoded in parallel and handed over in order.
//!
//! Decoder number k of n takes row groups k, k + n, k + 2n and so on, and sends what it reads
//! through a short queue of its own; the reader empties the queues in turn. So at most a few
//! megabytes wait, however large a row group is. Only the pages of wanted columns are read.
//!
//! The parquet library may panic on a damaged file: see [`crate::catch_panic`].

mod codec;
mod column;
mod conversations;
mod guard;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::records::Fault;
use super::{Documents, Piece, ReadAs, SourceStats};
use crate::catch_panic;
use crate::error::DataError;
use column::{Batch, Columns};
use conversations::Rows;

/// How many batches wait for the reader in the queue of one decoder.
const QUEUE_BATCHES: usize = 2;

/// The most decoders of one file: the encoders behind them need the threads more.
const MAX_DECODERS: usize = 8;

/// What a decoder sends.
enum Message {
    Rows(Batch),
    EndOfRowGroup,
    Failed(DataError),
}

/// A reader of one `.parquet` file.
pub(super) struct Parquet {
    path: PathBuf,
    queues: Vec<Receiver<Message>>,
    decoders: Vec<JoinHandle<Option<()>>>,
    n_row_groups: usize,
    row_group_idx: usize,
    n_rows: u64,
    n_rows_read: u64,
    n_file_bytes: u64,
    ready: VecDeque<Piece>,
    stats: SourceStats,
    /// The first row that could not be used, of a file of conversations.
    first_fault: Option<Fault>,
}

impl Parquet {
    pub(super) fn open(path: &Path, read_as: &ReadAs, n_threads: usize) -> Result<Self, DataError> {
        let opened = catch_panic::guard(|| Columns::open(path, read_as));
        let columns = Arc::new(opened.ok_or_else(|| column::unreadable(path, None))??);
        let n_row_groups = columns.n_row_groups();
        let n_decoders = n_threads.clamp(1, MAX_DECODERS).min(n_row_groups);
        let (mut queues, mut decoders) = (Vec::new(), Vec::new());
        for first in 0..n_decoders {
            let (sender, queue) = sync_channel(QUEUE_BATCHES);
            let columns = Arc::clone(&columns);
            let decoder = catch_panic::spawn(move || {
                for row_group_idx in (first..n_row_groups).step_by(n_decoders) {
                    let send = |batch| sender.send(Message::Rows(batch)).is_ok();
                    let message = match columns.read_row_group(row_group_idx, send) {
                        Ok(true) => Message::EndOfRowGroup,
                        // The reader was dropped.
                        Ok(false) => return,
                        Err(error) => Message::Failed(error),
                    };
                    if sender.send(message).is_err() {
                        return;
                    }
                }
            });
            decoders.push(decoder.map_err(DataError::io("start a thread for", path))?);
            queues.push(queue);
        }
        Ok(Self {
            path: path.to_path_buf(),
            queues,
            decoders,
            n_row_groups,
            row_group_idx: 0,
            n_rows: columns.n_rows(),
            n_rows_read: 0,
            n_file_bytes: columns.n_file_bytes(),
            ready: VecDeque::new(),
            stats: SourceStats::default(),
            first_fault: None,
        })
    }
}

impl Parquet {
    /// Opens a file of conversations.
    pub(super) fn open_chat(path: &Path, read_as: &ReadAs) -> Result<Self, DataError> {
        let opened = catch_panic::guard(|| Rows::open(path, read_as));
        let rows = opened.ok_or_else(|| column::unreadable(path, None))??;
        let n_rows = rows.n_rows();
        let (sender, queue) = sync_channel(QUEUE_BATCHES);
        let decoded = path.to_path_buf();
        let decoder = catch_panic::spawn(move || {
            let send = |batch| sender.send(Message::Rows(batch)).is_ok();
            let message = match rows.read(&decoded, send) {
                Ok(_) => Message::EndOfRowGroup,
                Err(error) => Message::Failed(error),
            };
            // The reader may have been dropped.
            _ = sender.send(message);
        });
        Ok(Self {
            path: path.to_path_buf(),
            queues: vec![queue],
            decoders: vec![decoder.map_err(DataError::io("start a thread for", path))?],
            // The rows of all of them come one after the other.
            n_row_groups: 1,
            row_group_idx: 0,
            n_rows,
            n_rows_read: 0,
            n_file_bytes: fs::metadata(path).map_err(DataError::io("read", path))?.len(),
            ready: VecDeque::new(),
            stats: SourceStats::default(),
            first_fault: None,
        })
    }
}

impl Documents for Parquet {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            if self.row_group_idx == self.n_row_groups {
                return Ok(None);
            }
            let queue = &self.queues[self.row_group_idx % self.queues.len()];
            match queue.recv() {
                Ok(Message::Rows(batch)) => {
                    self.ready = batch.pieces;
                    self.stats += &batch.stats;
                    self.first_fault = self.first_fault.take().or(batch.first_fault);
                    self.n_rows_read += batch.n_rows;
                }
                Ok(Message::EndOfRowGroup) => self.row_group_idx += 1,
                Ok(Message::Failed(error)) => return Err(error),
                Err(_) => return Err(column::unreadable(&self.path, None)),
            }
        }
    }

    fn stats(&self) -> SourceStats {
        self.stats.clone()
    }

    fn first_fault(&self) -> Option<&Fault> {
        self.first_fault.as_ref()
    }

    /// The rows read so far, as their share of the file's bytes.
    fn n_bytes_read(&self) -> u64 {
        let share = self.n_rows_read as f64 / self.n_rows.max(1) as f64;
        (self.n_file_bytes as f64 * share.min(1.0)) as u64
    }
}

impl Drop for Parquet {
    fn drop(&mut self) {
        // Without a reader the decoders end with the current batch.
        self.queues.clear();
        for decoder in self.decoders.drain(..) {
            // A panic was an error already, or came after all that was asked for.
            drop(decoder.join());
        }
    }
}
