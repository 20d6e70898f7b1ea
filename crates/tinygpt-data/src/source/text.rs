//! Plain text: documents separated by `<|endoftext|>` or by what was chosen, or one document if
//! there is none.
//!
//! Line breaks next to a separator belong to it, and so do spaces between it and text on its
//! line. The file is read in fragments of a line or less, so neither a long file nor a long line
//! is ever held whole.

use std::collections::VecDeque;
use std::io::{BufRead, Read};
use std::path::Path;

use super::input::Input;
use super::separator::{Found, Pattern, Separator};
use super::utf8::{len_without_unfinished, to_text};
use super::{Documents, PIECE_BYTES, Piece, SourceStats, cut_point};
use crate::error::DataError;

/// The longest part of a line that is read at once, in bytes.
const FRAGMENT_BYTES: u64 = 64 << 10;

/// What may still belong to the last separator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Nothing: a document has begun, or no separator has come.
    Text,
    /// The rest of its line, if that is blank.
    SameLine,
    /// Blank lines.
    BlankLines,
}

/// A reader of one file of plain text.
pub(super) struct PlainText {
    input: Input,
    lossy: bool,
    separator: Separator,
    /// Known after the first line, which shows how lines end.
    pattern: Option<Pattern>,
    /// Text that has not been handed over.
    pending: Vec<u8>,
    /// The offset in the text of `pending`'s first byte.
    pending_offset: u64,
    /// No separator begins before this place of `pending`.
    n_searched: usize,
    after: After,
    /// Whether a piece of the current document has been handed over.
    in_document: bool,
    is_at_end: bool,
    ready: VecDeque<Piece>,
    stats: SourceStats,
}

impl PlainText {
    pub(super) fn open(path: &Path, separator: Separator, lossy: bool) -> Result<Self, DataError> {
        let input = Input::open(path, lossy)?;
        Ok(Self {
            pending_offset: input.text_offset(),
            input,
            lossy,
            separator,
            pattern: None,
            pending: Vec::new(),
            n_searched: 0,
            after: After::Text,
            in_document: false,
            is_at_end: false,
            ready: VecDeque::new(),
            stats: SourceStats::default(),
        })
    }

    /// Appends the next fragments to `pending`, until it has the length of a piece.
    fn read(&mut self) -> Result<(), DataError> {
        loop {
            let mut fragment = (&mut self.input).take(FRAGMENT_BYTES);
            let n_bytes = match fragment.read_until(b'\n', &mut self.pending) {
                Ok(n_bytes) => n_bytes,
                Err(error) => return Err(self.input.error(error)),
            };
            self.is_at_end = n_bytes == 0;
            if self.is_at_end || self.pending.len() >= PIECE_BYTES {
                return Ok(());
            }
        }
    }

    /// Makes pieces of `pending`: whole documents, then the beginning of one that is too long.
    fn take_pieces(&mut self) -> Result<(), DataError> {
        let pattern = self.pattern.take().unwrap_or_else(|| self.first_pattern());
        let mut start = 0;
        loop {
            start = self.skip_separator(start);
            let from = start.max(self.n_searched);
            match pattern.find(&self.pending, from) {
                Found::At { start: end, end: next } => {
                    self.end_document(start, end, pattern.begins_in_line())?;
                    self.after =
                        if pattern.ends_in_line() { After::SameLine } else { After::BlankLines };
                    (start, self.n_searched) = (next, next);
                }
                Found::NoneBefore(at) => {
                    self.n_searched = at.max(start);
                    break;
                }
            }
        }
        self.pattern = Some(pattern);
        if self.is_at_end {
            self.end_text(start)?;
            start = self.pending.len();
        }
        self.drop_front(start);
        if self.pending.len() >= PIECE_BYTES && !self.is_at_end { self.cut() } else { Ok(()) }
    }

    /// The separator as the lines of this file end.
    fn first_pattern(&self) -> Pattern {
        let end_of_line = memchr::memchr(b'\n', &self.pending).unwrap_or(0);
        Pattern::of(&self.separator, self.pending[..end_of_line].ends_with(b"\r"))
    }

