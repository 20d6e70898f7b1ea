//! A dataset's text as two streams of documents, one to train on and one to validate on.
//!
//! Either the source has two splits of its own, or the end of its text validates, by position: a
//! text of one document is cut at a character, one of many between documents. Tokens and files
//! of ours are unknown here.

use crate::error::DataError;
use crate::progress::{PrepareProgress, Stage};
use crate::source::{Documents, Piece, Text};
use crate::subset::Subset;

use super::reading::{BATCH_BYTES, Reading};
use super::split::{Boundary, Split, SplitDocuments};

/// A dataset's text, ready to be streamed as often as needed.
pub(super) struct Corpus {
    pub(super) train: Text,
    /// `None` if the end of `train` validates.
    pub(super) validation: Option<Text>,
    /// The part of `train` that validates then.
    pub(super) val_fraction: f64,
    /// How much of the training documents is taken, in per cent.
    pub(super) data_percentage: f64,
    /// The seed that chooses them.
    pub(super) seed: u64,
}

impl Corpus {
    /// Finds where the validation text begins; reads the whole text if the source does not say.
    pub(super) fn boundary(&self, progress: &dyn PrepareProgress) -> Result<Boundary, DataError> {
        if self.validation.is_some() {
            return Ok(Boundary::Separate);
        }
        let (n_characters, n_documents) = self.measure(progress)?;
        // nanoGPT: `int(len(data) * 0.9)`.
        let character = (n_characters as f64 * (1.0 - self.val_fraction)) as u64;
        if n_documents > 1 {
            return Ok(Boundary::Document { character, last_document_idx: n_documents - 1 });
        }
        if character == 0 || character == n_characters {
            return Err(DataError::usage(
                format!("the source has a text of {n_characters} characters"),
                "give more: it is split into one part to train on and one to validate on",
            ));
        }
        if self.data_percentage < 100.0 {
            return Err(DataError::usage(
                format!("data_percentage is {} but the text is one document", self.data_percentage),
                "whole documents are chosen: leave the option out, or separate the documents by \
                 lines `<|endoftext|>`",
            ));
        }
        Ok(Boundary::Character(character))
    }

    /// Counts the characters and the documents of the training text.
    fn measure(&self, progress: &dyn PrepareProgress) -> Result<(u64, u64), DataError> {
        let (mut n_characters, mut n_documents) = (0, 0);
        let mut documents = self.train.open();
        let stage = Reading {
            stage: Stage::Scan,
            n_bytes: self.train.n_bytes(),
            batch_bytes: BATCH_BYTES,
            progress,
        };
        let count = |batch: &[Piece]| {
            let n_characters: usize = batch.iter().map(|piece| piece.text.chars().count()).sum();
            let n_documents = batch.iter().filter(|piece| piece.ends_document).count();
            Ok((n_characters as u64, n_documents as u64))
        };
        stage.run(
            documents.as_mut(),
            || count,
            |(characters, documents)| {
                n_characters += characters;
                n_documents += documents;
                Ok(())
            },
        )?;
        Ok((n_characters, n_documents))
    }

    /// The size of the files that are read for a split, in bytes.
    pub(super) fn n_bytes(&self, split: Split) -> Option<u64> {
        self.text_of(split).n_bytes()
    }

    /// Streams a split: of the training documents the chosen subset, of the others all, so that
    /// losses of models trained on different percentages can be compared.
    pub(super) fn open(
        &self,
        split: Split,
        boundary: Boundary,
    ) -> Result<Box<dyn Documents + '_>, DataError> {
        let subset = match split {
            Split::Train => Some(Subset::new(self.data_percentage, self.seed)?),
            Split::Val => None,
        };
        let inner = self.text_of(split).open();
        Ok(Box::new(SplitDocuments::new(inner, split, boundary, subset)))
    }

    fn text_of(&self, split: Split) -> &Text {
        match (split, &self.validation) {
            (Split::Val, Some(validation)) => validation,
            _ => &self.train,
        }
    }
}
