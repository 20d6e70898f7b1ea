//! Writes a stream of ids as shards of bounded size.
//!
//! The writer does not know the final directory. It writes into one that nobody reads yet; `prepare`
//! syncs and renames that directory when it is complete.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::header::{Header, Width};
use crate::error::DataError;

/// The most tokens in a shard: 256 MiB of two-byte ids.
const SHARD_TOKENS: u64 = 1 << 27;

/// What `meta.json` says about a shard.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardInfo {
    /// The file's name, in the directory of `meta.json`.
    pub file: String,
    /// The number of tokens in it.
    pub n_tokens: u64,
    /// SHA-256 of its ids, in hexadecimal.
    pub sha256: String,
}

/// Ids as stored in a shard. Many threads pack them, one writes them.
pub(crate) struct Packed(Vec<u8>);

impl Packed {
    /// Packs ids, after a check that each is in the vocabulary.
    pub(crate) fn of(ids: &[u32], vocab_size: usize) -> Result<Self, DataError> {
        if let Some(id) = ids.iter().max().filter(|&&id| id as usize >= vocab_size) {
            return Err(DataError::Tokenizer {
                action: "encode a text",
                message: format!("it gave id {id} with a vocabulary of {vocab_size}"),
            });
        }
        let width = Width::for_vocab(vocab_size as u64);
        let mut bytes = vec![0; ids.len() * width.n_bytes()];
        match width {
            Width::U16 => {
                for (place, id) in bytes.chunks_exact_mut(2).zip(ids) {
                    // An id below 65,536 is its two lower bytes.
                    place.copy_from_slice(&(*id as u16).to_le_bytes());
                }
            }
            Width::U32 => {
                for (place, id) in bytes.chunks_exact_mut(4).zip(ids) {
                    place.copy_from_slice(&id.to_le_bytes());
                }
            }
        }
        Ok(Self(bytes))
    }
}

/// Writes the shards of one split.
pub(crate) struct ShardWriter {
    dir: PathBuf,
    split: &'static str,
    vocab_size: u64,
    tokenizer_sha256: [u8; 32],
    max_tokens: u64,
    current: Option<OpenShard>,
    finished: Vec<ShardInfo>,
}

/// The shard that is being written.
struct OpenShard {
    path: PathBuf,
    name: String,
    file: BufWriter<File>,
    hash: Sha256,
    n_tokens: u64,
}

impl ShardWriter {
    /// A writer of `dir/<split>-00000.bin` and on.
    pub(crate) fn new(
        dir: &Path,
        split: &'static str,
        vocab_size: usize,
        tokenizer_sha256: [u8; 32],
    ) -> Self {
        Self {
            dir: dir.to_path_buf(),
            split,
            vocab_size: vocab_size as u64,
            tokenizer_sha256,
            max_tokens: SHARD_TOKENS,
            current: None,
            finished: Vec::new(),
        }
    }

    /// The same with shards of at most `max_tokens`.
    #[cfg(test)]
    pub(super) fn with_max_tokens(self, max_tokens: u64) -> Self {
        Self { max_tokens, ..self }
    }

    /// Appends ids; starts a new shard when one is full.
    pub(crate) fn write(&mut self, ids: &Packed) -> Result<(), DataError> {
        let width = Width::for_vocab(self.vocab_size).n_bytes();
        let mut bytes = ids.0.as_slice();
        while !bytes.is_empty() {
            let mut shard = match self.current.take() {
                Some(shard) => shard,
                None => self.open_shard()?,
            };
            let room = usize::try_from(self.max_tokens - shard.n_tokens).unwrap_or(usize::MAX);
            let n_bytes = bytes.len().min(room.saturating_mul(width));
            let (now, later) = bytes.split_at(n_bytes);
            shard.hash.update(now);
            shard.file.write_all(now).map_err(DataError::io("write", &shard.path))?;
            shard.n_tokens += (n_bytes / width) as u64;
            if shard.n_tokens == self.max_tokens {
                self.close_shard(shard)?;
            } else {
                self.current = Some(shard);
            }
            bytes = later;
        }
        Ok(())
    }

    /// Completes the last shard and returns what was written.
    pub(crate) fn finish(mut self) -> Result<Vec<ShardInfo>, DataError> {
        if let Some(shard) = self.current.take() {
            self.close_shard(shard)?;
        }
        Ok(self.finished)
    }

    fn open_shard(&self) -> Result<OpenShard, DataError> {
        let name = format!("{}-{:05}.bin", self.split, self.finished.len());
        let path = self.dir.join(&name);
        let file = File::create(&path).map_err(DataError::io("create", &path))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        // Space for the header, which is written when the counts are known.
        let placeholder = [0; super::header::HEADER_BYTES];
        file.write_all(&placeholder).map_err(DataError::io("write", &path))?;
        Ok(OpenShard { path, name, file, hash: Sha256::new(), n_tokens: 0 })
    }

    fn close_shard(&mut self, shard: OpenShard) -> Result<(), DataError> {
        let OpenShard { path, name, mut file, hash, n_tokens } = shard;
        let ids_sha256: [u8; 32] = hash.finalize().into();
        let header = Header {
            width: Width::for_vocab(self.vocab_size),
            n_tokens,
            vocab_size: self.vocab_size,
            tokenizer_sha256: self.tokenizer_sha256,
            ids_sha256,
        };
        let mut complete = || {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header.to_bytes())?;
            file.flush()
        };
        complete().map_err(DataError::io("write", &path))?;
        let sha256 = crate::tokenizer::hex(&ids_sha256);
        self.finished.push(ShardInfo { file: name, n_tokens, sha256 });
        Ok(())
    }
}
