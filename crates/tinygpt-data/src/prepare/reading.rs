//! One stage of `prepare`: processes documents in batches, reports progress and can be stopped.

use crate::error::DataError;
use crate::progress::{PrepareProgress, Stage};
use crate::source::{Documents, Piece};

use super::pipeline::in_order;

/// The default size of a batch, in bytes of text.
pub(super) const BATCH_BYTES: usize = 1 << 20;

/// A stage in which a text is read.
pub(super) struct Reading<'a> {
    pub(super) stage: Stage,
    /// The size of the files that are read, in bytes.
    pub(super) n_bytes: Option<u64>,
    /// The size of a batch, in bytes of text.
    pub(super) batch_bytes: usize,
    pub(super) progress: &'a dyn PrepareProgress,
}

impl Reading<'_> {
    /// Works on all `documents` in parallel, and `take`s the results in the order of the text.
    ///
    /// `worker` is called once on each worker thread; the closure it returns is called with batches of
    /// about `batch_bytes`, whole pieces.
    pub(super) fn run<R: Send, W: FnMut(&[Piece]) -> Result<R, DataError>>(
        &self,
        documents: &mut dyn Documents,
        worker: impl Fn() -> W + Sync,
        mut take: impl FnMut(R) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        self.progress.begin(self.stage, self.n_bytes);
        let mut n_before = 0;
        let read = || {
            let batch = read_batch(documents, self.batch_bytes)?;
            let n_bytes = documents.n_bytes_read();
            let n_new = n_bytes - std::mem::replace(&mut n_before, n_bytes);
            Ok((!batch.is_empty()).then_some((batch, n_new)))
        };
        let worker = || {
            let mut work = worker();
            move |(batch, n_new): (Vec<Piece>, u64)| Ok((work(&batch)?, n_new))
        };
        in_order(read, worker, |(result, n_new)| {
            if self.progress.is_stopped() {
                return Err(DataError::Stopped);
            }
            take(result)?;
            self.progress.advance(n_new);
            Ok(())
        })?;
        self.progress.finish();
        Ok(())
    }
}

/// The next pieces, together about `batch_bytes`; none at the end.
fn read_batch(documents: &mut dyn Documents, batch_bytes: usize) -> Result<Vec<Piece>, DataError> {
    let mut batch = Vec::new();
    let mut n_bytes = 0;
    while n_bytes < batch_bytes {
        let Some(piece) = documents.next_piece()? else { break };
        n_bytes += piece.text.len();
        batch.push(piece);
    }
    Ok(batch)
}
