//! One trainer at a time in one directory.
//!
//! The lock belongs to the open file and not to its name: the kernel lets go of it however the
//! process ends, so a lock is never stale. Readers (`sample`) take none; checkpoints are immutable.
//!
//! A start that is refused leaves nothing behind: the directories and the file that were made for
//! the lock go again, unless [`OutDirLock::keep`] was called.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::durable::create_dir;
use crate::error::TrainError;

const FILE_NAME: &str = ".lock";

/// Proof that no other process trains in the directory; released when dropped.
#[derive(Debug)]
pub(crate) struct OutDirLock {
    _file: File,
    /// What was made for it, outermost directory first; empty once it is kept.
    made: Vec<PathBuf>,
}

impl OutDirLock {
    /// Creates `out_dir` if it is missing and locks it.
    ///
    /// # Errors
    /// [`TrainError::Locked`] if another process holds it, [`TrainError::Io`] if the directory
    /// cannot be made or written.
    pub(crate) fn take(out_dir: &Path) -> Result<Self, TrainError> {
        let path = out_dir.join(FILE_NAME);
        loop {
            let made = missing(&path);
            create_dir(out_dir)?;
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Self { _file: file, made }),
                // A start that was refused has just removed the file: this lock locks nobody out.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(TrainError::Locked(out_dir.to_path_buf()));
                }
                Err(TryLockError::Error(source)) => {
                    return Err(TrainError::io("lock", &path)(source));
                }
            }
        }
    }

    /// Lets directory and file stay when the lock is released.
    pub(crate) fn keep(mut self) -> Self {
        self.made.clear();
        self
    }
}

impl Drop for OutDirLock {
    fn drop(&mut self) {
        // Under the lock, so that nobody else has made anything of the same name.
        for path in self.made.drain(..).rev() {
            // A directory that somebody has put a file into stays.
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
        }
    }
}

/// Whether another process trains in `out_dir` now.
pub fn is_locked(out_dir: &Path) -> bool {
    let file = File::options().write(true).open(out_dir.join(FILE_NAME));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn open(path: &Path) -> Result<File, TrainError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.map_err(TrainError::io("create", path))
}

/// `path` and the directories above it that do not exist yet, outermost first.
fn missing(path: &Path) -> Vec<PathBuf> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let mut missing: Vec<PathBuf> =
        path.ancestors().take_while(is_missing).map(Path::to_path_buf).collect();
    missing.reverse();
    missing
}

/// Whether the open `file` is still the one of this name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => id(open) == id(named),
        _ => false,
    }
}

/// Windows removes no file that is open.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let out_dir = dir.path().join("a/new/place");
        assert!(!is_locked(&out_dir));
        let first = OutDirLock::take(&out_dir).unwrap().keep();
        assert!(is_locked(&out_dir));
        let refused = OutDirLock::take(&out_dir).unwrap_err();
        assert!(matches!(refused, TrainError::Locked(_)), "{refused}");
        drop(first);
        assert!(!is_locked(&out_dir));
        drop(OutDirLock::take(&out_dir).unwrap());
        assert!(out_dir.join(FILE_NAME).exists(), "who finds a lock file leaves it");
    }

    #[test]
    fn a_lock_that_is_not_kept_leaves_nothing_it_made() {
        let dir = tempfile::tempdir().unwrap();
        let out_dir = dir.path().join("a/new/place");
        drop(OutDirLock::take(&out_dir).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let lock = OutDirLock::take(&out_dir).unwrap();
        std::fs::write(dir.path().join("a/new/notes.txt"), "mine").unwrap();
        drop(lock);
        assert!(!out_dir.exists() && dir.path().join("a/new/notes.txt").exists());
    }
}
