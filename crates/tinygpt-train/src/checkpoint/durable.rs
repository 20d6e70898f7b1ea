//! Making writes survive a power cut.
//!
//! A file is durable when its contents are synced and so is the directory that names it; a rename
//! is durable when the directory is synced afterwards. Nothing here knows what a checkpoint is.

use std::fs::File;
use std::path::Path;

use crate::error::TrainError;

/// Syncs the contents of a file that has been written and closed.
///
/// # Errors
/// [`TrainError::Io`].
pub fn sync_file(path: &Path) -> Result<(), TrainError> {
    // Opened for writing because Windows syncs no other handles.
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.sync_all())
        .map_err(TrainError::io("sync", path))
}

/// Syncs the names in a directory.
///
/// # Errors
/// [`TrainError::Io`].
#[cfg(unix)]
pub fn sync_dir(path: &Path) -> Result<(), TrainError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(TrainError::io("sync", path))
}

/// Elsewhere directories cannot be opened as files; NTFS journals its renames.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn sync_dir(_path: &Path) -> Result<(), TrainError> {
    Ok(())
}

/// Creates `dir` with its parents and makes each of the new names durable.
///
/// # Errors
/// [`TrainError::Io`].
pub fn create_dir(dir: &Path) -> Result<(), TrainError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !parent.exists() {
        create_dir(parent)?;
    }
    match std::fs::create_dir(dir) {
        // Another process was quicker; who of us goes on is up to the lock.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => made.map_err(TrainError::io("create the directory", dir))?,
    }
    sync_dir(parent)
}

/// Writes a small file durably under a name that readers never see half-written.
pub(crate) fn write_whole(path: &Path, contents: &[u8]) -> Result<(), TrainError> {
    let part = part_of(path);
    let replaced = std::fs::write(&part, contents)
        .map_err(TrainError::io("write", &part))
        .and_then(|()| sync_file(&part))
        .and_then(|()| std::fs::rename(&part, path).map_err(TrainError::io("replace", path)));
    if replaced.is_err() {
        // It takes room that the next try may need.
        let _ = std::fs::remove_file(&part);
    }
    replaced
}

/// The name under which `path` is prepared, in the same directory.
pub fn part_of(path: &Path) -> std::path::PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    path.with_file_name(name)
}
