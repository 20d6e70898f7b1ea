//! The errors of this crate, as one enum.
//!
//! Each message names the file or key, what was found and what was expected; [`DataError::hint`]
//! says what to do next.
//! This file does not know exit codes: it sorts errors into [`ErrorKind`]s, and the binaries do the
//! rest.

use std::path::{Path, PathBuf};

pub use tinygpt_fs::ErrorKind;
use tinygpt_fs::FsError;

use crate::chat::are_conversations;
use crate::encoding::Encoding;
use crate::hub::HubError;
pub(crate) use crate::quote::quoted_list;
use crate::quote::{Shown, escaped_excerpt, escaped_message};

/// The hint of a preparation that cannot be used.
pub(crate) const PREPARE_AGAIN: &str = "prepare the dataset again with `force`";

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// An invalid request; `what` names the key or value.
    #[error("{what}")]
    Usage {
        /// What is wrong, with the value.
        what: String,
        /// What to do about it.
        fix: String,
    },
    /// A damaged or wrong file.
    #[error("{}: {what}", Shown(path))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, found against expected.
        what: String,
        /// What to do about it.
        fix: String,
    },
    /// A file of a prepared dataset that is not what `meta.json` says.
    #[error("{}: {what}", Shown(path))]
    DamagedPreparation {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, found against expected.
        what: String,
        /// The dataset.
        dataset: String,
        /// Its encoding.
        encoding: Encoding,
    },
    /// A JSON file of ours with a mistake in it.
    #[error("{}: {what}", Shown(path))]
    Json {
        /// The file, or the recipe's name if it is compiled in.
        path: PathBuf,
        /// What is wrong and, for an unknown key, the nearest known one.
        what: String,
    },
    /// Text that is not UTF-8.
    #[error("{}: invalid UTF-8 at byte {offset}{what}", Shown(path))]
    InvalidUtf8 {
        /// The file.
        path: PathBuf,
        /// The offset of the first bad byte, from the start of the text.
        offset: u64,
        /// What the text may be instead, if that can be guessed.
        what: String,
        /// What to do about it.
        fix: String,
    },
    /// A table without the column that holds the text.
    #[error(
        "{}{}: no text column `{}`; it has {}",
        Shown(path),
        line.map(|line| format!(" line {line}")).unwrap_or_default(),
        escaped_excerpt(column),
        quoted_list(available)
    )]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The line, if each line has its own field names.
        line: Option<u64>,
        /// The column that was looked for.
        column: String,
        /// The available columns.
        available: Vec<String>,
    },
    /// Nothing has been prepared under this name and encoding.
    #[error(
        "{}: dataset `{}` is not prepared{}",
        Shown(dir),
        escaped_excerpt(dataset),
        encoding.as_deref().map(|e| format!(" with encoding `{e}`")).unwrap_or_default()
    )]
    NotPrepared {
        /// The dataset.
        dataset: String,
        /// The requested encoding, if one was specified.
        encoding: Option<String>,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The dataset is already prepared with other settings.
    #[error(
        "{}: already prepared with other settings ({})",
        Shown(dir),
        differences.join(", ")
    )]
    AlreadyPrepared {
        /// The existing preparation.
        dir: PathBuf,
        /// One entry for each differing setting, as `key: there → asked`.
        differences: Vec<String>,
    },
    /// Another process prepares the same dataset.
    #[error("{}: another process is preparing this dataset", Shown(path))]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Stopped on request; nothing incomplete is left.
    #[error("stopped; nothing was written, and what was downloaded is kept")]
    Stopped,
    /// Stopped on request, after some of the files of a preparation file by file.
    #[error("stopped after {n_done} of {n_files} files; the same command continues there")]
    StoppedBetweenFiles {
        /// How many files are done.
        n_done: usize,
        /// How many files there are.
        n_files: usize,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", Shown(path))]
    Io {
        /// What was tried, as a verb: "read", "create".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A chat template that is invalid, or that does not fit the conversation or the tokenizer.
    #[error("the chat template {what}")]
    ChatTemplate {
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        fix: String,
    },
    /// The operating system refused a thread.
    #[error("the system refuses a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The download from the hub failed.
    #[error(transparent)]
    Hub(HubError),
    /// A position outside a stream of tokens.
    #[error("tokens {start}..{end} requested from {len} tokens")]
    OutOfRange {
        /// The first position asked for.
        start: usize,
        /// One past the last position asked for.
        end: usize,
        /// How many tokens there are.
        len: usize,
    },
    /// A mask that does not have one number for each token.
    #[error("the mask has {mask} numbers for {tokens} tokens, expected one for each")]
    MaskLength {
        /// How many tokens there are.
        tokens: usize,
        /// How many numbers the mask has.
        mask: usize,
    },
    /// The tokenizer library failed unexpectedly.
    #[error("the tokenizer failed to {action}: {message}")]
    Tokenizer {
        /// What was tried, as a verb.
        action: &'static str,
        /// The library's message.
        message: String,
    },
}

impl DataError {
    /// The class of this error, for an exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage { .. }
            | Self::Json { .. }
            | Self::MissingColumn { .. }
            | Self::NotPrepared { .. }
            | Self::ChatTemplate { .. }
            | Self::AlreadyPrepared { .. } => ErrorKind::Usage,
            Self::Corrupt { .. }
            | Self::DamagedPreparation { .. }
            | Self::InvalidUtf8 { .. }
            | Self::MaskLength { .. } => ErrorKind::Corrupt,
            Self::Io { .. } | Self::Thread(_) => ErrorKind::Io,
            Self::Hub(error) => error.kind(),
            Self::Locked { .. } => ErrorKind::Locked,
            Self::OutOfRange { .. }
            | Self::Tokenizer { .. }
            | Self::Stopped
            | Self::StoppedBetweenFiles { .. } => ErrorKind::Unexpected,
        }
    }

    /// What to do about it, if that is known. Names in backticks are keys of
    /// [`PrepareRequest`](crate::PrepareRequest) or [`HubOptions`](crate::hub::HubOptions).
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { fix, .. }
            | Self::Corrupt { fix, .. }
            | Self::ChatTemplate { fix, .. }
            | Self::InvalidUtf8 { fix, .. } => Some(fix.clone()),
            Self::MissingColumn { available, .. } if are_conversations(available) => Some(
                "these are conversations: set `chat`, or `text_template` to join columns to a text"
                    .to_owned(),
            ),
            Self::MissingColumn { .. } => Some(
                "set `text_column` to one of them, or `text_template` to join several".to_owned(),
            ),
            Self::NotPrepared { .. } => Some("prepare the dataset first".to_owned()),
            Self::DamagedPreparation { .. } | Self::MaskLength { .. } => {
                Some(PREPARE_AGAIN.to_owned())
            }
            Self::AlreadyPrepared { .. } => Some("use `force` to replace it".to_owned()),
            Self::Locked { .. } => Some("wait for it to finish".to_owned()),
            Self::Hub(error) => error.hint().map(str::to_owned),
            Self::Json { .. }
            | Self::Stopped
            | Self::StoppedBetweenFiles { .. }
            | Self::Io { .. }
            | Self::Thread(_)
            | Self::OutOfRange { .. }
            | Self::Tokenizer { .. } => None,
        }
    }

    /// A damaged file of a known preparation; other errors stay as they are.
    pub(crate) fn in_preparation(self, dataset: &str, encoding: Encoding) -> Self {
        match self {
            Self::Corrupt { path, what, .. } => {
                Self::DamagedPreparation { path, what, dataset: dataset.to_owned(), encoding }
            }
            error => error,
        }
    }

    /// The message and the hint in one line.
    #[cfg(test)]
    pub(crate) fn explained(&self) -> String {
        self.hint().map_or_else(|| self.to_string(), |hint| format!("{self}; {hint}"))
    }

    /// An invalid request.
    pub(crate) fn usage(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Usage { what: escaped_message(&what.into()), fix: escaped_message(&fix.into()) }
    }

    /// A chat template that cannot be used.
    pub(crate) fn chat_template(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::ChatTemplate { what: escaped_message(&what.into()), fix: fix.into() }
    }

    /// A damaged or wrong file.
    pub(crate) fn corrupt(path: &Path, what: impl Into<String>, fix: impl Into<String>) -> Self {
        let (what, fix) = (escaped_message(&what.into()), escaped_message(&fix.into()));
        Self::Corrupt { path: path.to_path_buf(), what, fix }
    }

    /// A closure for `map_err` on an operation of the operating system.
    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    /// A closure for `map_err` on an operation of the tokenizer library.
    pub(crate) fn tokenizer(
        action: &'static str,
    ) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self {
        move |error| Self::Tokenizer { action, message: escaped_message(&error.to_string()) }
    }
}

/// A stop is the same error wherever it was noticed.
impl From<HubError> for DataError {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Stopped => Self::Stopped,
            error => Self::Hub(error),
        }
    }
}

impl From<FsError> for DataError {
    fn from(FsError { action, path, source }: FsError) -> Self {
        Self::Io { action, path, source }
    }
}
