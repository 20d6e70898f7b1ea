//! Sources of documents, as one stream of bounded pieces in any file format.
//!
//! Nothing here knows tokens or splits. A text is never in memory as a whole: a reader returns pieces of
//! about [`PIECE_BYTES`] and marks the piece that ends a document.

mod conversations;
mod csv;
mod encodings;
mod fields;
mod folder;
mod format;
mod generated;
mod identity;
mod input;
mod json;
mod magic;
mod parquet;
mod records;
mod separator;
mod spec;
mod splits;
mod stats;
mod stdin;
#[cfg(test)]
mod tests;
mod text;
mod utf8;

use std::collections::VecDeque;
use std::fs;

pub(crate) use conversations::of_document;
pub(crate) use fields::Fields;
pub use folder::LeftOut;
pub(crate) use folder::{Found, TextFile, expand};
pub use format::Format;
pub(crate) use generated::{GeneratedText, Grammar};
pub(crate) use identity::identify;
pub use separator::Separator;
pub use spec::{Source, Sources};
pub(crate) use splits::{BySplit, by_split};
pub use stats::SourceStats;
pub(crate) use stdin::Spooled;

use crate::error::DataError;
use parquet::Parquet;
use records::Fault;
use text::PlainText;

/// The size from which a document is cut into pieces, in bytes.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// A document, or a part of one that is too long for one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The text. Pieces of one document, joined, are the document.
    pub(crate) text: String,
    /// Whether the document ends with this piece.
    pub(crate) ends_document: bool,
}

/// A stream of documents.
pub(crate) trait Documents: Send {
    /// The next piece, or `None` at the end. Documents without any text do not appear.
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError>;

    /// What was skipped or replaced so far.
    fn stats(&self) -> SourceStats;

    /// How many bytes of files have been read so far, for a progress bar.
    fn n_bytes_read(&self) -> u64;

    /// The first record that could not be used, if there was one.
    fn first_fault(&self) -> Option<&Fault> {
        None
    }
}

/// How text is taken out of files.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReadAs {
    /// The fields that hold it, where there are fields.
    pub(crate) fields: Fields,
    /// What separates the documents of plain text.
    pub(crate) separator: Separator,
    /// Whether bytes that are not UTF-8 are replaced; otherwise they are an error.
    pub(crate) lossy: bool,
    /// The largest fraction of records that may be skipped because they cannot be used.
    pub(crate) max_bad_fraction: f64,
    /// Whether each record is a conversation; its document is the JSON of its messages.
    pub(crate) is_chat: bool,
}

impl ReadAs {
    /// Opens a file; up to `n_threads` decode it.
    fn open(&self, file: &TextFile, n_threads: usize) -> Result<Box<dyn Documents>, DataError> {
        let path = &file.path;
        Ok(match file.format {
            Format::Text | Format::Csv | Format::Tsv if self.is_chat => {
                return Err(conversations::no_records(path));
            }
            Format::Parquet if self.is_chat => Box::new(Parquet::open_chat(path, self)?),
            Format::Text => Box::new(PlainText::open(path, self.separator.clone(), self.lossy)?),
            Format::JsonLines | Format::Json => json::open(path, file.format, self)?,
            Format::Csv | Format::Tsv => Box::new(csv::Table::open(path, file.format, self)?),
            Format::Parquet => Box::new(Parquet::open(path, self, n_threads)?),
        })
    }
}

/// A text that can be streamed as often as needed.
pub(crate) enum Text {
    /// Files, as one text in this order.
    Files { files: Vec<TextFile>, read_as: ReadAs },
    /// A split of a built-in dataset.
    Generated(GeneratedText),
}

