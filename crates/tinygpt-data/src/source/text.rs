//! Plain text: documents separated by lines `<|endoftext|>`, or one document if there is none.
//!
//! The file is read in fragments of a line or less, so neither a long file nor a long line is
//! ever held whole.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::utf8::{drop_byte_order_mark, len_without_unfinished, to_text};
use super::{Documents, PIECE_BYTES, Piece, Tally, cut_point};
use crate::error::DataError;
use crate::tokenizer::END_OF_TEXT;

/// The longest part of a line that is read at once, in bytes; far longer than a separator.
const FRAGMENT_BYTES: u64 = 64 << 10;

/// A reader of one `.txt` file.
pub(super) struct PlainText {
    path: PathBuf,
    lossy: bool,
    file: BufReader<File>,
    /// Text of the current document that has not been handed over.
    pending: Vec<u8>,
    /// The offset in the file of `pending`'s first byte.
    pending_offset: u64,
    /// The offset in the file of the next byte to be read.
    read_offset: u64,
    /// Whether a piece of the current document has been handed over.
    in_document: bool,
    /// Whether the next fragment starts a line.
    at_line_start: bool,
    /// Whether nothing but blank lines has come since a separator.
    after_separator: bool,
    tally: Tally,
}

impl PlainText {
    pub(super) fn open(path: &Path, lossy: bool) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("read", path))?;
        Ok(Self {
            path: path.to_path_buf(),
            lossy,
            file: BufReader::with_capacity(256 << 10, file),
            pending: Vec::new(),
            pending_offset: 0,
            read_offset: 0,
            in_document: false,
            at_line_start: true,
            after_separator: false,
            tally: Tally::default(),
        })
    }

    /// Appends the next fragment to `pending` and returns its length, 0 at the end of the file.
    fn read_fragment(&mut self) -> Result<usize, DataError> {
        let n_bytes = self
            .file
            .by_ref()
            .take(FRAGMENT_BYTES)
            .read_until(b'\n', &mut self.pending)
            .map_err(DataError::io("read", &self.path))?;
        if self.read_offset == 0 {
            drop_byte_order_mark(&mut self.pending);
            self.pending_offset = (n_bytes - self.pending.len()) as u64;
        }
        self.read_offset += n_bytes as u64;
        Ok(n_bytes)
    }

    /// Takes all pending text as the last piece of a document; `None` if the document is empty.
    ///
    /// The line breaks before a separator belong to it and not to the document.
    fn end_document(&mut self, separated: bool) -> Result<Option<Piece>, DataError> {
        let bytes = std::mem::take(&mut self.pending);
        let mut text = to_text(bytes, self.lossy, &mut self.tally.n_replaced)
            .map_err(|offset| self.invalid(offset))?;
        self.pending_offset = self.read_offset;
        self.after_separator = separated;
        if separated {
            text.truncate(text.trim_end_matches(['\n', '\r']).len());
        }
        let began = std::mem::replace(&mut self.in_document, false);
        if !began && text.trim().is_empty() {
            // Blank lines at the end of a file are no document that was left out.
            self.tally.n_empty += u64::from(separated);
            return Ok(None);
        }
        Ok(Some(Piece { text, ends_document: true }))
    }

    /// Takes pending text up to a safe cut as a piece of a document that goes on.
    fn cut(&mut self) -> Result<Piece, DataError> {
        // The fragment may end inside a character: its rest comes with the next one.
        let unfinished = self.pending.split_off(len_without_unfinished(&self.pending));
        let bytes = std::mem::take(&mut self.pending);
        let mut text = to_text(bytes, self.lossy, &mut self.tally.n_replaced)
            .map_err(|offset| self.invalid(offset))?;
        self.pending = text.split_off(cut_point(&text)).into_bytes();
        self.pending.extend(unfinished);
        // Exact where offsets are told: without `lossy`, text and file have the same bytes.
        self.pending_offset += text.len() as u64;
        self.in_document = true;
        Ok(Piece { text, ends_document: false })
    }

    fn invalid(&self, offset_in_pending: usize) -> DataError {
        DataError::InvalidUtf8 {
            path: self.path.clone(),
            offset: self.pending_offset + offset_in_pending as u64,
        }
    }
}

impl Documents for PlainText {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        loop {
            let start = self.pending.len();
            if self.read_fragment()? == 0 {
                let is_empty = self.pending.is_empty() && !self.in_document;
                return if is_empty { Ok(None) } else { self.end_document(false) };
            }
            let fragment = &self.pending[start..];
            let is_separator =
                self.at_line_start && fragment.trim_ascii_end() == END_OF_TEXT.as_bytes();
            self.at_line_start = fragment.ends_with(b"\n");
            if is_separator {
                self.pending.truncate(start);
                if let Some(piece) = self.end_document(true)? {
                    return Ok(Some(piece));
                }
            } else if self.after_separator && matches!(fragment, b"\n" | b"\r\n") {
                // Blank lines after a separator belong to it, as those before it do.
                self.pending.clear();
                self.pending_offset = self.read_offset;
            } else {
                self.after_separator = false;
                if self.pending.len() >= PIECE_BYTES {
                    return self.cut().map(Some);
                }
            }
        }
    }

    fn tally(&self) -> Tally {
        self.tally
    }

    fn n_bytes_read(&self) -> u64 {
        self.read_offset
    }
}
