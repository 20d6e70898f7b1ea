//! Where documents come from, as one stream of bounded pieces, whatever the file format.
//!
//! Nothing here knows tokens or splits. A text is never held whole: a reader gives pieces of
//! about [`PIECE_BYTES`], and says which piece ends a document.

mod generated;
mod given;
mod identity;
mod jsonl;
mod parquet;
mod paths;
#[cfg(test)]
mod tests;
mod text;
mod utf8;

use std::collections::VecDeque;
use std::fs;
use std::ops::AddAssign;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use given::Source;
pub(crate) use identity::identify;
pub(crate) use paths::expand;

use crate::error::DataError;
use crate::tales::Tales;
use generated::Generated;

/// The size from which a document is cut into pieces, in bytes.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// A document, or a part of one that is too long to be handed over whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The text. Pieces of one document, joined, are the document.
    pub(crate) text: String,
    /// Whether the document ends with this piece.
    pub(crate) ends_document: bool,
}

/// What a text had that is no document, or that was mended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Records without a value.
    pub n_nulls: u64,
    /// Documents without any text.
    pub n_empty: u64,
    /// Places where bytes that are no UTF-8 became U+FFFD.
    pub n_replaced: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.n_nulls += other.n_nulls;
        self.n_empty += other.n_empty;
        self.n_replaced += other.n_replaced;
    }
}

/// A stream of documents.
pub(crate) trait Documents: Send {
    /// The next piece, or `None` at the end. Documents without any text do not appear.
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError>;

    /// What was left out or mended so far.
    fn tally(&self) -> Tally;

    /// How many bytes of files have been read so far, for a progress bar.
    fn n_bytes_read(&self) -> u64;
}

/// How text is taken out of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadAs {
    /// The column that holds it, where there are columns.
    pub(crate) text_column: String,
    /// Whether bytes that are no UTF-8 are mended; otherwise they are refused.
    pub(crate) lossy: bool,
}

/// A text that can be streamed as often as needed.
pub(crate) enum Text {
    /// Files, as one text in this order.
    Files { paths: Vec<PathBuf>, read_as: ReadAs },
    /// The first `n` training stories of the embedded dataset.
    TrainingTales { tales: Tales, n: usize },
    /// The first `n` validation stories of the embedded dataset.
    ValidationTales { tales: Tales, n: usize },
}

impl Text {
    /// Streams the text from its beginning.
    pub(crate) fn open(&self) -> Box<dyn Documents + '_> {
        match self {
            Self::Files { paths, read_as } => Box::new(Files {
                remaining: paths.clone().into(),
                read_as: read_as.clone(),
                n_threads: rayon::current_num_threads(),
                current: None,
                tally: Tally::default(),
                n_bytes_read: 0,
            }),
            Self::TrainingTales { tales, n } => Box::new(Generated::new(tales.train(*n))),
            Self::ValidationTales { tales, n } => Box::new(Generated::new(tales.validation(*n))),
        }
    }

    /// How often a part of it, so many bytes of its files and so many documents, fits into it.
    pub(crate) fn in_units_of(&self, n_file_bytes: u64, n_documents: u64) -> f64 {
        match self {
            Self::TrainingTales { n, .. } | Self::ValidationTales { n, .. } => {
                *n as f64 / n_documents.max(1) as f64
            }
            Self::Files { .. } => self.n_bytes().unwrap_or(0) as f64 / n_file_bytes.max(1) as f64,
        }
    }

    /// How many bytes of files it has, if it lies in files.
    pub(crate) fn n_bytes(&self) -> Option<u64> {
        let Self::Files { paths, .. } = self else { return None };
        paths.iter().map(|path| fs::metadata(path).ok().map(|metadata| metadata.len())).sum()
    }
}

/// Several files, one after the other; each is opened when its turn comes.
struct Files {
    remaining: VecDeque<PathBuf>,
    read_as: ReadAs,
    /// How many threads may decode one file.
    n_threads: usize,
    current: Option<Box<dyn Documents>>,
    tally: Tally,
    n_bytes_read: u64,
}

impl Documents for Files {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(piece) = current.next_piece()? {
                    return Ok(Some(piece));
                }
                self.tally += current.tally();
                self.n_bytes_read += current.n_bytes_read();
                self.current = None;
            }
            let Some(path) = self.remaining.pop_front() else { return Ok(None) };
            self.current = Some(paths::open(&path, &self.read_as, self.n_threads)?);
        }
    }

    fn tally(&self) -> Tally {
        let mut tally = self.tally;
        if let Some(current) = &self.current {
            tally += current.tally();
        }
        tally
    }

    fn n_bytes_read(&self) -> u64 {
        self.n_bytes_read + self.current.as_ref().map_or(0, |current| current.n_bytes_read())
    }
}

/// Where to cut `text`, which goes on, so that its tokens are those of the uncut text.
///
/// GPT-2's pre-tokeniser never joins a non-space with the white space after it, so the last such
/// boundary is a safe place. A text without one is cut before its last character.
fn cut_point(text: &str) -> usize {
    let mut following: Option<char> = None;
    for (start, c) in text.char_indices().rev() {
        if !c.is_whitespace() && following.is_some_and(char::is_whitespace) {
            return start + c.len_utf8();
        }
        following = Some(c);
    }
    text.char_indices().next_back().map_or(0, |(start, _)| start)
}

/// Cuts one document that is already in memory into pieces.
fn cut_document(document: String, into: &mut VecDeque<Piece>) {
    let mut rest = document.as_str();
    while rest.len() > PIECE_BYTES {
        let end = (0..=PIECE_BYTES).rev().find(|&at| rest.is_char_boundary(at)).unwrap_or(0);
        let cut = cut_point(&rest[..end]);
        into.push_back(Piece { text: rest[..cut].to_owned(), ends_document: false });
        rest = &rest[cut..];
    }
    let text = if rest.len() == document.len() { document } else { rest.to_owned() };
    into.push_back(Piece { text, ends_document: true });
}
