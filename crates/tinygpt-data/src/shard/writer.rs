//! Writes a stream of ids as shards of bounded size.
//!
//! The writer does not know the final directory. It writes into one that nobody reads yet; `prepare`
//! syncs and renames that directory when it is complete.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::file::ShardFile;
use super::header::{HEADER_BYTES, Header, Width};
use super::info::{ShardInfo, WrittenShards};
use crate::error::{DataError, PREPARE_AGAIN};
use crate::regular::{FileError, open_regular};
use crate::tokenizer::hex;

/// The most tokens in a shard: 256 MiB of two-byte ids, 512 MiB of four-byte ids.
pub(crate) const SHARD_TOKENS: u64 = 1 << 27;

/// Written at once.
const BUFFER_BYTES: usize = 1 << 20;

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
    pub(crate) fn with_max_tokens(self, max_tokens: u64) -> Self {
        Self { max_tokens, ..self }
    }

    /// Continues after what another writer had written, once that was compared with its checksums.
    /// Anything behind it is dropped.
    ///
    /// # Errors
    /// [`DataError::Corrupt`] if a shard is not what `written` says, [`DataError::Io`].
    pub(crate) fn continue_after(mut self, written: &WrittenShards) -> Result<Self, DataError> {
        let tokenizer_sha256 = hex(&self.tokenizer_sha256);
        let vocab_size = usize::try_from(self.vocab_size).unwrap_or(usize::MAX);
        for info in &written.complete {
            ShardFile::open(self.dir.join(&info.file), info, vocab_size, &tokenizer_sha256)?;
        }
        self.finished.clone_from(&written.complete);
        self.current = written.open.as_ref().map(|info| self.reopen(info)).transpose()?;
        Ok(self)
    }

    /// Opens an incomplete shard to append to the ids that `info` describes.
    fn reopen(&self, info: &ShardInfo) -> Result<OpenShard, DataError> {
        let path = self.dir.join(&info.file);
        let n_bytes = info.n_tokens * Width::for_vocab(self.vocab_size).n_bytes() as u64;
        open_regular(&path).map_err(FileError::at(&path, PREPARE_AGAIN))?;
        let file = File::options().read(true).write(true).open(&path);
        let mut file = file.map_err(DataError::io("open", &path))?;
        let (hash, n_read) =
            read_again(&mut file, n_bytes).map_err(DataError::io("read", &path))?;
        if n_read != n_bytes || hex(&hash.clone().finalize()) != info.sha256 {
            let what = "the ids in it are not those that were recorded";
            return Err(DataError::corrupt(&path, what, PREPARE_AGAIN));
        }
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(OpenShard { path, name: info.file.clone(), file, hash, n_tokens: info.n_tokens })
    }

    /// Hands everything to the operating system, and describes it.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub(crate) fn written(&mut self) -> Result<WrittenShards, DataError> {
        let complete = self.finished.clone();
        let Some(shard) = &mut self.current else {
            return Ok(WrittenShards { complete, open: None });
        };
        shard.file.flush().map_err(DataError::io("write", &shard.path))?;
        let sha256 = hex(&shard.hash.clone().finalize());
        let open = ShardInfo { file: shard.name.clone(), n_tokens: shard.n_tokens, sha256 };
        Ok(WrittenShards { complete, open: Some(open) })
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
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
        // Space for the header, which is written when the counts are known.
        let placeholder = [0; HEADER_BYTES];
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
        let sha256 = hex(&ids_sha256);
        self.finished.push(ShardInfo { file: name, n_tokens, sha256 });
        Ok(())
    }
}

/// Hashes the first bytes of ids and cuts off what is behind them; returns how many there were.
fn read_again(file: &mut File, n_bytes: u64) -> io::Result<(Sha256, u64)> {
    file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
    let (mut hash, mut n_read) = (Sha256::new(), 0);
    let mut ids = Read::take(&mut *file, n_bytes);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match ids.read(&mut buffer)? {
            0 => break,
            n => {
                hash.update(&buffer[..n]);
                n_read += n as u64;
            }
        }
    }
    file.set_len(HEADER_BYTES as u64 + n_read)?;
    file.seek(SeekFrom::End(0))?;
    Ok((hash, n_read))
}
