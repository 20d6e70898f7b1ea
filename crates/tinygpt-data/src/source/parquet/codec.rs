//! Unpacks pages of gzip and brotli, which the parquet library would unpack without a limit: a
//! page of a kilobyte may hold gigabytes, whatever its header says.

use std::io::Read;

use brotli_decompressor::Decompressor;
use flate2::read::MultiGzDecoder;
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result};

/// How much brotli reads at once, in bytes.
const BUFFER_BYTES: usize = 4 << 10;

/// What unpacks a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpacker {
    Gzip,
    Brotli,
}

impl Unpacker {
    /// The one for a codec, if pages of it are unpacked here.
    pub(super) fn of(codec: Compression) -> Option<Self> {
        match codec {
            Compression::GZIP(_) => Some(Self::Gzip),
            Compression::BROTLI(_) => Some(Self::Brotli),
            _ => None,
        }
    }

    /// Appends what `packed` holds, at most `max` bytes of it.
    pub(super) fn unpack(self, packed: &[u8], max: u64, into: &mut Vec<u8>) -> Result<()> {
        let n_read = match self {
            Self::Gzip => MultiGzDecoder::new(packed).take(max + 1).read_to_end(into)?,
            Self::Brotli => {
                Decompressor::new(packed, BUFFER_BYTES).take(max + 1).read_to_end(into)?
            }
        };
        if n_read as u64 > max {
            let n_packed = packed.len();
            let what = format!("a page of {n_packed} bytes that unpacks to more than {max}");
            return Err(ParquetError::General(what));
        }
        Ok(())
    }
}
