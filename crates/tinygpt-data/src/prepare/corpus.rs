//! A dataset's text as two streams of documents, one to train on and one to validate on.
//!
//! Either the source has two splits of its own, or the end of its text validates, by position: a
//! text of one document is cut at a character, one of many between documents. Tokens and files
//! of ours are unknown here.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::hub::{self, HubRequest};
use crate::progress::{PrepareProgress, Stage};
use crate::recipe::{Recipe, SourceSpec};
use crate::source::{self, Documents, Piece};
use crate::subset::Subset;

use super::{PrepareRequest, watched};

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

/// A dataset's text, ready to be streamed as often as needed.
pub(super) struct Corpus {
    train: Vec<PathBuf>,
    /// Empty if the end of `train` validates.
    validation: Vec<PathBuf>,
    text_column: String,
    val_fraction: f64,
    data_percentage: f64,
    seed: u64,
    /// What `meta.json` remembers of the source.
    description: String,
}

/// Where the training text ends and the validation text begins, if they are one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boundary {
    /// They are two texts.
    Separate,
    /// At this character of the only document.
    Character(u64),
    /// At the first document that begins at or after this character, and before the last one.
    Document { character: u64, last_document_idx: u64 },
}

impl Corpus {
    /// Finds the text that `recipe` and `request` name, without reading it; text of the hub is
    /// downloaded first.
    pub(super) fn locate(
        recipe: &Recipe,
        request: &PrepareRequest,
        progress: &dyn PrepareProgress,
    ) -> Result<Self, DataError> {
        let mut origin = String::new();
        let (train, validation) = match (&request.source, &recipe.source) {
            (Some(path), _) => (source::expand(std::slice::from_ref(path))?, Vec::new()),
            (None, SourceSpec::Files(files)) => {
                (source::expand(&files.train)?, source::expand(&files.validation)?)
            }
            (None, SourceSpec::Given) => {
                return Err(DataError::usage(
                    format!("dataset `{}` has no text of its own", recipe.name),
                    "give one with --source PATH (a .txt, .jsonl or .parquet file or a folder)",
                ));
            }
            (None, SourceSpec::Hub(source)) => {
                let wanted = HubRequest {
                    repository: &source.repository,
                    revision: &source.revision,
                    train: &source.train,
                    validation: source.validation.as_deref(),
                };
                let files = hub::fetch(&wanted, &request.hub, progress)?;
                origin = format!("{} at {}: ", source.repository, files.commit);
                (files.train, files.validation)
            }
            (None, SourceSpec::BuiltIn(_)) => {
                return Err(DataError::usage("not yet", "wait"));
            }
        };
        let val_fraction = request.val_fraction.unwrap_or(recipe.val_fraction);
        let description = origin + &describe_files(train.iter().chain(&validation))?;
        Ok(Self {
            train,
            validation,
            text_column: request.text_column.clone().unwrap_or(recipe.text_column.clone()),
            val_fraction,
            data_percentage: request.data_percentage,
            seed: request.seed,
            description,
        })
    }

    /// Where the text came from, for `meta.json`.
    pub(super) fn description(&self) -> &str {
        &self.description
    }

    /// The part at the end that validates; `None` if the source has a split of its own.
    pub(super) fn val_fraction(&self) -> Option<f64> {
        self.validation.is_empty().then_some(self.val_fraction)
    }

    /// Finds where the validation text begins; reads the whole text if the source does not say.
    pub(super) fn boundary(&self, progress: &dyn PrepareProgress) -> Result<Boundary, DataError> {
        if !self.validation.is_empty() {
            return Ok(Boundary::Separate);
        }
        let (mut n_characters, mut n_documents) = (0, 0);
        let documents = source::open(self.train.clone(), &self.text_column);
        watched(Stage::Scan, self.n_bytes(Split::Train), documents, progress, |piece| {
            n_characters += piece.text.chars().count() as u64;
            n_documents += u64::from(piece.ends_document);
            Ok(())
        })?;
        // nanoGPT: `int(len(data) * 0.9)`.
        let character = (n_characters as f64 * (1.0 - self.val_fraction)) as u64;
        if n_documents > 1 {
            return Ok(Boundary::Document { character, last_document_idx: n_documents - 1 });
        }
        if character == 0 || character == n_characters {
            return Err(DataError::usage(
                format!("{}: a text of {n_characters} characters", self.description),
                "give more text: it is split into one part to train on and one to validate on",
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

    /// The size of a split's files in bytes.
    pub(super) fn n_bytes(&self, split: Split) -> Option<u64> {
        let size = |path: &PathBuf| fs::metadata(path).ok().map(|metadata| metadata.len());
        self.paths(split).iter().map(size).sum()
    }

    /// Streams a split: of the training documents the chosen subset, of the others all, so that
    /// losses of models trained on different percentages can be compared.
    pub(super) fn open(
        &self,
        split: Split,
        boundary: Boundary,
    ) -> Result<Box<dyn Documents>, DataError> {
        let subset = match split {
            Split::Train => Some(Subset::new(self.data_percentage, self.seed)?),
            Split::Val => None,
        };
        Ok(Box::new(SplitDocuments {
            inner: source::open(self.paths(split).to_vec(), &self.text_column),
            split,
            boundary,
            subset,
            document_idx: 0,
            n_characters: 0,
            at_document_start: true,
            taking: false,
        }))
    }

    fn paths(&self, split: Split) -> &[PathBuf] {
        match split {
            Split::Val if !self.validation.is_empty() => &self.validation,
            _ => &self.train,
        }
    }
}

/// The files and their sizes: enough to notice that another text is meant.
fn describe_files<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<String, DataError> {
    let describe = |path: &PathBuf| {
        let metadata = fs::metadata(path).map_err(DataError::io("read", path))?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(format!("{} ({} bytes)", Path::new(name).display(), metadata.len()))
    };
    let described: Vec<String> = paths.map(describe).collect::<Result<_, DataError>>()?;
    Ok(described.join(", "))
}

/// The documents of one split out of a stream that may hold both.
struct SplitDocuments {
    inner: Box<dyn Documents>,
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

impl SplitDocuments {
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

impl Documents for SplitDocuments {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        while let Some(piece) = self.inner.next_piece()? {
            if self.at_document_start {
                self.taking = self.wants_document();
            }
            self.at_document_start = piece.ends_document;
            self.document_idx += u64::from(piece.ends_document);
            let n_characters = piece.text.chars().count() as u64;
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

    fn n_skipped(&self) -> u64 {
        self.inner.n_skipped()
    }

    fn n_bytes_read(&self) -> u64 {
        self.inner.n_bytes_read()
    }
}
