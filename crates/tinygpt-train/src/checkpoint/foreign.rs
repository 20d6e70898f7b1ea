//! What may be in a run's directory: files of other programs that a run would replace are refused.
//!
//! A file whose name no run writes may be in `out_dir` and is left alone. A file with a name that a
//! run writes must have been written by a run.

use std::path::{Path, PathBuf};

use tinygpt_fs::part_of;

use super::{BEST, DIR_NAME, LAST, LINKS, NEW, OLD, PLATEAU, STATE_FILE};
use super::{entry_names, is_temporary, list, manifest, pointer, step_of};
use crate::error::TrainError;
use crate::{metrics, plot};

/// The first thing in `out_dir` that a run would replace and that no run there has written.
///
/// A run that is to be replaced (`overwrite`) removes its whole directory of checkpoints, so
/// nothing else may be there.
///
/// # Errors
/// [`TrainError::Io`] if a directory cannot be listed.
pub(crate) fn foreign(out_dir: &Path, overwrite: bool) -> Result<Option<PathBuf>, TrainError> {
    let is_run = list(out_dir)?.iter().any(|(_, dir)| is_checkpoint(dir));
    let is_bare =
        !is_run && !exists(&out_dir.join(LAST)) && !exists(&out_dir.join(plot::FILE_NAME));
    let metrics = out_dir.join(metrics::FILE_NAME);
    // Lines without a checkpoint are those of a run that ended before its first one.
    let is_metrics_own = is_file(&metrics) && (is_run || is_bare && metrics::is_own(&metrics));
    let is_plot_own = is_run && is_file(&out_dir.join(plot::FILE_NAME));
    let own = [
        (BEST, pointer::target(out_dir, BEST).is_some()),
        (LAST, pointer::target(out_dir, LAST).is_some()),
        (PLATEAU, pointer::target(out_dir, PLATEAU).is_some()),
        (metrics::FILE_NAME, is_metrics_own),
        (plot::FILE_NAME, is_plot_own),
        (DIR_NAME, out_dir.join(DIR_NAME).is_dir()),
        (NEW, is_dir(&out_dir.join(NEW))),
        (OLD, is_dir(&out_dir.join(OLD))),
    ];
    let not_own = own.iter().filter(|(_, is_own)| !is_own).map(|(name, _)| out_dir.join(name));
    // What a killed process leaves of a link or a file that was being replaced.
    let names = LINKS.into_iter().chain([metrics::FILE_NAME, plot::FILE_NAME]);
    let parts = names.map(|name| part_of(&out_dir.join(name))).filter(|part| is_dir(part));
    if let Some(path) = not_own.chain(parts).find(|path| exists(path)) {
        return Ok(Some(path));
    }
    let checkpoints = out_dir.join(DIR_NAME);
    let is_wholly_ours = !is_run || overwrite;
    Ok(entry_names(&checkpoints)?.into_iter().map(|name| checkpoints.join(name)).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match (is_temporary(&name), step_of(&name)) {
            (true, _) => !is_dir(path),
            (false, Some(_)) => is_wholly_ours && !is_checkpoint(path),
            (false, None) => is_wholly_ours && !(name == metrics::FILE_NAME && is_file(path)),
        }
    }))
}

/// Whether a directory is a checkpoint of a run, whole or damaged.
pub fn is_checkpoint(dir: &Path) -> bool {
    is_dir(dir) && [manifest::FILE_NAME, STATE_FILE].iter().any(|name| dir.join(name).is_file())
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Whether it is a file itself, not a link to one.
fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
}

/// Whether it is a directory itself, not a link to one.
fn is_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}
