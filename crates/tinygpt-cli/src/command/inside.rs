//! What may lie in what: the one rule that `train`, `prepare` and `sample --export` share.
//!
//! Checkpoints and prepared datasets are directories that are removed or replaced as a whole, so
//! nothing that somebody names may lie inside one: not a run, not a dataset, not a text, not an
//! export.

use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use tinygpt_data::is_preparation;
use tinygpt_train::checkpoint::{DIR_NAME, is_checkpoint};

use crate::usage::UsageError;

/// Refuses `path`, which `option` names, if it is or lies inside a directory that is removed or
/// replaced as a whole.
///
/// # Errors
/// [`UsageError`] with that directory.
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

/// `path` with all links followed, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut real = PathBuf::new();
    for component in absolute.components() {
        match component {
            // Behind a link, the directory above is that of its target.
            Component::ParentDir => _ = real.pop(),
            other => real.push(other),
        }
        if let Ok(target) = real.canonicalize() {
            real = target;
        }
    }
    real
}
