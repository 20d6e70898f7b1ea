//! Files that are read completely, up to a size limit, and if one of our
//! programs wrote them, regular files only. A link to `/dev/zero` has no end, and opening a FIFO waits
//! forever.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::error::DataError;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not a file of this kind; the text says what it is.
    #[error("{0}")]
    Refused(String),
}

impl FileError {
    /// A closure for `map_err`: the error of the file at `path`, with what to do if it is not such a file.
    pub(crate) fn at<'a>(path: &'a Path, fix: &'a str) -> impl FnOnce(Self) -> DataError + 'a {
        move |error| match error {
            Self::Io(source) => DataError::io("read", path)(source),
            Self::Refused(what) => DataError::corrupt(path, what, fix),
        }
    }

    /// Whether there is no file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Opens a regular file, or a link to one.
///
/// # Errors
/// [`FileError::Refused`] for a device, a FIFO or a socket, [`FileError::Io`].
pub fn open_regular(path: &Path) -> Result<File, FileError> {
    // Before it is opened, which would wait for the other end of a FIFO.
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(FileError::Refused("is not a regular file, expected one".to_owned()));
    }
    Ok(File::open(path)?)
}

/// Reads a regular file of at most `max_bytes` bytes.
///
/// # Errors
/// As [`open_regular`], and [`FileError::Refused`] for a larger file.
pub fn read_regular(path: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    let file = open_regular(path)?;
    let n_bytes = file.metadata()?.len();
    if n_bytes > max_bytes {
        return Err(too_large(&n_bytes.to_string(), max_bytes));
    }
    read_limited(file, max_bytes)
}

/// As [`read_regular`], a text.
///
/// # Errors
/// As [`read_regular`], and [`FileError::Io`] if it is not UTF-8.
pub(crate) fn read_regular_text(path: &Path, max_bytes: u64) -> Result<String, FileError> {
    let bytes = read_regular(path, max_bytes)?;
    String::from_utf8(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error).into())
}

/// Reads to the end of `reader`, which may be a pipe, but at most `max_bytes` bytes.
///
/// # Errors
/// [`FileError::Refused`] if there are more, [`FileError::Io`].
pub fn read_limited(reader: impl Read, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    reader.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large("more", max_bytes));
    }
    Ok(bytes)
}

fn too_large(n_bytes: &str, max_bytes: u64) -> FileError {
    let than = if n_bytes == "more" { "than" } else { "bytes, more than" };
    FileError::Refused(format!("has {n_bytes} {than} the {max_bytes} bytes that it may have"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_regular(&path, 5).unwrap(), b"12345");
        let error = read_regular(&path, 4).unwrap_err().to_string();
        assert_eq!(error, "has 5 bytes, more than the 4 bytes that it may have");
        let error = read_limited(io::repeat(0), 9).unwrap_err().to_string();
        assert_eq!(error, "has more than the 9 bytes that it may have");
        assert!(read_regular(&dir.path().join("b"), 5).unwrap_err().is_not_found());
        assert!(matches!(read_regular(dir.path(), 1 << 20), Err(FileError::Io(_))));
    }

    #[cfg(unix)]
    #[test]
    fn what_has_no_end_is_refused_through_a_link_too() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, link) = (dir.path().join("fifo"), dir.path().join("link"));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for path in [fifo, link] {
            let error = read_regular(&path, 5).unwrap_err();
            assert!(
                matches!(&error, FileError::Refused(what) if what.contains("regular")),
                "{error}"
            );
        }
    }
}
