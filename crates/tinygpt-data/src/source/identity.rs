//! The identity of a file: name, size and hash, so that a changed text is noticed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::TextFile;
use crate::error::DataError;
use crate::tokenizer::hex;

/// Read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Describes each file by its size and the first digits of its SHA-256; `read` is called for every chunk.
///
/// All of the content counts and not a sample or a date, so that the same text has the same
/// identity on every machine, and no change is missed.
pub(crate) fn identify(
    files: &[&TextFile],
    read: &(dyn Fn(u64) -> Result<(), DataError> + Sync),
) -> Result<String, DataError> {
    let described: Vec<String> =
        files.par_iter().map(|file| identify_file(&file.path, read)).collect::<Result<_, _>>()?;
    Ok(described.join(", "))
}

fn identify_file(
    path: &Path,
    read: &(dyn Fn(u64) -> Result<(), DataError> + Sync),
) -> Result<String, DataError> {
    let mut file = File::open(path).map_err(DataError::io("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut n_bytes = 0;
    loop {
        let n = file.read(&mut buffer).map_err(DataError::io("read", path))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        n_bytes += n as u64;
        read(n as u64)?;
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Ok(format!("{name} ({n_bytes} bytes, sha256 {})", hex(&hash.finalize()[..8])))
}
