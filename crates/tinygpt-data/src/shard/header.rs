//! The header of a shard, 128 bytes, all numbers little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic, `TGPTSHRD` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | width of an id in bytes, 2 or 4 |
//! | 16 | 8 | number of tokens |
//! | 24 | 8 | vocabulary size; every id is below it |
//! | 32 | 32 | SHA-256 of the `tokenizer.json` that made the ids |
//! | 64 | 32 | SHA-256 of the ids as stored in the file |
//! | 96 | 32 | SHA-256 of the 96 bytes before |
//!
//! The ids follow, and nothing after them: the file's length is known from the header, and a
//! header that claims more than the file holds is rejected before anything is allocated.

use sha2::{Digest, Sha256};

/// The length of a header in bytes; ids after it are aligned for any width.
pub(super) const HEADER_BYTES: usize = 128;

const MAGIC: [u8; 8] = *b"TGPTSHRD";
const VERSION: u32 = 1;

/// The width of an id in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    U16,
    U32,
}

impl Width {
    /// The narrowest width for a vocabulary.
    pub(super) fn for_vocab(vocab_size: u64) -> Self {
        if vocab_size <= 1 << 16 { Self::U16 } else { Self::U32 }
    }

    pub(super) fn n_bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }
}

/// The contents of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) width: Width,
    pub(super) n_tokens: u64,
    pub(super) vocab_size: u64,
    pub(super) tokenizer_sha256: [u8; 32],
    pub(super) ids_sha256: [u8; 32],
}

impl Header {
    /// The header as stored at the start of a file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.width.n_bytes() as u32).to_le_bytes());
        bytes.extend(self.n_tokens.to_le_bytes());
        bytes.extend(self.vocab_size.to_le_bytes());
        bytes.extend(self.tokenizer_sha256);
        bytes.extend(self.ids_sha256);
        let checksum = Sha256::digest(&bytes);
        bytes.extend(checksum);
        bytes
    }

    /// Reads the header from the start of a file of `n_file_bytes` and checks it against this length.
    ///
    /// The error says what is wrong, found against expected.
    pub(super) fn parse(start: &[u8], n_file_bytes: u64) -> Result<Self, String> {
        let Some(header) = start.first_chunk::<HEADER_BYTES>() else {
            return Err(format!("{n_file_bytes} bytes, shorter than a {HEADER_BYTES} byte header"));
        };
        let n_id_bytes = n_file_bytes.saturating_sub(HEADER_BYTES as u64);
        if header[..8] != MAGIC {
            return Err("not a token shard (it does not start with `TGPTSHRD`)".to_owned());
        }
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(format!("shard format {version}, this program reads format {VERSION}"));
        }
        if Sha256::digest(&header[..96])[..] != header[96..] {
            return Err("the header is damaged (its checksum does not match)".to_owned());
        }
        let width = match u32_at(header, 12) {
            2 => Width::U16,
            4 => Width::U32,
            other => return Err(format!("ids of {other} bytes, expected 2 or 4")),
        };
        let header = Self {
            width,
            n_tokens: u64_at(header, 16),
            vocab_size: u64_at(header, 24),
            tokenizer_sha256: array_at(header, 32),
            ids_sha256: array_at(header, 64),
        };
        let expected = u128::from(header.n_tokens) * width.n_bytes() as u128;
        if u128::from(n_id_bytes) != expected {
            let n_tokens = header.n_tokens;
            return Err(format!(
                "{n_id_bytes} bytes of ids, expected {expected} for {n_tokens} tokens"
            ));
        }
        Ok(header)
    }
}

fn array_at<const N: usize>(header: &[u8; HEADER_BYTES], offset: usize) -> [u8; N] {
    std::array::from_fn(|i| header[offset + i])
}

fn u32_at(header: &[u8; HEADER_BYTES], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(header, offset))
}

fn u64_at(header: &[u8; HEADER_BYTES], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(header, offset))
}
