//! The generated documents of a built-in dataset.

use super::{Documents, Piece, SourceStats};
use crate::error::DataError;

/// The documents of an iterator, each short enough for one piece.
pub(super) struct Generated<I> {
    documents: I,
    n_bytes: u64,
}

impl<I> Generated<I> {
    pub(super) fn new(documents: I) -> Self {
        Self { documents, n_bytes: 0 }
    }
}

impl<I: Iterator<Item = String> + Send> Documents for Generated<I> {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        let Some(text) = self.documents.next() else { return Ok(None) };
        self.n_bytes += text.len() as u64;
        Ok(Some(Piece { text, ends_document: true }))
    }

    fn stats(&self) -> SourceStats {
        SourceStats::default()
    }

    fn n_bytes_read(&self) -> u64 {
        self.n_bytes
    }
}
