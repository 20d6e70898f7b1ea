//! Writing a checkpoint whole or not at all, and removing those that are no longer needed.
//!
//! Everything here runs under the lock of `out_dir`.

use std::path::{Path, PathBuf};

use tinygpt_fs::{create_dir, part_of, remove, rename, replace_dir, restore_dir, sync_dir};

use super::foreign::is_checkpoint;
use super::{DELETED, DIR_NAME, LINKS, REPLACED, TEMPORARY};
use super::{dir_name, entry_names, is_temporary, list, manifest, space};
use crate::error::TrainError;
use crate::{metrics, plot};

/// Saves the checkpoint of `step`: `write_files` fills a directory with about `n_bytes`, which then
/// gets its name.
///
/// When this returns the checkpoint is durable: files, directory and name are synced. When it fails
/// nothing has changed.
pub(crate) fn save(
    out_dir: &Path,
    step: u64,
    n_bytes: u64,
    write_files: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<PathBuf, TrainError> {
    let parent = out_dir.join(DIR_NAME);
    // Not `out_dir` itself: if it is removed during the run, it must not be created again without
    // its lock.
    create_dir(&parent)?;
    // Leftovers of an earlier save that could not be cleaned up take space. If they still cannot be
    // removed, only those of this very step are a problem.
    let _ = clean_leftovers(out_dir);
    save_in(&parent, step, n_bytes, write_files)
}

/// As [`save`], in the directory `parent` of checkpoints.
pub(super) fn save_in(
    parent: &Path,
    step: u64,
    n_bytes: u64,
    write_files: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<PathBuf, TrainError> {
    let temporary = parent.join(format!("{TEMPORARY}{}", dir_name(step)));
    remove(&temporary)?;
    space::check(parent, n_bytes)?;
    let saved = fill(&temporary, write_files).and_then(|()| publish(parent, &temporary, step));
    if saved.is_err() {
        // The save has already failed; leftovers that cannot be removed are not worth a second
        // error.
        let _ = std::fs::remove_dir_all(&temporary);
    }
    saved
}

/// Saves a copy of the checkpoint `from` as one of the run in `out_dir`.
pub(crate) fn copy(from: &Path, step: u64, out_dir: &Path) -> Result<(), TrainError> {
    let names: Vec<String> =
        entry_names(from)?.into_iter().filter(|name| name != manifest::FILE_NAME).collect();
    let n_bytes = names.iter().filter_map(|name| from.join(name).metadata().ok()).map(|m| m.len());
    save(out_dir, step, n_bytes.sum(), |dir| {
        for name in &names {
            let path = from.join(name);
            std::fs::copy(&path, dir.join(name)).map_err(TrainError::io("copy", &path))?;
        }
        Ok(())
    })?;
    Ok(())
}

fn fill(
    temporary: &Path,
    write_files: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    std::fs::create_dir(temporary).map_err(TrainError::io("create the directory", temporary))?;
    write_files(temporary)?;
    let mut names = entry_names(temporary)?;
    names.sort();
    manifest::write(temporary, &names)?;
    Ok(sync_dir(temporary)?)
}

/// Replaces a checkpoint of the same step, if there is one: a damaged one that was skipped, or the
/// one that was resumed. A run that stopped before an evaluation makes it now and may have the best
/// loss so far.
fn publish(parent: &Path, temporary: &Path, step: u64) -> Result<PathBuf, TrainError> {
    let dir = parent.join(dir_name(step));
    let replaced = parent.join(format!("{REPLACED}{}", dir_name(step)));
    replace_dir(temporary, &dir, &replaced)?;
    Ok(dir)
}

/// The checkpoints that [`prune`] keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    /// The checkpoint that has just been saved.
    pub(crate) newest: u64,
    /// The newest good one before it.
    pub(crate) before: Option<u64>,
    /// How many of the newest to keep in all, at least 1.
    pub(crate) n_newest: usize,
    /// One to keep whatever its age.
    pub(crate) best: Option<u64>,
    /// Another one.
    pub(crate) plateau: Option<u64>,
}

/// Removes the checkpoints that `keep` does not name.
///
/// Those between `before` and `newest` were skipped as damaged and are removed. One that is newer
/// than `newest` was skipped, too: it stays until the run has reached its step again.
pub(crate) fn prune(out_dir: &Path, keep: &Keep) -> Result<(), TrainError> {
    let mut n_older = 0;
    for (step, dir) in list(out_dir)? {
        let mut is_needed = step >= keep.newest || [keep.best, keep.plateau].contains(&Some(step));
        if keep.before.is_some_and(|before| step <= before) {
            n_older += 1;
            is_needed |= n_older < keep.n_newest;
        }
        if !is_needed && is_checkpoint(&dir) {
            discard(&out_dir.join(DIR_NAME), &dir)?;
        }
    }
    Ok(())
}

/// Removes what a process that died left of a save or a removal, and restores the name of a
/// checkpoint that was to be replaced and was not.
pub(crate) fn clean_leftovers(out_dir: &Path) -> Result<(), TrainError> {
    let parent = out_dir.join(DIR_NAME);
    for name in entry_names(&parent)?.into_iter().filter(|name| is_temporary(name)) {
        if let Some(of_step) = name.strip_prefix(REPLACED) {
            restore_dir(&parent.join(of_step), &parent.join(&name))?;
        } else {
            remove(&parent.join(name))?;
        }
    }
    Ok(())
}

/// Removes the incomplete links and files of an earlier process that died.
pub(crate) fn clean_parts(out_dir: &Path) -> Result<(), TrainError> {
    for name in LINKS.into_iter().chain([metrics::FILE_NAME, plot::FILE_NAME]) {
        remove(&part_of(&out_dir.join(name)))?;
    }
    Ok(())
}

/// Takes a checkpoint's name away in one step before its files are removed, so that no reader opens
/// half of it.
fn discard(parent: &Path, dir: &Path) -> Result<(), TrainError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let deleted = parent.join(format!("{DELETED}{name}"));
    remove(&deleted)?;
    rename(dir, &deleted)?;
    Ok(remove(&deleted)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::dir_of;
    use super::*;

    fn put(dir: &Path, name: &str, text: &str) -> Result<(), TrainError> {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(TrainError::io("write", &path))
    }

    fn save_empty(out_dir: &Path, step: u64) -> PathBuf {
        save(out_dir, step, 1, |dir| put(dir, "state.json", "{}")).unwrap()
    }

    fn steps(out_dir: &Path) -> Vec<u64> {
        list(out_dir).unwrap().into_iter().map(|(step, _)| step).collect()
    }

    #[test]
    fn a_save_that_fails_leaves_everything_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        save_empty(dir.path(), 10);
        let failed = save(dir.path(), 20, 1, |dir| {
            put(dir, "model.safetensors", "half")?;
            Err(TrainError::corrupt(dir, "the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(steps(dir.path()), [10]);
        assert_eq!(entry_names(&dir.path().join(DIR_NAME)).unwrap(), ["step-00000010"]);
    }

    #[test]
    fn while_it_is_written_it_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let out_dir = dir.path();
        save(out_dir, 10, 1, |half| {
            put(half, "state.json", "{}")?;
            assert_eq!(steps(out_dir), [] as [u64; 0]);
            Ok(())
        })
        .unwrap();
        assert_eq!(steps(out_dir), [10]);
        assert!(dir_of(out_dir, 10).join("manifest.json").is_file());
    }

    #[test]
    fn leftovers_of_a_crash_are_cleaned_and_checkpoints_stay() {
        let dir = tempfile::tempdir().unwrap();
        save_empty(dir.path(), 10);
        for name in [".tmp-step-00000020", ".del-step-00000005"] {
            let leftover = dir.path().join(DIR_NAME).join(name);
            std::fs::create_dir(&leftover).unwrap();
            put(&leftover, "model.safetensors", "half").unwrap();
        }
        clean_leftovers(dir.path()).unwrap();
        assert_eq!(entry_names(&dir.path().join(DIR_NAME)).unwrap(), ["step-00000010"]);
    }

    #[test]
    fn without_free_space_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let refused = save(dir.path(), 10, u64::MAX, |dir| put(dir, "state.json", "{}"));
        assert_eq!(refused.is_err(), cfg!(unix));
        assert_eq!(entry_names(&dir.path().join(DIR_NAME)).unwrap().is_empty(), cfg!(unix));
    }

    #[test]
    fn a_crash_while_a_checkpoint_is_replaced_leaves_one_of_the_two() {
        let dir = tempfile::tempdir().unwrap();
        let out_dir = dir.path();
        let first = save_empty(out_dir, 10);
        let written =
            |text: &str| save(out_dir, 10, 1, |dir| put(dir, "state.json", text)).unwrap();
        let read = || std::fs::read_to_string(first.join("state.json")).unwrap();
        written("{} ");
        assert_eq!((steps(out_dir), read()), (vec![10], "{} ".to_string()));
        // Between the two renames, and after the second.
        let replaced = out_dir.join(DIR_NAME).join(".old-step-00000010");
        std::fs::rename(&first, &replaced).unwrap();
        clean_leftovers(out_dir).unwrap();
        assert_eq!(read(), "{} ");
        std::fs::create_dir(&replaced).unwrap();
        clean_leftovers(out_dir).unwrap();
        assert_eq!(entry_names(&out_dir.join(DIR_NAME)).unwrap(), ["step-00000010"]);
        assert_eq!(read(), "{} ");
    }

    #[test]
    fn pruning_keeps_the_newest_good_ones_the_best_and_what_is_newer() {
        let keep = Keep { newest: 50, before: Some(30), n_newest: 2, best: None, plateau: None };
        for (keep, left) in [
            (keep, vec![60, 50, 30]),
            (Keep { n_newest: 1, ..keep }, vec![60, 50]),
            (Keep { n_newest: 3, ..keep }, vec![60, 50, 30, 20]),
            (Keep { n_newest: 9, ..keep }, vec![60, 50, 30, 20, 10]),
            (Keep { best: Some(10), ..keep }, vec![60, 50, 30, 10]),
            (Keep { plateau: Some(20), ..keep }, vec![60, 50, 30, 20]),
            (Keep { before: None, ..keep }, vec![60, 50]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            // 40 was skipped as damaged: it lies between the newest good one and the new one.
            for step in [10, 20, 30, 40, 50, 60] {
                save_empty(dir.path(), step);
            }
            prune(dir.path(), &keep).unwrap();
            assert_eq!(steps(dir.path()), left, "{keep:?}");
        }
    }
}
