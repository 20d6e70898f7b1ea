//! What `sample --score` reads.

use std::fmt;
use std::path::PathBuf;

/// A text to score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScoreSource {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl ScoreSource {
    /// Interprets the text of `--score`.
    pub(super) fn of(text: &str) -> Self {
        if text == "-" { Self::Stdin } else { Self::File(text.into()) }
    }
}

impl fmt::Display for ScoreSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}
