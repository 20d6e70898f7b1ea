//! Replacing the run in a directory by another one, in one step.
//!
//! A run with `--overwrite` leaves the earlier run as it is until its own first checkpoint is
//! whole. That checkpoint and the metrics so far are written into `out_dir/.new`, which is then
//! exchanged with `out_dir/checkpoints`: a process that dies before leaves the earlier run, one
//! that dies after leaves the new one, and the next start tidies up.

use std::path::{Path, PathBuf};

use tinygpt_fs as fs;

use super::write::save_in;
use super::{DIR_NAME, LINKS, NEW, OLD, dir_of, entry_names, is_temporary, list, step_of};
use crate::error::TrainError;
use crate::metrics;

/// Saves the first checkpoint of a run with its `metrics`, in the place of the run that is there.
///
/// # Errors
/// [`TrainError::Io`]: then the earlier run is still there, perhaps without its links, which are
/// made again when it is resumed.
pub(crate) fn save_over(
    out_dir: &Path,
    step: u64,
    n_bytes: u64,
    metrics: &[u8],
    write_files: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<PathBuf, TrainError> {
    let new = out_dir.join(NEW);
    fs::remove(&new)?;
    fs::create_dir(&new)?;
    let written = save_in(&new, step, n_bytes, write_files)
        .and_then(|_| Ok(fs::write_file(&new.join(metrics::FILE_NAME), metrics)?))
        .and_then(|()| exchange(out_dir));
    if let Err(error) = written {
        // The save has already failed; leftovers that cannot be removed are not worth a second
        // error.
        let _ = std::fs::remove_dir_all(&new);
        return Err(error);
    }
    finish(out_dir)?;
    Ok(dir_of(out_dir, step))
}

/// Gives the new run's checkpoints their name.
fn exchange(out_dir: &Path) -> Result<(), TrainError> {
    // A reader finds the newest checkpoint without the links, and must not follow a link without a
    // target.
    for name in LINKS {
        fs::remove(&out_dir.join(name))?;
    }
    fs::sync_dir(out_dir)?;
    let (checkpoints, new) = (out_dir.join(DIR_NAME), out_dir.join(NEW));
    if !fs::exchange(&checkpoints, &new) {
        let old = out_dir.join(OLD);
        fs::remove(&old)?;
        fs::rename(&checkpoints, &old)?;
        fs::rename(&new, &checkpoints)?;
    }
    Ok(fs::sync_dir(out_dir)?)
}

/// Completes or undoes a replacement that a process left unfinished when it died.
///
/// # Errors
/// [`TrainError::Io`].
pub(crate) fn finish(out_dir: &Path) -> Result<(), TrainError> {
    let (checkpoints, new, old) = (out_dir.join(DIR_NAME), out_dir.join(NEW), out_dir.join(OLD));
    if old.exists() && !checkpoints.exists() {
        let kept = if new.exists() { &new } else { &old };
        fs::rename(kept, &checkpoints)?;
    }
    let moved = checkpoints.join(metrics::FILE_NAME);
    if moved.exists() {
        // Copied, because after a power cut a rename between two directories may have kept only the
        // removal.
        let lines = std::fs::read(&moved).map_err(TrainError::io("read", &moved))?;
        fs::write_file(&out_dir.join(metrics::FILE_NAME), &lines)?;
        fs::sync_dir(out_dir)?;
        fs::remove(&moved)?;
        fs::sync_dir(&checkpoints)?;
    }
    for dir in [new, old] {
        remove_checkpoints(&dir, &checkpoints)?;
    }
    Ok(())
}

/// Removes a directory of checkpoints. Files that were put there meanwhile are moved to
/// `checkpoints`.
fn remove_checkpoints(dir: &Path, checkpoints: &Path) -> Result<(), TrainError> {
    for name in entry_names(dir)? {
        let path = dir.join(&name);
        if step_of(&name).is_none() && !is_temporary(&name) && name != metrics::FILE_NAME {
            fs::rename(&path, &checkpoints.join(&name))?;
        }
    }
    Ok(fs::remove(dir)?)
}

/// What a run that overwrites the one in `out_dir` will remove, in a sentence.
///
/// # Errors
/// [`TrainError::Io`] if the checkpoints cannot be listed.
pub(crate) fn announcement(out_dir: &Path) -> Result<String, TrainError> {
    let steps: Vec<u64> = list(out_dir)?.into_iter().map(|(step, _)| step).collect();
    let checkpoints = match steps.as_slice() {
        [step] => format!("the checkpoint of step {step}"),
        [newest, .., oldest] => {
            format!("{} checkpoints of steps {oldest} to {newest}", steps.len())
        }
        [] => "its checkpoints".to_string(),
    };
    let names = LINKS.into_iter().chain([metrics::FILE_NAME, crate::plot::FILE_NAME]);
    let there: Vec<&str> = names.into_iter().filter(|name| out_dir.join(name).exists()).collect();
    Ok(format!(
        "`overwrite` replaces the run in {}: {checkpoints}, {}. It stays until the first \
         checkpoint \
         of this run is saved",
        out_dir.display(),
        there.join(", ")
    ))
}
