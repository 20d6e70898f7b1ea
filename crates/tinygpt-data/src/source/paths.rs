//! Which files a path means, and which format each of them has.

use std::fs;
use std::path::{Path, PathBuf};

use super::jsonl::JsonLines;
use super::parquet::Parquet;
use super::text::PlainText;
use super::{Documents, ReadAs};
use crate::error::DataError;

/// The formats, by file name extension.
const EXTENSIONS: [&str; 3] = ["txt", "jsonl", "parquet"];

fn extension(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    EXTENSIONS.into_iter().find(|known| *known == extension)
}

/// Opens a file by its format; up to `n_threads` decode it.
pub(super) fn open(
    path: &Path,
    read_as: &ReadAs,
    n_threads: usize,
) -> Result<Box<dyn Documents>, DataError> {
    match extension(path) {
        Some("jsonl") => Ok(Box::new(JsonLines::open(path, read_as)?)),
        Some("parquet") => Ok(Box::new(Parquet::open(path, read_as, n_threads)?)),
        Some(_) => Ok(Box::new(PlainText::open(path, read_as.lossy)?)),
        None => Err(unknown_format(path)),
    }
}

/// Checks that each path is there and replaces a folder by the texts in it, sorted by name.
///
/// # Errors
/// [`DataError::Io`] for a path that is not there, [`DataError::Usage`] for a file of another
/// format and for a folder without text.
pub(crate) fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(DataError::io("read", path))?;
        if metadata.is_dir() {
            files.append(&mut texts_in(path)?);
        } else if extension(path).is_some() {
            files.push(path.clone());
        } else {
            return Err(unknown_format(path));
        }
    }
    Ok(files)
}

fn texts_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io("list", folder))? {
        let file = entry.map_err(DataError::io("list", folder))?.path();
        if extension(&file).is_some() && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(DataError::usage(
            format!("{}: the folder holds no text", folder.display()),
            "put .txt, .jsonl or .parquet files into it",
        ));
    }
    files.sort();
    Ok(files)
}

fn unknown_format(path: &Path) -> DataError {
    DataError::usage(
        format!("{}: a file of unknown format", path.display()),
        "give a .txt, .jsonl or .parquet file, or a folder of them",
    )
}
