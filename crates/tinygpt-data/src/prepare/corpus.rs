//! A dataset's text as two streams of documents, one to train on and one to validate on.
//!
//! Either the source has two splits, or a part of its text becomes the validation text: its end, or
//! documents chosen at random. This file knows no tokens and no shards.

use crate::error::DataError;
use crate::prepared::ValSplit;
use crate::progress::{PrepareProgress, Stage};
use crate::source::{Piece, Text};

use super::divide::Boundary;
use super::divide::{Groups, Lengths};
use super::reading::{BATCH_BYTES, Reading};
use super::split::{Split, SplitDocuments};
use super::subset::Subset;

/// A dataset's text, ready to be streamed as often as needed.
pub(super) struct Corpus {
    pub(super) train: Text,
    /// `None` if a part of `train` becomes the validation text.
    pub(super) validation: Option<Text>,
    /// Whether each split of the source is one document, even if it has many records.
    pub(super) is_one_document: bool,
    /// The fraction of `train` to validate on if there is no `validation`.
    pub(super) val_fraction: f64,
    /// Which part that is.
    pub(super) val_split: ValSplit,
    /// The percentage of the training documents to use.
    pub(super) data_percentage: f64,
    /// The seed that chooses documents.
    pub(super) seed: u64,
    /// Whether the documents are conversations, which are never cut.
    pub(super) is_chat: bool,
    /// The number of the first document of `train`: 0 unless files are read one by one.
    pub(super) first_idx: u64,
}

impl Corpus {
    /// Finds where the validation text starts; reads the whole text if the source has no validation split.
    pub(super) fn boundary(&self, progress: &dyn PrepareProgress) -> Result<Boundary, DataError> {
        if self.validation.is_some() {
            if self.is_one_document {
                self.check_takes_all()?;
            }
            return Ok(Boundary::Separate { is_one_document: self.is_one_document });
        }
        let mut lengths = Lengths::new(self.val_fraction);
        let mut groups = (self.val_split == ValSplit::Random).then(|| Groups::new(self.seed));
        self.measure(progress, |length| {
            lengths.add(length);
            if let Some(groups) = &mut groups {
                groups.add(length);
            }
        })?;
        let n_characters = lengths.n_characters();
        match (groups, lengths.n_documents()) {
            (Some(groups), 2..) => {
                let boundary = groups.boundary(self.val_fraction);
                return Ok(if self.is_chat { boundary.whole() } else { boundary });
            }
            (Some(_), 1) => progress.notice(
                "`val_split` is `random`, but this text is one document: its end becomes the \
                 validation text",
            ),
            _ => {}
        }
        if self.is_chat {
            return lengths.whole_end().ok_or_else(|| {
                DataError::usage(
                    "the source has fewer than two conversations",
                    "give more: some validate, and the others are trained on",
                )
            });
        }
        let boundary = lengths.end();
        if let Boundary::Character { character, is_only_document } = boundary {
            if character == 0 || character == n_characters {
                return Err(DataError::usage(
                    format!("the source has a text of {n_characters} characters"),
                    "give more: it is split into one part to train on and one to validate on",
                ));
            }
            if is_only_document {
                self.check_takes_all()?;
            }
        }
        Ok(boundary)
    }

    /// Rejects a percentage of the documents if there is only one.
    fn check_takes_all(&self) -> Result<(), DataError> {
        if self.data_percentage >= 100.0 {
            return Ok(());
        }
        Err(DataError::usage(
            format!("data_percentage is {} but the text is one document", self.data_percentage),
            "whole documents are chosen: leave the option out, or separate the documents by \
             lines `<|endoftext|>`",
        ))
    }

    /// Passes on the length of each training document, in characters and in order.
    fn measure(
        &self,
        progress: &dyn PrepareProgress,
        mut take: impl FnMut(u64),
    ) -> Result<(), DataError> {
        let mut documents = self.train.open();
        let stage = Reading {
            stage: Stage::Scan,
            n_bytes: self.train.n_bytes(),
            batch_bytes: BATCH_BYTES,
            progress,
        };
        let count = |batch: &[Piece]| {
            let length = |piece: &Piece| (piece.text.chars().count() as u64, piece.ends_document);
            Ok(batch.iter().map(length).collect::<Vec<_>>())
        };
        let mut length = 0;
        stage.run(
            documents.as_mut(),
            || count,
            |pieces| {
                for (n_characters, ends_document) in pieces {
                    length += n_characters;
                    if ends_document {
                        take(std::mem::take(&mut length));
                    }
                }
                Ok(())
            },
        )
    }

    /// The size of the files that are read for a split, in bytes.
    pub(super) fn n_bytes(&self, split: Split) -> Option<u64> {
        self.text_of(split).n_bytes()
    }

    /// Streams a split: the chosen subset of the training documents, but all validation documents, so that
    /// losses of models trained on different percentages can be compared.
    pub(super) fn open(
        &self,
        split: Split,
        boundary: Boundary,
    ) -> Result<SplitDocuments<'_>, DataError> {
        let subset = match split {
            Split::Train => Some(Subset::new(self.data_percentage, self.seed)?),
            Split::Val => None,
        };
        let inner = self.text_of(split).open();
        Ok(SplitDocuments::new(inner, split, boundary, subset, self.first_idx))
    }

    fn text_of(&self, split: Split) -> &Text {
        match (split, &self.validation) {
            (Split::Val, Some(validation)) => validation,
            _ => &self.train,
        }
    }
}
