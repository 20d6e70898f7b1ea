//! Whether there is room on the disk, before a byte is written.
//!
//! This is only an early error: a disk can fill up during the save, and a quota is not free space.
//! A save that fails changes nothing.

use std::io::{Error, ErrorKind};
use std::path::Path;

use crate::error::TrainError;

/// Refuses if the disk of `dir` has fewer than `needed` bytes left. If the system does not report
/// it, nothing is refused.
///
/// # Errors
/// [`TrainError::Io`] of the kind `StorageFull` with both numbers.
pub(super) fn check(dir: &Path, needed: u64) -> Result<(), TrainError> {
    match free_bytes(dir) {
        Some(free) if free < needed => {
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let reason = format!(
                "it needs {:.1} MB and the disk has {:.1} MB left",
                megabytes(needed),
                megabytes(free)
            );
            let full = Error::new(ErrorKind::StorageFull, reason);
            Err(TrainError::io("save a checkpoint in", dir)(full))
        }
        _ => Ok(()),
    }
}

/// Free bytes for this user.
#[cfg(unix)]
fn free_bytes(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    // Some network file systems do not know their size and say 0.
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// On other systems the failed write reports it.
#[cfg(not(unix))]
fn free_bytes(_dir: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn more_than_the_disk_holds_is_refused_with_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path(), 1).unwrap();
        let refused = check(dir.path(), u64::MAX);
        assert_eq!(refused.is_err(), cfg!(unix));
        if let Err(TrainError::Io { source, .. }) = refused {
            assert_eq!(source.kind(), ErrorKind::StorageFull);
            assert!(source.to_string().contains("18446744073709.6 MB"), "{source}");
        }
    }
}
