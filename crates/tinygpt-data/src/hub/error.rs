//! What can go wrong between a dataset on the hub and verified files on this disk.
//!
//! Every message names the address it tried (never the token, never the signed part of an
//! address), what came back and what was expected. What else would do in place of the hub is for
//! each program to say.

use std::path::PathBuf;
use std::time::Duration;

use tinygpt_fs::FsError;

use super::address::Address;
use crate::error::ErrorKind;
use crate::quote::{Shown, clip, clip_message};

/// A failure of the hub download.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// An option or the recipe holds a value that no hub could serve.
    #[error("{what} `{}` cannot be used: {reason}", clip(value))]
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
        /// The whole address, fit to be shown.
        url: String,
        /// Whether the host had answered before, so that trying again may help.
        answered_before: bool,
        /// What the connection failed with.
        #[source]
        source: Box<ureq::Error>,
    },

    /// The host answered with a status that is no success.
    #[error("{url} answered {status}{}", .wait.map(|w| format!(" (asks to wait {} s)", w.as_secs())).unwrap_or_default())]
    Status {
        /// The address, fit to be shown.
        url: String,
        /// The HTTP status code.
        status: u16,
        /// The answer's `Retry-After`.
        wait: Option<Duration>,
    },

    /// A transfer broke off or stalled; what came is kept and goes on with the next try.
    #[error("the transfer of {url} broke off after {received} of {expected} bytes: {reason}")]
    Broken {
        /// The address, fit to be shown.
        url: String,
        /// How the transfer ended.
        reason: String,
        /// Bytes that are safely in the partial file.
        received: u64,
        /// The size of the whole file.
        expected: u64,
    },

    /// The answer is not what the hub's protocol promises.
    #[error("{url} sent {}, expected {expected}", clip_message(got))]
    Answer {
        /// The address, fit to be shown.
        url: String,
        /// What came.
        got: String,
        /// What the protocol promises.
        expected: String,
        /// What to do next.
        advice: &'static str,
    },

    /// A redirect that must not be followed.
    #[error("{url} redirects to {}, which is not followed: {reason}", clip_message(target))]
    Redirect {
        /// The address, fit to be shown.
        url: String,
        /// Where it points, fit to be shown.
        target: String,
        /// Why that is refused.
        reason: &'static str,
    },

    /// The repository lists a file whose name could lead out of the cache folder.
    #[error(
        "repository {repository} lists a file named \"{}\": {reason}; nothing was downloaded",
        clip(name)
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
    #[error("repository {repository} does not tell which files are split `{split}`: {reason}")]
    NoSplit {
        /// The repository's id.
        repository: String,
        /// The split that was looked for.
        split: String,
        /// What there is instead, and what to do.
        reason: String,
    },

    /// The repository does not hold the files that were looked for.
    #[error("repository {repository} has no {wanted}")]
    NoFile {
        /// The repository's id.
        repository: String,
        /// The files.
        wanted: String,
    },

    /// Offline was asked for and the cache does not hold the whole dataset.
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

    /// Asked to stop; what has come is kept.
    #[error("stopped; what was downloaded is kept and used by the next attempt")]
    Stopped,

    /// The local disk failed.
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
            Self::Stopped => ErrorKind::Other,
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
            Self::Invalid { .. }
            | Self::NoSplit { .. }
            | Self::Stopped
            | Self::Io { .. } => None,
        }
    }

    /// Whether a model's files were asked for, and not a dataset's, where that can be told.
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

    /// Whether the same request may well succeed a little later.
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

    /// How long the host asked us to stay away.
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

/// What to do about a status, in the words of someone who cannot see the code.
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
