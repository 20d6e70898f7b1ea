//! Where documents come from, as one stream of bounded pieces, whatever the file format.
//!
//! Nothing here knows tokens or splits. A text is never held whole: a reader gives pieces of
//! about [`PIECE_BYTES`], and says which piece ends a document.

mod jsonl;
mod parquet;
mod text;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::DataError;

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

/// A stream of documents.
pub(crate) trait Documents: Send {
    /// The next piece, or `None` at the end. Documents without any text do not appear.
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError>;

    /// How many records so far held no text: nulls and empty documents.
    fn n_skipped(&self) -> u64;

    /// How many bytes of files have been read so far, for a progress bar.
    fn n_bytes_read(&self) -> u64;
}

/// Opens `paths` as one stream, in this order.
pub(crate) fn open(paths: Vec<PathBuf>, text_column: &str) -> Box<dyn Documents> {
    Box::new(Files {
        remaining: paths.into(),
        text_column: text_column.to_owned(),
        current: None,
        n_skipped: 0,
        n_bytes_read: 0,
    })
}

/// Several files, one after the other; each is opened when its turn comes.
struct Files {
    remaining: VecDeque<PathBuf>,
    text_column: String,
    current: Option<Box<dyn Documents>>,
    n_skipped: u64,
    n_bytes_read: u64,
}

impl Documents for Files {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(piece) = current.next_piece()? {
                    return Ok(Some(piece));
                }
                self.n_skipped += current.n_skipped();
                self.n_bytes_read += current.n_bytes_read();
                self.current = None;
            }
            let Some(path) = self.remaining.pop_front() else { return Ok(None) };
            self.current = Some(open_file(&path, &self.text_column)?);
        }
    }

    fn n_skipped(&self) -> u64 {
        self.n_skipped + self.current.as_ref().map_or(0, |current| current.n_skipped())
    }

    fn n_bytes_read(&self) -> u64 {
        self.n_bytes_read + self.current.as_ref().map_or(0, |current| current.n_bytes_read())
    }
}

/// The formats, by file name extension.
const EXTENSIONS: [&str; 3] = ["txt", "jsonl", "parquet"];

fn extension(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    EXTENSIONS.into_iter().find(|known| *known == extension)
}

fn open_file(path: &Path, text_column: &str) -> Result<Box<dyn Documents>, DataError> {
    match extension(path) {
        Some("jsonl") => Ok(Box::new(jsonl::JsonLines::open(path, text_column)?)),
        Some("parquet") => Ok(Box::new(parquet::Parquet::open(path, text_column)?)),
        Some(_) => Ok(Box::new(text::PlainText::open(path)?)),
        None => Err(DataError::usage(
            format!("{}: no format is known by this extension", path.display()),
            "give a .txt, .jsonl or .parquet file, or a folder of them",
        )),
    }
}

/// Checks that each path is there and replaces a folder by the texts in it, sorted by name.
pub(crate) fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(DataError::io("read", path))?;
        if metadata.is_file() {
            if extension(path).is_none() {
                open_file(path, "")?; // Names the formats there are.
            }
            files.push(path.clone());
            continue;
        }
        let listing = fs::read_dir(path).map_err(DataError::io("list", path))?;
        let mut inside = Vec::new();
        for entry in listing {
            let file = entry.map_err(DataError::io("list", path))?.path();
            if extension(&file).is_some() && file.is_file() {
                inside.push(file);
            }
        }
        if inside.is_empty() {
            return Err(DataError::usage(
                format!("{}: the folder holds no text", path.display()),
                "put .txt, .jsonl or .parquet files into it",
            ));
        }
        inside.sort();
        files.append(&mut inside);
    }
    Ok(files)
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
        let (head, _) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        let cut = cut_point(head);
        into.push_back(Piece { text: rest[..cut].to_owned(), ends_document: false });
        rest = &rest[cut..];
    }
    let text = if rest.len() == document.len() { document } else { rest.to_owned() };
    into.push_back(Piece { text, ends_document: true });
}