impl Text {
    /// Streams the text from its beginning.
    pub(crate) fn open(&self) -> Box<dyn Documents + '_> {
        match self {
            Self::Files { files, read_as } => Box::new(Files {
                remaining: files.clone().into(),
                read_as: read_as.clone(),
                n_threads: rayon::current_num_threads(),
                current: None,
                n_text_bytes: 0,
                stats: SourceStats::default(),
                first_fault: None,
                n_bytes_read: 0,
            }),
            Self::Generated(text) => Box::new(text.open()),
        }
    }

    /// How many times larger it is than a part with this many bytes of files and this many documents.
    pub(crate) fn in_units_of(&self, n_file_bytes: u64, n_documents: u64) -> f64 {
        match self {
            Self::Generated(text) => text.n as f64 / n_documents.max(1) as f64,
            Self::Files { .. } => self.n_bytes().unwrap_or(0) as f64 / n_file_bytes.max(1) as f64,
        }
    }

    /// The size of its files in bytes, if it is read from files.
    pub(crate) fn n_bytes(&self) -> Option<u64> {
        let Self::Files { files, .. } = self else { return None };
        let n_bytes = |file: &TextFile| fs::metadata(&file.path).ok().map(|it| it.len());
        files.iter().map(n_bytes).sum()
    }
}

/// The part of a file's text that may be replaced, as a percentage: more is another encoding.
const MAX_REPLACED_PERCENT: u64 = 1;

/// This many places are replaced in any text, however short.
const FEW_REPLACED: u64 = 10;

/// Several files in order; each is opened when it is needed.
struct Files {
    remaining: VecDeque<TextFile>,
    read_as: ReadAs,
    /// How many threads may decode one file.
    n_threads: usize,
    current: Option<(TextFile, Box<dyn Documents>)>,
    /// The bytes of text of the current file.
    n_text_bytes: u64,
    /// Of the files before the current one, but its documents and NUL characters too.
    stats: SourceStats,
    first_fault: Option<Fault>,
    n_bytes_read: u64,
}

impl Files {
    /// Adds the counts of the current file, which has ended.
    fn close(&mut self, file: &TextFile, documents: &dyn Documents) -> Result<(), DataError> {
        let stats = documents.stats();
        let (n_replaced, n_bytes) = (stats.n_replaced, self.n_text_bytes);
        if n_replaced > FEW_REPLACED && n_replaced * 100 > n_bytes * MAX_REPLACED_PERCENT {
            return Err(input::hardly_utf8(&file.path, n_replaced, n_bytes));
        }
        self.stats += &stats;
        self.n_bytes_read += documents.n_bytes_read();
        if self.first_fault.is_none() {
            self.first_fault = documents.first_fault().cloned();
        }
        self.n_text_bytes = 0;
        Ok(())
    }

    /// Checks, at the end of the text, how many records could not be used.
    fn check_records(&self) -> Result<(), DataError> {
        let stats = &self.stats;
        match &self.first_fault {
            Some(fault) if stats.n_bad == stats.n_records() => Err(fault.clone().into_error()),
            Some(fault) if stats.exceeds(self.read_as.max_bad_fraction) => {
                Err(fault.clone().too_many(stats))
            }
            _ => Ok(()),
        }
    }
}

impl Documents for Files {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        loop {
            if let Some((_, current)) = &mut self.current {
                if let Some(piece) = current.next_piece()? {
                    self.stats.n_documents += u64::from(piece.ends_document);
                    let n_nul = memchr::memchr_iter(0, piece.text.as_bytes()).count();
                    self.stats.n_nul += n_nul as u64;
                    self.n_text_bytes += piece.text.len() as u64;
                    return Ok(Some(piece));
                }
                if let Some((file, current)) = self.current.take() {
                    self.close(&file, current.as_ref())?;
                }
            }
            let Some(file) = self.remaining.pop_front() else {
                self.check_records()?;
                return Ok(None);
            };
            let opened = self.read_as.open(&file, self.n_threads)?;
            self.current = Some((file, opened));
        }
    }

    fn stats(&self) -> SourceStats {
        let mut stats = self.stats.clone();
        if let Some((_, current)) = &self.current {
            stats += &current.stats();
        }
        stats
    }

    fn n_bytes_read(&self) -> u64 {
        self.n_bytes_read + self.current.as_ref().map_or(0, |(_, current)| current.n_bytes_read())
    }
}

/// Where to cut `text`, which continues, so that its tokens are those of the uncut text.
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
