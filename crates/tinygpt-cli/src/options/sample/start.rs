//! What `--start` and `--stop` mean: a prompt and where it comes from, and stop texts with escapes.
//!
//! A prompt is taken as it is, since its backslashes may be LaTeX, code or a path. A stop text is a
//! pattern that is typed only for this purpose, so it has the escapes that a shell lacks.

use std::path::PathBuf;

/// What a sample continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The start of a document, `<|endoftext|>`.
    Document,
    /// This text.
    Text(String),
    /// The text of this file.
    File(PathBuf),
    /// The text of standard input.
    Stdin,
}

impl Start {
    /// Interprets the text of `--start`.
    pub(super) fn of(text: &str) -> Self {
        match (text, text.strip_prefix("FILE:")) {
            ("", _) => Self::Document,
            ("-", _) | (_, Some("-")) => Self::Stdin,
            (_, Some(path)) => Self::File(path.into()),
            (text, None) => Self::Text(text.to_owned()),
        }
    }
}

/// Replaces the escapes of a stop text; everything else stays as it is.
pub(super) fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let meant = match rest.peek() {
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('\\') => Some('\\'),
            _ => None,
        };
        match meant.filter(|_| c == '\\') {
            Some(meant) => {
                plain.push(meant);
                rest.next();
            }
            None => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_texts_have_escapes_and_keep_everything_else() {
        for (typed, meant) in [
            ("The end", "The end"),
            (r"\n", "\n"),
            (r"a\tb\r\n", "a\tb\r\n"),
            (r"\\n", r"\n"),
            (r"\\", r"\"),
            (r"\d \", r"\d \"),
            ("\n", "\n"),
        ] {
            assert_eq!(unescape(typed), meant, "{typed}");
        }
    }

    #[test]
    fn a_start_is_a_text_a_file_or_standard_input() {
        for (typed, meant) in [
            ("", Start::Document),
            ("-", Start::Stdin),
            ("FILE:-", Start::Stdin),
            ("FILE:a b", Start::File("a b".into())),
            ("--", Start::Text("--".to_owned())),
            (r"a\n", Start::Text(r"a\n".to_owned())),
        ] {
            assert_eq!(Start::of(typed), meant, "{typed}");
        }
    }
}
