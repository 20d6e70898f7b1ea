//! The two splits of a text, and the documents of one of them out of a stream that holds both.

use crate::error::DataError;
use crate::source::{Documents, Piece, Tally};
use crate::subset::Subset;

/// One of the two splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    Train,
    Val,
}

impl Split {
    /// The beginning of its shards' names.
    pub(super) fn file_prefix(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }
}

/// Where the training text ends and the validation text begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boundary {
    /// They are two texts.
    Separate,
    /// At this character of the only document.
    Character(u64),
    /// At the first document that begins at or after this character; the last one validates
    /// wherever it begins.
    Document { character: u64, last_document_idx: u64 },
}

/// The documents of one split out of a stream that may hold both.
pub(super) struct SplitDocuments<'a> {
    inner: Box<dyn Documents + 'a>,
    split: Split,
    boundary: Boundary,
    subset: Option<Subset>,
    document_idx: u64,
    /// The characters before the next piece.
    n_characters: u64,
    at_document_start: bool,
    /// Whether the current document belongs to the split and its subset.
    taking: bool,
}

impl<'a> SplitDocuments<'a> {
    /// The documents of `split` out of `inner`; of the documents in it those that `subset` keeps.
    pub(super) fn new(
        inner: Box<dyn Documents + 'a>,
        split: Split,
        boundary: Boundary,
        subset: Option<Subset>,
    ) -> Self {
        Self {
            inner,
            split,
            boundary,
            subset,
            document_idx: 0,
            n_characters: 0,
            at_document_start: true,
            taking: false,
        }
    }

    /// Whether the document that begins here is wanted.
    fn wants_document(&mut self) -> bool {
        let in_split = match self.boundary {
            Boundary::Separate | Boundary::Character(_) => true,
            Boundary::Document { character, last_document_idx } => {
                let validates =
                    self.n_characters >= character || self.document_idx == last_document_idx;
                validates == (self.split == Split::Val)
            }
        };
        in_split && self.subset.as_mut().is_none_or(|subset| subset.keep(self.document_idx))
    }

    /// The part of a piece of the only document that lies in the split.
    ///
    /// A cut text has no end of a document: there is nothing to separate.
    fn clip(&self, mut piece: Piece, boundary: u64) -> Option<Piece> {
        let n_before = usize::try_from(boundary.saturating_sub(self.n_characters)).ok()?;
        let at = piece.text.char_indices().nth(n_before).map_or(piece.text.len(), |(at, _)| at);
        match self.split {
            Split::Train => piece.text.truncate(at),
            Split::Val => _ = piece.text.drain(..at),
        }
        (!piece.text.is_empty()).then_some(Piece { text: piece.text, ends_document: false })
    }
}

impl Documents for SplitDocuments<'_> {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        while let Some(piece) = self.inner.next_piece()? {
            if self.at_document_start {
                self.taking = self.wants_document();
            }
            self.at_document_start = piece.ends_document;
            self.document_idx += u64::from(piece.ends_document);
            // Two texts need no counting: where one ends is known.
            let is_separate = self.boundary == Boundary::Separate;
            let n_characters = if is_separate { 0 } else { piece.text.chars().count() as u64 };
            let wanted = match self.boundary {
                Boundary::Character(boundary) => self.clip(piece, boundary),
                _ => self.taking.then_some(piece),
            };
            self.n_characters += n_characters;
            if wanted.is_some() {
                return Ok(wanted);
            }
        }
        Ok(None)
    }

    fn tally(&self) -> Tally {
        self.inner.tally()
    }

    fn n_bytes_read(&self) -> u64 {
        self.inner.n_bytes_read()
    }
}
