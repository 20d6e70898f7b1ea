//! The separator between the documents of a plain text: `<|endoftext|>` by default.

use std::fmt;
use std::str::FromStr;

use memchr::memchr_iter;
use memchr::memmem::Finder;

use crate::error::DataError;
use crate::escape::unescape;
use crate::tokenizer::END_OF_TEXT;

/// What separates the documents of a plain text.
///
/// ```
/// use tinygpt_data::Separator;
/// assert_eq!("line".parse::<Separator>().unwrap(), Separator::Line);
/// let dashes: Separator = r"\n---\n".parse().unwrap();
/// assert_eq!(dashes, Separator::Text("\n---\n".to_owned()));
/// assert_eq!(dashes.to_string(), r"\n---\n");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Separator {
    /// Every line is a document.
    Line,
    /// Blank lines.
    BlankLine,
    /// This text, wherever it occurs.
    Text(String),
}

impl Default for Separator {
    fn default() -> Self {
        Self::Text(END_OF_TEXT.to_owned())
    }
}

impl FromStr for Separator {
    type Err = DataError;

    /// `line`, `blank`, or a text in which `\n`, `\r`, `\t` and `\\` are escapes.
    fn from_str(name: &str) -> Result<Self, DataError> {
        match name {
            "line" => Ok(Self::Line),
            "blank" => Ok(Self::BlankLine),
            "" => Err(DataError::usage(
                "separator is empty",
                "give `line`, `blank` or a text such as `<|endoftext|>` or `\\n---\\n`",
            )),
            text => unescape("separator", text).map(Self::Text),
        }
    }
}

impl fmt::Display for Separator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line => f.write_str("line"),
            Self::BlankLine => f.write_str("blank"),
            Self::Text(text) => {
                let escaped = text.replace('\\', r"\\").replace('\n', r"\n");
                f.write_str(&escaped.replace('\r', r"\r").replace('\t', r"\t"))
            }
        }
    }
}

/// Finds separators in bytes.
pub(super) enum Pattern {
    /// A text: its finder.
    Text(Box<Finder<'static>>),
    /// A line break and a line without text.
    BlankLine,
}

/// What a look for a separator found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// One from `start` to `end`.
    At { start: usize, end: usize },
    /// None up to here; one may start there.
    NoneBefore(usize),
}

impl Pattern {
    /// The pattern of a text whose lines end in `\r\n`, or do not.
    pub(super) fn of(separator: &Separator, has_crlf: bool) -> Self {
        let finder = |text: &str| Self::Text(Box::new(Finder::new(text).into_owned()));
        match separator {
            Separator::Line => finder("\n"),
            Separator::BlankLine => Self::BlankLine,
            Separator::Text(text) if has_crlf && !text.contains('\r') => {
                finder(&text.replace('\n', "\r\n"))
            }
            Separator::Text(text) => finder(text),
        }
    }

    /// Looks for the first separator in `text` that begins at `from` or later.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Found {
        match self {
            Self::Text(finder) => {
                let needle = finder.needle();
                if let Some(at) = finder.find(&text[from..]) {
                    return Found::At { start: from + at, end: from + at + needle.len() };
                }
                let is_begun = |n: &usize| text[from..].ends_with(&needle[..*n]);
                let n_begun = (1..needle.len()).rev().find(is_begun).unwrap_or(0);
                Found::NoneBefore(text.len() - n_begun)
            }
            Self::BlankLine => {
                for at in memchr_iter(b'\n', &text[from..]).map(|at| from + at) {
                    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
                    let rest = &text[at + 1..];
                    match rest.iter().position(|byte| !is_blank(byte)) {
                        Some(n) if rest[n] == b'\n' => {
                            return Found::At { start: at, end: at + n + 2 };
                        }
                        Some(_) => {}
                        None => return Found::NoneBefore(at),
                    }
                }
                Found::NoneBefore(text.len())
            }
        }
    }

    /// Whether spaces before the separator are on its line.
    pub(super) fn begins_in_line(&self) -> bool {
        matches!(self, Self::Text(finder) if !matches!(finder.needle(), [b'\n' | b'\r', ..]))
    }

    /// Whether what follows the separator is on its line.
    pub(super) fn ends_in_line(&self) -> bool {
        matches!(self, Self::Text(finder) if !finder.needle().ends_with(b"\n"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn separators_are_found_or_begin_at_the_end() {
        let dashes = Pattern::of(&"---".parse().unwrap(), false);
        assert_eq!(dashes.find(b"a---b", 0), Found::At { start: 1, end: 4 });
        assert_eq!(dashes.find(b"a---b", 2), Found::NoneBefore(5));
        assert_eq!(dashes.find(b"a--", 0), Found::NoneBefore(1));
        assert_eq!(dashes.find(b"a--", 2), Found::NoneBefore(2));
        assert_eq!(dashes.find(b"a", 0), Found::NoneBefore(1));
        let lines = Pattern::of(&r"\n---\n".parse().unwrap(), true);
        assert_eq!(lines.find(b"a\r\n---\r\nb", 0), Found::At { start: 1, end: 8 });
        let blank = Pattern::of(&Separator::BlankLine, false);
        assert_eq!(blank.find(b"a\nb\n\t \r\nc", 0), Found::At { start: 3, end: 8 });
        assert_eq!(blank.find(b"a\nb\n  ", 0), Found::NoneBefore(3));
        assert_eq!(blank.find(b"a\nb", 0), Found::NoneBefore(3));
    }

    #[test]
    fn separators_are_shown_as_they_are_typed() {
        for typed in ["line", "blank", "---", r"\n---\n", r"a\\b\t\r"] {
            assert_eq!(typed.parse::<Separator>().unwrap().to_string(), typed);
        }
        for wrong in ["", r"\x", r"end\"] {
            assert!(wrong.parse::<Separator>().is_err(), "{wrong}");
        }
    }
}
