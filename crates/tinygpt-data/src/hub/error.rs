//! Errors of hub downloads.
//!
//! Every message names the address (never the token, never the signed part of an
//! address), what was received and what was expected. Alternatives to the hub depend on the
//! program, which adds them.

use std::path::PathBuf;
use std::time::Duration;

use tinygpt_fs::FsError;

use super::address::Address;
use crate::error::ErrorKind;
use crate::quote::{Shown, escaped_excerpt, escaped_message};

/// A failure of the hub download.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// An option or the recipe holds an invalid value.
    #[error("{what} `{}` cannot be used: {reason}", escaped_excerpt(value))]
    Invalid {
        /// What the value was given as, such as `HF_ENDPOINT` or `repository`.
        what: &'static str,
        /// The value as given, without anything secret.
        value: String,
        /// What is wrong with it and what would do.
        reason: String,
    },

    /// No connection: the host is unknown, refuses, or did not answer in time.
    #[error("could not reach {host} for {url}: {source}")]
    Unreachable {
        /// Scheme and host that were tried.
        host: String,
        /// The address, without secrets.
        url: String,
        /// Whether the host had answered before, so that trying again may help.
        answered_before: bool,
        /// What the connection failed with.
        #[source]
        source: Box<ureq::Error>,
    },

    /// The host responded with an error status.
    #[error("{url} answered {status}{}", .wait.map(|w| format!(" (asks to wait {} s)", w.as_secs())).unwrap_or_default())]
    Status {
        /// The address, without secrets.
        url: String,
        /// The HTTP status code.
        status: u16,
        /// The answer's `Retry-After`.
        wait: Option<Duration>,
    },

    /// A transfer was interrupted or stalled; what was received is kept for the next attempt.
    #[error("the transfer of {url} was interrupted after {received} of {expected} bytes: {reason}")]
    Broken {
        /// The address, without secrets.
        url: String,
        /// How the transfer ended.
        reason: String,
        /// Bytes in the partial file.
        received: u64,
        /// The size of the whole file.
        expected: u64,
    },

    /// The response does not follow the hub's protocol.
    #[error("{url} sent {}, expected {expected}", escaped_message(got))]
    Answer {
        /// The address, without secrets.
        url: String,
        /// What was received.
        got: String,
        /// What the protocol requires.
        expected: String,
        /// What to do next.
        advice: &'static str,
    },

    /// A redirect that is not followed.
    #[error("{url} redirects to {}, which is not followed: {reason}", escaped_message(target))]
    Redirect {
        /// The address, without secrets.
        url: String,
        /// The target, without secrets.
        target: String,
        /// Why that is refused.
        reason: &'static str,
    },

    /// The repository lists a file whose name could lead out of the cache folder.
    #[error(
        "repository {repository} lists a file named \"{}\": {reason}; nothing was downloaded",
        escaped_excerpt(name)
    )]
    FileName {
        /// The repository's id.
        repository: String,
        /// The name as listed.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The repository holds no parquet file for the split, or more than one set of them.
    #[error("repository {repository}: cannot find the files of split `{split}`: {reason}")]
    NoSplit {
        /// The repository's id.
        repository: String,
        /// The split that was looked for.
        split: String,
        /// What there is instead, and what to do.
        reason: String,
    },

    /// The repository does not have the requested files.
    #[error("repository {repository} has no {wanted}")]
    NoFile {
        /// The repository's id.
        repository: String,
        /// The files.
        wanted: String,
    },

    /// Offline mode, and the cache does not hold all files.
    #[error(
        "offline, and {} does not hold the {} {repository} at revision \
         {revision}: {reason}",
        Shown(.cache_dir),
        if *.is_model { "model" } else { "dataset" }
    )]
    NotCached {
        /// The repository's id.
        repository: String,
        /// The revision asked for.
        revision: String,
        /// The cache that was searched.
        cache_dir: PathBuf,
        /// Whether it is a model, and not a dataset.
        is_model: bool,
        /// What is missing.
        reason: String,
    },

    /// Stopped on request; what was received is kept.
    #[error("stopped; what was downloaded is kept and used by the next attempt")]
    Stopped,

    /// The operating system refused.
    #[error("could not {action} {}: {source}", Shown(.path))]
    Io {
        /// What was being done, such as `write`.
        action: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl HubError {
    /// The class of this error, for an exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::NoSplit { .. } | Self::NoFile { .. } => ErrorKind::Usage,
            Self::Stopped => ErrorKind::Unexpected,
            Self::Io { .. } => ErrorKind::Io,
            _ => ErrorKind::Network,
        }
    }

    /// What to do about it, if that is known. Names in backticks are keys: `source` and those of
    /// [`HubOptions`](super::HubOptions); `proxy` is the environment's.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Status { status, .. } => Some(advice(*status)),
            Self::Broken { .. } => Some("try again: the download resumes"),
            Self::Answer { advice, .. } => Some(advice),
            Self::FileName { .. } => Some("use another repository, or a local text as `source`"),
            Self::NoFile { .. } => Some("choose another repository, or give a file"),
            Self::Unreachable { .. } | Self::Redirect { .. } => {
                Some("check the connection (`endpoint` names a mirror, `proxy` a proxy)")
            }
            Self::NotCached { .. } => Some("unset `offline` to download it once"),
            Self::Invalid { .. } | Self::NoSplit { .. } | Self::Stopped | Self::Io { .. } => None,
        }
    }

    /// Whether a model's files were requested, and not a dataset's, if known.
    pub fn is_about_model(&self) -> bool {
        match self {
            Self::NotCached { is_model, .. } => *is_model,
            Self::NoFile { .. } => true,
            Self::Unreachable { url, .. } | Self::Redirect { url, .. } => {
                !url.contains("/datasets/")
            }
            _ => false,
        }
    }

    /// Whether the same request may succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
            }
            Self::Broken { .. } => true,
            Self::Unreachable { answered_before, .. } => *answered_before,
            _ => false,
        }
    }

    /// The pause that the host asked for.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }

    pub(super) fn answer(
        address: &Address,
        got: impl Into<String>,
        expected: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self::Answer { url: address.shown(), got: got.into(), expected: expected.into(), advice }
    }

    pub(super) fn io(action: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }
}

impl From<FsError> for HubError {
    fn from(FsError { action, path, source }: FsError) -> Self {
        Self::Io { action, path, source }
    }
}

/// What to do about a status.
fn advice(status: u16) -> &'static str {
    match status {
        401 => {
            "the repository does not exist, or is private or gated: check its name, or set `token` \
             to one that may read it"
        }
        403 => {
            "access refused: accept the repository's terms on its page, or set `token` to one that \
             may read it"
        }
        404 => "no such repository, revision or file: check repository and revision",
        407 => "the proxy asks for a login: add it to `proxy`",
        429 => "too many requests: wait a little and try again, or set `token`",
        500..=599 => {
            "the host has a problem: try again later (what was downloaded is kept), or set \
             `endpoint` to a mirror"
        }
        _ => "check `endpoint`, or use a local text as `source`",
    }
}
