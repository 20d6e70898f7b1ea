//! The memory map, and with it the only `unsafe` of this crate.
//!
//! Shards are mapped because they may be larger than memory, and random windows of them are
//! read. What this file does not do is look at the bytes.
#![expect(unsafe_code, reason = "mapping a file is the one thing std cannot do safely")]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::DataError;

/// Maps a file for reading.
///
/// The file must not be changed while it is mapped. Shards never are: `prepare` writes new ones
/// elsewhere and renames a directory over the old one, whose files live on while they are mapped.
pub(super) fn map(path: &Path) -> Result<Mmap, DataError> {
    let file = File::open(path).map_err(DataError::io("read", path))?;
    // SAFETY: the mapping is read-only. Another process that shortened the file could still make
    // a read fault; our own programs only ever replace shards by rename (see above), and what
    // they read is checked as untrusted bytes and copied out, never reinterpreted in place.
    unsafe { Mmap::map(&file) }.map_err(DataError::io("map", path))
}