    /// Passes what belongs to the last separator; returns where the document begins.
    fn skip_separator(&mut self, mut start: usize) -> usize {
        if self.after == After::SameLine {
            let rest = &self.pending[start..];
            let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | 0x0c);
            start += rest.iter().take_while(|byte| is_blank(byte)).count();
            self.after = match self.pending.get(start) {
                None => After::SameLine,
                Some(b'\n') => {
                    start += 1;
                    After::BlankLines
                }
                Some(_) => After::Text,
            };
        }
        while self.after == After::BlankLines {
            start += match &self.pending[start..] {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [] | [b'\r'] => break,
                _ => {
                    self.after = After::Text;
                    0
                }
            };
        }
        start
    }

    /// Takes `pending[start..end]` as the last piece of a document; none if that is blank.
    fn end_document(
        &mut self,
        start: usize,
        mut end: usize,
        trims_spaces: bool,
    ) -> Result<(), DataError> {
        let trim = |end: usize, is_trimmed: fn(&u8) -> bool| {
            end - self.pending[start..end].iter().rev().take_while(|b| is_trimmed(b)).count()
        };
        if trims_spaces {
            end = trim(end, |byte| matches!(byte, b' ' | b'\t'));
        }
        end = trim(end, |byte| matches!(byte, b'\n' | b'\r'));
        // Lines without text do not count as skipped documents.
        let counts_empty = matches!(self.separator, Separator::Text(_));
        if !self.push_last_piece(start, end)? {
            self.stats.n_empty += u64::from(counts_empty);
        }
        Ok(())
    }

    /// Takes the rest as the last document.
    fn end_text(&mut self, start: usize) -> Result<(), DataError> {
        if start < self.pending.len() || self.in_document {
            self.push_last_piece(start, self.pending.len())?;
        }
        Ok(())
    }

    /// Whether the bytes are a document or the end of one, and so were taken.
    fn push_last_piece(&mut self, start: usize, end: usize) -> Result<bool, DataError> {
        let text = self.text(start, end)?;
        let has_begun = std::mem::replace(&mut self.in_document, false);
        let is_document = has_begun || !text.trim().is_empty();
        if is_document {
            self.ready.push_back(Piece { text, ends_document: true });
        }
        Ok(is_document)
    }

    /// Takes pending text up to a safe cut as a piece of a document that continues.
    fn cut(&mut self) -> Result<(), DataError> {
        // The text may end inside a character or a separator: its rest comes with what follows.
        let end = len_without_unfinished(&self.pending[..self.n_searched]);
        let mut text = self.text(0, end)?;
        let rest = text.split_off(cut_point(&text));
        let unfinished = self.pending.split_off(end);
        self.pending = rest.into_bytes();
        self.pending.extend(unfinished);
        // Exact where offsets are shown: without `lossy`, text and file have the same bytes.
        self.pending_offset += text.len() as u64;
        self.n_searched = 0;
        self.in_document = true;
        self.ready.push_back(Piece { text, ends_document: false });
        Ok(())
    }

    /// The text of some pending bytes.
    fn text(&mut self, start: usize, end: usize) -> Result<String, DataError> {
        let bytes = self.pending[start..end].to_vec();
        to_text(bytes, self.lossy, &mut self.stats.n_replaced)
            .map_err(|offset| self.input.not_utf8(self.pending_offset + (start + offset) as u64))
    }

    fn drop_front(&mut self, n_bytes: usize) {
        self.pending.drain(..n_bytes);
        self.pending_offset += n_bytes as u64;
        self.n_searched = self.n_searched.saturating_sub(n_bytes);
    }
}

impl Documents for PlainText {
    fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            if self.is_at_end {
                return Ok(None);
            }
            self.read()?;
            self.take_pieces()?;
        }
    }

    fn stats(&self) -> SourceStats {
        let mut stats = self.stats.clone();
        stats.n_replaced += self.input.n_replaced();
        stats
    }

    fn n_bytes_read(&self) -> u64 {
        self.input.n_file_bytes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::ReadAs;
    use super::super::tests::{as_usual, file, read, read_as};

    fn split(separator: &str, text: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let separator = separator.parse().unwrap();
        let path = file(&dir, "a.txt", text);
        read_as(&path, ReadAs { separator, ..as_usual() }).unwrap().0
    }

    #[test]
    fn other_separators_can_be_chosen() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("line", "anna\nbo\r\n\n  \nclara", &["anna", "bo", "clara"]),
            ("line", "  indented\n", &["  indented"]),
            ("blank", "a\nb\n\nc\n \t\n\nd\n", &["a\nb", "c", "d\n"]),
            ("blank", "a\r\n\r\n  b\r\n", &["a", "  b\r\n"]),
            ("blank", "\n\na", &["a"]),
            ("---", "a---b\n---\nc", &["a", "b", "c"]),
            (r"\n---\n", "a---b\n---\nc\n", &["a---b", "c\n"]),
            (r"\n---\n", "a\r\n---\r\nb", &["a", "b"]),
            ("</s>", "a</s> b\n</s>\n", &["a", "b"]),
            // With another separator this one is text.
            ("line", "a<|endoftext|>b\nc", &["a<|endoftext|>b", "c"]),
        ];
        for (separator, text, expected) in cases {
            assert_eq!(split(separator, text), *expected, "{separator}: {text:?}");
        }
    }

    #[test]
    fn separators_are_found_wherever_reading_breaks_off() {
        // Lines longer than a fragment, documents longer than a piece, separators across both.
        for n_before in [0, 1, (64 << 10) - 14, (64 << 10) - 5, (1 << 20) - 7, (1 << 20) + 3] {
            let document = format!("{}y", "x".repeat(n_before));
            let text = format!("{document}<|endoftext|>\n{document}<|endoftext|>end");
            let dir = tempfile::tempdir().unwrap();
            let (documents, _) = read(&file(&dir, "a.txt", text)).unwrap();
            assert!(documents == [&document, &document, "end"], "{n_before}");
        }
        let names: Vec<String> = (0..300_000).map(|i| format!("name {i}")).collect();
        assert!(split("line", &names.join("\n")) == names);
        assert!(split("blank", &names.join("\n \n")) == names);
    }
}
