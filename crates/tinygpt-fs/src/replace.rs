//! Giving something that is written and complete its final name, in the place of what had it before.

use std::path::Path;

use super::{FsError, parent_of, remove, rename, sync_dir, sync_file};

/// Syncs the file `new`, renames it to `path` and makes the rename durable.
///
/// # Errors
/// [`FsError`]. The file at `path` is the earlier or the new one.
pub fn replace_file(new: &Path, path: &Path) -> Result<(), FsError> {
    sync_file(new)?;
    rename(new, path)?;
    sync_dir(parent_of(path))
}

/// Renames the directory `new`, whose contents are synced, to `path`, makes the rename durable and
/// removes the directory that had the name before.
///
/// The two are exchanged in one step. Systems without such a call rename the earlier directory to
/// `old` first; [`restore_dir`] undoes that after a crash in between. If the earlier directory cannot
/// be removed, it stays under the name `new` or `old`.
///
/// # Errors
/// [`FsError`]. If the new directory did not get the name, the earlier one has it.
pub fn replace_dir(new: &Path, path: &Path, old: &Path) -> Result<(), FsError> {
    let exists = path.symlink_metadata().is_ok();
    let is_exchanged = exists && exchange(new, path);
    if exists && !is_exchanged {
        remove(old)?;
        rename(path, old)?;
    }
    if !is_exchanged && let Err(error) = rename(new, path) {
        if exists {
            // If this fails as well, `restore_dir` does it at the next start.
            let _ = rename(old, path);
        }
        return Err(error);
    }
    sync_dir(parent_of(path))?;
    if exists {
        // The replacement has succeeded.
        let _ = remove(if is_exchanged { new } else { old });
    }
    Ok(())
}

/// Gives a directory its name back if a process died after it had renamed it to `old` in order to
/// replace it; removes `old` if the replacement was complete.
///
/// # Errors
/// [`FsError`].
pub fn restore_dir(path: &Path, old: &Path) -> Result<(), FsError> {
    if old.exists() && !path.exists() { rename(old, path) } else { remove(old) }
}

/// Exchanges the names of two directories in one step: a reader never finds a name missing. False if
/// the system or the file system cannot do it; then nothing has changed.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub fn exchange(left: &Path, right: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, left, CWD, right, RenameFlags::EXCHANGE).is_ok()
}

/// Other systems have no such call: always false.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub fn exchange(_left: &Path, _right: &Path) -> bool {
    false
}

/// Puts a symbolic link to `target` in the place of `path`. False if links are not available here,
/// as on some file systems and for most users of Windows; then nothing has changed.
///
/// # Errors
/// [`FsError`].
pub fn replace_link(target: &Path, path: &Path) -> Result<bool, FsError> {
    let part = super::part_of(path);
    remove(&part)?;
    if symlink(target, &part).is_err() {
        return Ok(false);
    }
    rename(&part, path)?;
    sync_dir(parent_of(path))?;
    Ok(true)
}

#[cfg(unix)]
use std::os::unix::fs::symlink;
#[cfg(windows)]
use std::os::windows::fs::symlink_file as symlink;
