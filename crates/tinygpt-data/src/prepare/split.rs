//! The two splits of a text, and the documents of one of them from a stream that holds both.

use crate::error::DataError;
use crate::source::{Documents, Piece, SourceStats};

use super::divide::{Boundary, Draw};
use super::subset::Subset;

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

    /// The beginning of the names of the shards that say which of its tokens are learned.
    pub(super) fn mask_prefix(self) -> &'static str {
        match self {
            Self::Train => "train-mask",
            Self::Val => "val-mask",
        }
    }
}

/// Where a document belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Located {
    /// All of it to this split.
    Whole(Split),
    /// To training up to this character of it, to validation from there; it may end before that.
    Cut(u64),
}

/// The documents of one split out of a stream that may hold both.
pub(super) struct SplitDocuments<'a> {
    inner: Box<dyn Documents + 'a>,
    split: Split,
    boundary: Boundary,
    draw: Draw,
    subset: Option<Subset>,
    document_idx: u64,
    /// The characters before the current document, in all documents and in those of the group
    /// that is cut.
    n_before: u64,
    n_before_in_group: u64,
    /// The characters of the current document before the next piece.
    n_in_document: u64,
    at_document_start: bool,
    place: Located,
    /// Whether the current document is in the subset.
    is_kept: bool,
    /// Whether a piece of the current document was returned.
    is_given: bool,
    n_given: u64,
    cut_document: Option<u64>,
}

impl<'a> SplitDocuments<'a> {
    /// The documents of `split` out of `inner`; of the documents in it those that `subset` keeps.
    /// The first of them has the number `first_idx`.
    pub(super) fn new(
        inner: Box<dyn Documents + 'a>,
        split: Split,
        boundary: Boundary,
        subset: Option<Subset>,
        first_idx: u64,
    ) -> Self {
        let seed = if let Boundary::Drawn { seed, .. } = boundary { seed } else { 0 };
        Self {
            inner,
            split,
            boundary,
            draw: Draw::new(seed),
            subset,
            document_idx: first_idx,
            n_before: 0,
            n_before_in_group: 0,
            n_in_document: 0,
            at_document_start: true,
            place: Located::Whole(split),
            is_kept: true,
            is_given: false,
            n_given: 0,
            cut_document: None,
        }
    }

    /// How many documents of the split were given so far, in whole or in part.
    pub(super) fn n_documents(&self) -> u64 {
        self.n_given
    }

    /// The number of the next document, of all that were read.
    pub(super) fn next_idx(&self) -> u64 {
        self.document_idx
    }

    /// The document that was cut between the splits, counted from 0, if one was.
    pub(super) fn cut_document(&self) -> Option<u64> {
        self.cut_document
    }

    fn begin_document(&mut self) {
        self.place = match self.boundary {
            Boundary::Separate { .. } => Located::Whole(self.split),
            Boundary::Character { character, .. } if self.n_before >= character => {
                Located::Whole(Split::Val)
            }
            Boundary::Character { character, .. } => Located::Cut(character - self.n_before),
            Boundary::Document { character, last_document_idx } => {
                let validates =
                    self.n_before >= character || self.document_idx == last_document_idx;
                Located::Whole(if validates { Split::Val } else { Split::Train })
            }
            Boundary::Drawn { below, cut, .. } => {
                let group = self.draw.group(self.document_idx);
                match cut.filter(|_| group == below) {
                    Some(at) => Located::Cut(at.saturating_sub(self.n_before_in_group)),
                    None if group < below => Located::Whole(Split::Val),
                    None => Located::Whole(Split::Train),
                }
            }
        };
        self.is_kept = self.subset.as_mut().is_none_or(|subset| subset.keep(self.document_idx));
        self.is_given = false;
    }

    fn end_document(&mut self) {
        let length = std::mem::take(&mut self.n_in_document);
        self.n_before += length;
        let is_in_cut_group =
            matches!((self.boundary, self.place), (Boundary::Drawn { .. }, Located::Cut(_)));
        self.n_before_in_group += if is_in_cut_group { length } else { 0 };
        self.document_idx += 1;
    }

    /// The part of a piece of the current document that lies in the split.
    fn part_of(&mut self, piece: Piece, n_characters: u64) -> Option<Piece> {
        let Located::Cut(at) = self.place else {
            return (self.place == Located::Whole(self.split)).then_some(piece);
        };
        let (start, end) = (self.n_in_document, self.n_in_document + n_characters);
        if end <= at {
            return (self.split == Split::Train).then_some(piece);
        }
        if at > 0 {
            self.cut_document = Some(self.document_idx);
        }
        // Ends the training part like a document, but only where another document follows it.
        let separates = matches!(self.boundary, Boundary::Drawn { .. });
        let Piece { mut text, ends_document } = piece;
        let n_to_cut = usize::try_from(at.saturating_sub(start)).ok()?;
        let cut = text.char_indices().nth(n_to_cut).map_or(text.len(), |(cut, _)| cut);
        match self.split {
            // A cut between two pieces is known when the second one comes.
            Split::Train if start > at || at == 0 => None,
            Split::Train => {
                text.truncate(cut);
                (start < at || separates).then_some(Piece { text, ends_document: separates })
            }
            Split::Val => {
                _ = text.drain(..cut);
                let is_only_document =
                    matches!(self.boundary, Boundary::Character { is_only_document: true, .. });
                Some(Piece { text, ends_document: ends_document && !is_only_document })
            }
        }
    }
}

impl Documents for SplitDocuments<'_> {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        while let Some(mut piece) = self.inner.next_piece()? {
            if self.at_document_start {
                self.begin_document();
            }
            // Two texts need no counting: where one ends is known.
            let n_characters = match self.boundary {
                Boundary::Separate { is_one_document } => {
                    piece.ends_document &= !is_one_document;
                    0
                }
                _ => piece.text.chars().count() as u64,
            };
            self.at_document_start = piece.ends_document;
            let wanted = if self.is_kept { self.part_of(piece, n_characters) } else { None };
            self.n_in_document += n_characters;
            if self.at_document_start {
                self.end_document();
            }
            if wanted.is_some() {
                self.n_given += u64::from(!std::mem::replace(&mut self.is_given, true));
                return Ok(wanted);
            }
        }
        Ok(None)
    }

    fn stats(&self) -> SourceStats {
        self.inner.stats()
    }

    fn n_bytes_read(&self) -> u64 {
        self.inner.n_bytes_read()
    }
}
