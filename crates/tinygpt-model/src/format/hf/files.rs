//! Opening the files of a model's directory: only regular files, and whole files only up to a size
//! limit, since a directory from elsewhere may hold a link to `/dev/zero`.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use crate::error::{ModelError, Result};

/// Opens a regular file, or a link to one.
pub(super) fn open(path: &Path) -> Result<File> {
    let io = |e| ModelError::io("read", path, e);
    // Before it is opened, which would wait for the other end of a FIFO.
    let kind = fs::metadata(path).map_err(io)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(ModelError::file(path, "is not a regular file, expected one"));
    }
    File::open(path).map_err(io)
}

/// Reads a text of at most `max_bytes` bytes.
pub(super) fn read_text(path: &Path, max_bytes: u64) -> Result<String> {
    let file = open(path)?;
    let io = |e| ModelError::io("read", path, e);
    let n_bytes = file.metadata().map_err(io)?.len();
    if n_bytes > max_bytes {
        let message =
            format!("has {n_bytes} bytes, more than the {max_bytes} bytes that it may have");
        return Err(ModelError::file(path, message));
    }
    let mut text = String::new();
    file.take(max_bytes).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}
