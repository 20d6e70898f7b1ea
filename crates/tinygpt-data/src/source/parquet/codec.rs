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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    /// 64 MiB of zeros as brotli packs them.
    #[rustfmt::skip]
    const ZEROS: [u8; 106] = [
        0xcb, 0xff, 0xff, 0x3f, 0xf8, 0x27, 0x00, 0xe2, 0xb1, 0x40, 0x20, 0xf7, 0xfe, 0x8f, 0xff, 0xff,
        0x7f, 0xf0, 0x4f, 0x00, 0xc4, 0x61, 0x11, 0x80, 0xee, 0xfd, 0x1f, 0xff, 0xff, 0xff, 0xe0, 0x9f,
        0x00, 0x88, 0xc3, 0x02, 0x00, 0xdd, 0xfb, 0x3f, 0xfe, 0xff, 0xff, 0xc1, 0x3f, 0x01, 0x10, 0x87,
        0x05, 0x00, 0xba, 0xf7, 0x7f, 0xfc, 0xff, 0xff, 0x83, 0x7f, 0x02, 0x20, 0x0e, 0x0b, 0x00, 0x74,
        0xef, 0xff, 0xf8, 0xff, 0xff, 0x07, 0xff, 0x04, 0x40, 0x1c, 0x16, 0x00, 0xe8, 0xde, 0xff, 0xf1,
        0xff, 0xff, 0x0f, 0xfe, 0x09, 0x80, 0x38, 0x2c, 0x00, 0xd0, 0xbd, 0xff, 0xcb, 0xff, 0xff, 0x3f,
        0xfc, 0x13, 0x00, 0x71, 0x58, 0x00, 0xa0, 0x7b, 0xff, 0x07,
    ];

    #[test]
    fn pages_unpack_to_no_more_than_they_may() {
        let mut gzip = GzEncoder::new(Vec::new(), Default::default());
        gzip.write_all(&vec![0; 64 << 20]).unwrap();
        let gzip = gzip.finish().unwrap();
        for (unpacker, packed) in [(Unpacker::Gzip, &gzip[..]), (Unpacker::Brotli, &ZEROS)] {
            let mut unpacked = Vec::new();
            let error = unpacker.unpack(packed, 1 << 20, &mut unpacked).unwrap_err();
            assert!(error.to_string().contains("unpacks to more than 1048576"), "{error}");
            assert!(unpacked.capacity() <= 4 << 20, "{}", unpacked.capacity());
            let mut unpacked = b"levels".to_vec();
            unpacker.unpack(packed, 64 << 20, &mut unpacked).unwrap();
            assert_eq!(unpacked.len(), (64 << 20) + 6);
        }
    }
}
