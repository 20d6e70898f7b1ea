//! The generated documents of a built-in dataset.

use super::conversations::to_document;
use super::{Documents, Piece, SourceStats};
use crate::error::DataError;
use crate::tales::Tales;
use crate::talks::Talks;

/// What generates documents.
pub(crate) enum Grammar {
    /// Stories.
    Tales(Tales),
    /// Conversations.
    Talks(Talks),
}

/// The first `n` documents of one split.
pub(crate) struct GeneratedText {
    pub(crate) grammar: Grammar,
    pub(crate) is_validation: bool,
    pub(crate) n: usize,
}

impl GeneratedText {
    /// Generates them, from the first one on.
    pub(super) fn open(&self) -> Generated<'_> {
        let documents: Box<dyn Iterator<Item = String> + Send + '_> =
            match (&self.grammar, self.is_validation) {
                (Grammar::Tales(tales), false) => Box::new(tales.train(self.n)),
                (Grammar::Tales(tales), true) => Box::new(tales.validation(self.n)),
                (Grammar::Talks(talks), false) => {
                    Box::new(talks.train(self.n).map(|messages| to_document(&messages)))
                }
                (Grammar::Talks(talks), true) => {
                    Box::new(talks.validation(self.n).map(|messages| to_document(&messages)))
                }
            };
        Generated { documents, n_bytes: 0 }
    }
}

/// The documents of a generator, each short enough for one piece.
pub(super) struct Generated<'a> {
    documents: Box<dyn Iterator<Item = String> + Send + 'a>,
    n_bytes: u64,
}

impl Documents for Generated<'_> {
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
