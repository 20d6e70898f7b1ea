//! One trainer at a time in one directory.
//!
//! The lock belongs to the open file and not to its name: the kernel releases it however the
//! process ends, so a lock is never stale. Readers (`sample`) take none; checkpoints are immutable.
//!
//! A start that is refused leaves nothing behind: the directories and the file that were made for
//! the lock are removed again, unless [`OutDirLock::keep`] was called.
//!
//! Removing or moving the file takes the lock's protection away, not the lock: another process can
//! lock a new file of that name. So a run asks [`OutDirLock::lost`] before it writes.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use tinygpt_data::Shown;
use tinygpt_fs::{create_dir_all, is_at};

use crate::error::TrainError;

const FILE_NAME: &str = ".lock";

/// Proof that no other process trains in the directory; released when dropped.
#[derive(Debug)]
pub(crate) struct OutDirLock {
    path: PathBuf,
    /// `None` only while it is dropped.
    file: Option<File>,
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
            create_dir_all(out_dir)?;
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Self { path, file: Some(file), made }),
                // A start that was refused has just removed the file: this lock protects nothing.
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

    /// What happened to the lock file, if it is no longer the one that is held: then another run may
    /// be using the directory.
    pub(crate) fn lost(&self) -> Option<Lost> {
        let file = self.file.as_ref()?;
        if is_at(file, &self.path) {
            return None;
        }
        let out_dir = self.path.parent().unwrap_or(&self.path);
        let moved_to = path_of(file).filter(|path| is_at(file, path));
        let what = match moved_to.is_some() {
            true => format!("{} was moved", Shown(out_dir)),
            false if !out_dir.exists() => format!("{} was removed", Shown(out_dir)),
            false if self.path.exists() => format!("{} was replaced", Shown(&self.path)),
            false => format!("{} was removed", Shown(&self.path)),
        };
        let moved_to = moved_to.and_then(|path| Some(path.parent()?.to_path_buf()));
        Some(Lost { what, moved_to })
    }
}

/// How a run lost its directory.
#[derive(Debug)]
pub(crate) struct Lost {
    /// What was removed, moved or replaced, as a sentence.
    pub(crate) what: String,
    /// Where the directory is now, if it was moved and the system knows.
    pub(crate) moved_to: Option<PathBuf>,
}

impl Drop for OutDirLock {
    fn drop(&mut self) {
        if self.lost().is_some() {
            return;
        }
        // Windows does not remove a file that this process has locked.
        if cfg!(windows) {
            self.file = None;
        }
        // Under the lock, so that nobody else has made anything of the same name.
        for path in self.made.drain(..).rev() {
            // A directory into which somebody has put a file stays.
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
        }
    }
}

/// Whether another process trains in `out_dir` now.
///
/// # Errors
/// [`TrainError::Io`] if the lock file exists and the system cannot test it.
pub fn is_locked(out_dir: &Path) -> Result<bool, TrainError> {
    let path = out_dir.join(FILE_NAME);
    let Ok(file) = File::options().write(true).open(&path) else { return Ok(false) };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(TrainError::io("lock", &path)(source)),
    }
}

/// Whether a process that has ended left its lock file in `dir`.
pub(crate) fn is_abandoned(dir: &Path) -> bool {
    let file = File::options().write(true).open(dir.join(FILE_NAME));
    file.is_ok_and(|file| file.try_lock().is_ok())
}

fn open(path: &Path) -> Result<File, TrainError> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    forbid_removal(&mut options);
    options.open(path).map_err(TrainError::io("create", path))
}

/// Elsewhere an open file can always be removed.
#[cfg(not(windows))]
fn forbid_removal(_options: &mut std::fs::OpenOptions) {}

/// Without `FILE_SHARE_DELETE` nobody can remove or rename the file or move its directory.
#[cfg(windows)]
fn forbid_removal(options: &mut std::fs::OpenOptions) {
    use std::os::windows::fs::OpenOptionsExt as _;
    const FILE_SHARE_READ: u32 = 1;
    const FILE_SHARE_WRITE: u32 = 2;
    options.share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE);
}

/// `path` and the directories above it that do not exist yet, outermost first.
fn missing(path: &Path) -> Vec<PathBuf> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let mut missing: Vec<PathBuf> =
        path.ancestors().take_while(is_missing).map(Path::to_path_buf).collect();
    missing.reverse();
    missing
}

/// The path that an open file has now, if the system knows.
#[cfg(target_os = "linux")]
fn path_of(file: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn path_of(_file: &File) -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let out_dir = dir.path().join("a/new/place");
        assert!(!is_locked(&out_dir).unwrap());
        let first = OutDirLock::take(&out_dir).unwrap().keep();
        assert!(is_locked(&out_dir).unwrap());
        let refused = OutDirLock::take(&out_dir).unwrap_err();
        assert!(matches!(refused, TrainError::Locked(_)), "{refused}");
        drop(first);
        assert!(!is_locked(&out_dir).unwrap());
        drop(OutDirLock::take(&out_dir).unwrap());
        assert!(out_dir.join(FILE_NAME).exists(), "an existing lock file stays");
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

    #[test]
    #[cfg(unix)]
    fn a_lock_file_that_is_removed_replaced_or_moved_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let out_dir = dir.path().join("out");
        let (path, moved) = (out_dir.join(FILE_NAME), dir.path().join("moved"));
        let lost = |change: &dyn Fn()| {
            let lock = OutDirLock::take(&out_dir).unwrap().keep();
            assert!(lock.lost().is_none());
            change();
            lock.lost().unwrap()
        };
        assert!(lost(&|| std::fs::remove_file(&path).unwrap()).what.ends_with(".lock was removed"));
        let replace = || {
            std::fs::write(dir.path().join("other"), "").unwrap();
            std::fs::rename(dir.path().join("other"), &path).unwrap();
        };
        assert!(lost(&replace).what.ends_with(".lock was replaced"));
        assert!(
            lost(&|| std::fs::remove_dir_all(&out_dir).unwrap()).what.ends_with("out was removed")
        );
        let moved_to = lost(&|| std::fs::rename(&out_dir, &moved).unwrap()).moved_to;
        if cfg!(target_os = "linux") {
            assert_eq!(moved_to.unwrap().canonicalize().unwrap(), moved.canonicalize().unwrap());
        }
    }
}
