//! Refuses paths inside a checkpoint or a prepared dataset, for `train`, `prepare` and `sample --export`.
//!
//! These directories are removed or replaced as a whole, so a run, a dataset, a text or an export
//! inside one would be deleted with it.

use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use tinygpt_data::is_preparation;
use tinygpt_train::checkpoint::{DIR_NAME, is_checkpoint};

use crate::usage::UsageError;

/// Refuses `path`, the value of `option`, if it is such a directory or inside one.
///
/// # Errors
/// [`UsageError`] that names the directory.
pub(super) fn check_outside(option: &str, path: &Path) -> Result<()> {
    let place = real(path);
    for dir in place.ancestors() {
        let what = if is_checkpoint(dir) {
            "a checkpoint of a run"
        } else if holds_checkpoints(dir) {
            "the directory of a run's checkpoints"
        } else if is_preparation(dir) {
            "a prepared dataset"
        } else {
            continue;
        };
        let (path, dir) = (path.display(), dir.display());
        let error = UsageError::new(format!(
            "{option} {path} is inside {dir}, {what}, and would be deleted with it"
        ));
        return Err(error.hint(format!("choose a path for {option} outside of it")).into());
    }
    Ok(())
}

fn holds_checkpoints(dir: &Path) -> bool {
    let entries = || std::fs::read_dir(dir).into_iter().flatten().flatten();
    dir.ends_with(DIR_NAME) && entries().any(|entry| is_checkpoint(&entry.path()))
}

/// `path` with all links resolved, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut real = PathBuf::new();
    for component in absolute.components() {
        match component {
            // The parent of a link is the parent of its target.
            Component::ParentDir => _ = real.pop(),
            other => real.push(other),
        }
        if let Ok(target) = real.canonicalize() {
            real = target;
        }
    }
    real
}
