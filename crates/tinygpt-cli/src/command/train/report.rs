//! `train --report`: a page about one or more runs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tinygpt_train::html_report;

use super::super::inside::check_outside;
use crate::exit::Ended;
use crate::terminal::say;

/// Writes the page into the current directory, which no run has to be in: it is not a file of a run.
///
/// # Errors
/// A directory without a run, a damaged run, or a page that cannot be written.
pub(super) fn write_report(dirs: &[PathBuf]) -> Result<Ended> {
    let path = Path::new(html_report::FILE_NAME);
    check_outside("--report", path)?;
    html_report::write(dirs, path)?;
    say(&format!("wrote {}: open it in a browser", path.display()));
    Ok(Ended::Done)
}
