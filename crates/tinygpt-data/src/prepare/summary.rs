//! The summary of a preparation.

use std::path::PathBuf;
use std::time::Duration;

use crate::prepared::Meta;

use super::files::SourceFiles;

/// What `prepare` did.
#[derive(Debug, Clone, PartialEq)]
pub struct PrepareSummary {
    /// The directory of the preparation.
    pub dir: PathBuf,
    /// Its description.
    pub meta: Meta,
    /// Whether the same preparation already existed and was kept.
    pub kept: bool,
    /// The files that were read, if known.
    pub files: SourceFiles,
    /// The elapsed time.
    pub elapsed: Duration,
}
