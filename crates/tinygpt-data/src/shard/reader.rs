//! Opens shards, checks every byte of them once, and reads several as one stream.

use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::header::{HEADER_BYTES, Header, Width};
use super::map::map;
use super::writer::ShardInfo;
use crate::error::DataError;
use crate::tokenizer::hex;

/// The tokens of a split, in order, however many files they lie in.
///
/// ```
/// let stream = tinygpt_data::TokenStream::from_ids(vec![5, 6, 7, 8]);
/// let mut ids = [0; 2];
/// stream.read(1, &mut ids).unwrap();
/// assert_eq!(ids, [6, 7]);
/// ```
pub struct TokenStream {
    parts: Vec<Part>,
    len: usize,
}

/// A run of tokens of a stream.
struct Part {
    /// The position of its first token in the stream.
    start: usize,
    n_tokens: usize,
    ids: Ids,
}

/// Where a part's ids lie.
enum Ids {
    Memory(Vec<u32>),
    Shard { file: Mmap, width: Width },
}

impl TokenStream {
    /// A stream of ids in memory, for tests and small texts.
    pub fn from_ids(ids: Vec<u32>) -> Self {
        let len = ids.len();
        Self { parts: vec![Part { start: 0, n_tokens: len, ids: Ids::Memory(ids) }], len }
    }

    /// Opens the shards of a split and checks each of them completely.
    ///
    /// # Errors
    /// [`DataError::Io`], or [`DataError::Corrupt`] if a shard is cut short, damaged, of another
    /// tokenizer or not the one that `meta.json` lists.
    pub(crate) fn open(
        dir: &Path,
        shards: &[ShardInfo],
        vocab_size: usize,
        tokenizer_sha256: &str,
        fix: &str,
    ) -> Result<Self, DataError> {
        let check = |info: &ShardInfo| {
            let path: PathBuf = dir.join(&info.file);
            let file = map(&path)?;
            let width = check_shard(&file, info, vocab_size, tokenizer_sha256)
                .map_err(|what| DataError::corrupt(&path, what, fix))?;
            Ok((file, width))
        };
        let mapped: Vec<(Mmap, Width)> =
            shards.par_iter().map(check).collect::<Result<_, DataError>>()?;
        let mut stream = Self { parts: Vec::with_capacity(mapped.len()), len: 0 };
        for (file, width) in mapped {
            let n_tokens = (file.len() - HEADER_BYTES) / width.n_bytes();
            let ids = Ids::Shard { file, width };
            stream.parts.push(Part { start: stream.len, n_tokens, ids });
            stream.len += n_tokens;
        }
        Ok(stream)
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the tokens from position `start` on into `into`, as many as it holds.
    ///
    /// # Errors
    /// [`DataError::OutOfRange`] if the stream ends before `into` does.
    pub fn read(&self, start: usize, into: &mut [u32]) -> Result<(), DataError> {
        let end = start.saturating_add(into.len());
        if end > self.len {
            return Err(DataError::OutOfRange { start, end, len: self.len });
        }
        // The last part that begins at or before `start`.
        let mut part_idx = self.parts.partition_point(|part| part.start <= start).max(1) - 1;
        let mut position = start;
        let mut rest = into;
        while !rest.is_empty() {
            let part = &self.parts[part_idx];
            let offset = position - part.start;
            let n_here = rest.len().min(part.n_tokens - offset);
            let (now, later) = rest.split_at_mut(n_here);
            part.read(offset, now);
            position += n_here;
            rest = later;
            part_idx += 1;
        }
        Ok(())
    }
}

impl std::fmt::Debug for TokenStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenStream")
            .field("n_shards", &self.parts.len())
            .field("len", &self.len)
            .finish()
    }
}

impl Part {
    /// Copies tokens `offset..offset + into.len()`, which must lie in this part.
    fn read(&self, offset: usize, into: &mut [u32]) {
        match &self.ids {
            Ids::Memory(ids) => into.copy_from_slice(&ids[offset..offset + into.len()]),
            Ids::Shard { file, width } => {
                let n_bytes = width.n_bytes();
                let first = HEADER_BYTES + offset * n_bytes;
                let bytes = &file[first..first + into.len() * n_bytes];
                for (id, bytes) in into.iter_mut().zip(bytes.chunks_exact(n_bytes)) {
                    *id = id_of(*width, bytes);
                }
            }
        }
    }
}

/// One id from its bytes.
fn id_of(width: Width, bytes: &[u8]) -> u32 {
    match (width, bytes) {
        (Width::U16, &[a, b]) => u32::from(u16::from_le_bytes([a, b])),
        (Width::U32, &[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => unreachable!("chunks are as wide as ids"),
    }
}

/// Checks a shard against its own header, `meta.json` and the tokenizer.
fn check_shard(
    file: &[u8],
    info: &ShardInfo,
    vocab_size: usize,
    tokenizer_sha256: &str,
) -> Result<Width, String> {
    let header = Header::parse(file)?;
    let found = hex(&header.tokenizer_sha256);
    if found != tokenizer_sha256 {
        return Err(format!("made by tokenizer {found:.12}…, expected {tokenizer_sha256:.12}…"));
    }
    if header.vocab_size != vocab_size as u64 {
        return Err(format!("vocabulary of {}, expected {vocab_size}", header.vocab_size));
    }
    if header.n_tokens != info.n_tokens || hex(&header.ids_sha256) != info.sha256 {
        let (found, expected) = (header.n_tokens, info.n_tokens);
        return Err(format!(
            "not the shard that meta.json lists ({found} tokens, expected {expected})"
        ));
    }
    let ids = &file[HEADER_BYTES..];
    if Sha256::digest(ids)[..] != header.ids_sha256 {
        return Err("damaged (the checksum of its ids does not match)".to_owned());
    }
    let width = header.width;
    match ids.chunks_exact(width.n_bytes()).map(|bytes| id_of(width, bytes)).max() {
        Some(id) if u64::from(id) >= header.vocab_size => {
            Err(format!("id {id} is outside the vocabulary of {vocab_size}"))
        }
        Some(_) => Ok(width),
        None => Err("no tokens".to_owned()),
    }
}
