//! Files and directories that appear whole or not at all, and survive a power cut.
#![doc = include_str!("../README.md")]

mod error;
mod kind;
mod replace;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use error::FsError;
pub use kind::ErrorKind;
pub use replace::{exchange, replace_dir, replace_file, replace_link, restore_dir};

/// The temporary name of `path` while it is written: `.NAME.part` in the same directory.
pub fn part_of(path: &Path) -> PathBuf {
    hidden(path, ".part")
}

/// The temporary name of what `path` was before it was replaced: `.NAME.old` in the same directory.
pub fn old_of(path: &Path) -> PathBuf {
    hidden(path, ".old")
}

fn hidden(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

/// Writes a file whole: readers find the earlier contents or `contents`.
///
/// # Errors
/// [`FsError`]; then the file at `path` is unchanged and the temporary file is removed.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<(), FsError> {
    let part = part_of(path);
    // If a link has this name, the link is removed and not its target overwritten.
    remove(&part)?;
    let written = File::create_new(&part)
        .and_then(|mut file| file.write_all(contents))
        .map_err(FsError::new("write", &part))
        .and_then(|()| replace_file(&part, path));
    if written.is_err() {
        // It takes space that the next attempt may need.
        let _ = fs::remove_file(&part);
    }
    written
}

/// Creates `dir` and its missing parents, and makes each new name durable.
///
/// # Errors
/// [`FsError`] if a directory cannot be created or synced.
pub fn create_dir_all(dir: &Path) -> Result<(), FsError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = parent_of(dir);
    if !parent.exists() {
        create_dir_all(parent)?;
    }
    create_dir(dir)
}

/// Creates `dir`, but not its parents, and makes its name durable. An existing directory is left as
/// it is.
///
/// # Errors
/// [`FsError`] if the directory cannot be created or its parent cannot be synced.
pub fn create_dir(dir: &Path) -> Result<(), FsError> {
    match fs::create_dir(dir) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        created => created.map_err(FsError::new("create the directory", dir))?,
    }
    sync_dir(parent_of(dir))
}

/// Removes a file, a link or a directory with everything in it. Succeeds if there is nothing.
///
/// # Errors
/// [`FsError`].
pub fn remove(path: &Path) -> Result<(), FsError> {
    let is_dir = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(FsError::new("remove", path)),
    }
}

/// Renames within one file system, without syncing.
///
/// # Errors
/// [`FsError`].
pub fn rename(from: &Path, to: &Path) -> Result<(), FsError> {
    fs::rename(from, to).map_err(FsError::new("rename", from))
}

/// Syncs the contents of a file that has been written and closed.
///
/// # Errors
/// [`FsError`].
pub fn sync_file(path: &Path) -> Result<(), FsError> {
    // Windows only syncs handles that are open for writing.
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.sync_all())
        .map_err(FsError::new("sync", path))
}

/// Syncs the names in a directory. Does nothing on Windows, where a directory cannot be opened and
/// NTFS journals renames.
///
/// # Errors
/// [`FsError`].
pub fn sync_dir(path: &Path) -> Result<(), FsError> {
    if cfg!(unix) {
        return File::open(path).and_then(|dir| dir.sync_all()).map_err(FsError::new("sync", path));
    }
    Ok(())
}

/// Syncs every file in a directory, then the names in it. Subdirectories are not entered.
///
/// # Errors
/// [`FsError`].
pub fn sync_contents(dir: &Path) -> Result<(), FsError> {
    for entry in fs::read_dir(dir).map_err(FsError::new("list", dir))? {
        let path = entry.map_err(FsError::new("list", dir))?.path();
        if path.is_file() {
            sync_file(&path)?;
        }
    }
    sync_dir(dir)
}

/// Whether the open `file` is still the one of this name.
#[cfg(unix)]
pub fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => id(open) == id(named),
        _ => false,
    }
}

/// Elsewhere files have no number that can be compared; that there is one of this name is enough
/// where open files cannot be removed.
#[cfg(not(unix))]
pub fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// The directory that names `path`.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
