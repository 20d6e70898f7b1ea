//! One trainer at a time in one directory.
//!
//! The lock belongs to the open file and not to its name: the kernel lets go of it however the
//! process ends, so a lock is never stale. Readers (`sample`) take none; checkpoints are immutable.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::durable::create_dir;
use crate::error::TrainError;

const FILE_NAME: &str = ".lock";

/// Proof that no other process trains in the directory; let go of when dropped.
#[derive(Debug)]
pub(crate) struct OutDirLock {
    _file: File,
}

impl OutDirLock {
    /// Creates `out_dir` where it is missing and locks it.
    ///
    /// # Errors
    /// [`TrainError::Locked`] if another process holds it, [`TrainError::Io`] if the directory
    /// cannot be made or written.
    pub(crate) fn take(out_dir: &Path) -> Result<Self, TrainError> {
        create_dir(out_dir)?;
        let path = out_dir.join(FILE_NAME);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(TrainError::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(TrainError::Locked(out_dir.to_path_buf())),
            Err(TryLockError::Error(source)) => Err(TrainError::io("lock", &path)(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let out_dir = dir.path().join("a/new/place");
        let first = OutDirLock::take(&out_dir).unwrap();
        let refused = OutDirLock::take(&out_dir).unwrap_err();
        assert!(matches!(refused, TrainError::Locked(_)), "{refused}");
        drop(first);
        OutDirLock::take(&out_dir).unwrap();
    }
}
