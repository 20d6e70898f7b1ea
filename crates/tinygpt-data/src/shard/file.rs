//! One shard: checked completely when it is opened, then read at any position.
//!
//! Shards are read, not mapped: if a file is shortened meanwhile, a read fails, while a memory map
//! would end the process with SIGBUS. A batch of 12 windows takes about 14 microseconds longer; the
//! step that trains on it takes 20 milliseconds.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::header::{HEADER_BYTES, Header, Width};
use super::info::ShardInfo;
use crate::error::{DataError, PREPARE_AGAIN};
use crate::regular::{FileError, open_regular};
use crate::tokenizer::hex;

/// How many bytes of ids are read at once.
const CHUNK_BYTES: usize = 16 << 10;

/// How many bytes are checked at once.
const CHECKED_BYTES: usize = 1 << 20;

/// The ids of an open shard.
pub(super) struct ShardFile {
    file: File,
    path: PathBuf,
    width: Width,
    vocab_size: usize,
    n_tokens: usize,
}

impl ShardFile {
    /// Opens the shard at `path` and checks every byte of it against its own header, `meta.json` and
    /// the tokenizer.
    pub(super) fn open(
        path: PathBuf,
        info: &ShardInfo,
        vocab_size: usize,
        tokenizer_sha256: &str,
    ) -> Result<Self, DataError> {
        let mut file = open_regular(&path).map_err(FileError::at(&path, PREPARE_AGAIN))?;
        let corrupt = |what: String| DataError::corrupt(&path, what, PREPARE_AGAIN);
        let header = read_header(&mut file, info, vocab_size, tokenizer_sha256)
            .map_err(DataError::io("read", &path))?
            .map_err(corrupt)?;
        let width = check_ids(&mut file, &header)
            .map_err(DataError::io("read", &path))?
            .map_err(corrupt)?;
        let n_tokens = usize::try_from(info.n_tokens).unwrap_or(usize::MAX);
        Ok(Self { file, path, width, vocab_size, n_tokens })
    }

    /// The number of tokens.
    pub(super) fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Reads tokens `first..first + into.len()`.
    ///
    /// # Errors
    /// [`DataError::Corrupt`] if the file has changed since it was opened, [`DataError::Io`].
    pub(super) fn read(&self, first: usize, into: &mut [u32]) -> Result<(), DataError> {
        let n_bytes = self.width.n_bytes();
        let mut buffer = [0; CHUNK_BYTES];
        let mut at = (HEADER_BYTES + first * n_bytes) as u64;
        for ids in into.chunks_mut(CHUNK_BYTES / n_bytes) {
            let bytes = &mut buffer[..ids.len() * n_bytes];
            read_exact_at(&self.file, bytes, at).map_err(|error| self.changed(error))?;
            at += bytes.len() as u64;
            for (id, bytes) in ids.iter_mut().zip(bytes.chunks_exact(n_bytes)) {
                *id = id_of(self.width, bytes);
            }
            if ids.iter().any(|id| *id as usize >= self.vocab_size) {
                return Err(self.corrupt("its ids have changed since it was opened"));
            }
        }
        Ok(())
    }

    fn changed(&self, error: io::Error) -> DataError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.corrupt("it has become shorter since it was opened");
        }
        DataError::io("read", &self.path)(error)
    }

    fn corrupt(&self, what: &str) -> DataError {
        let fix = format!("what was saved is good: put the file back, or {PREPARE_AGAIN}");
        DataError::corrupt(&self.path, what, fix)
    }
}

/// Reads the header; the inner error is a header that is not the expected one.
fn read_header(
    file: &mut File,
    info: &ShardInfo,
    vocab_size: usize,
    tokenizer_sha256: &str,
) -> io::Result<Result<Header, String>> {
    let mut start = Vec::with_capacity(HEADER_BYTES);
    let n_file_bytes = file.metadata()?.len();
    file.take(HEADER_BYTES as u64).read_to_end(&mut start)?;
    let check = |header: Header| {
        let found = hex(&header.tokenizer_sha256);
        if found != tokenizer_sha256 {
            return Err(format!(
                "made by tokenizer {found:.12}…, expected {tokenizer_sha256:.12}…"
            ));
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
        Ok(header)
    };
    Ok(Header::parse(&start, n_file_bytes).and_then(check))
}

/// Reads the ids that follow the header and compares them with it; the inner error says how they differ.
fn check_ids(file: &mut File, header: &Header) -> io::Result<Result<Width, String>> {
    let width = header.width;
    let (mut hash, mut largest) = (Sha256::new(), None);
    let mut buffer = vec![0; CHECKED_BYTES];
    let mut ids = file.take(header.n_tokens * width.n_bytes() as u64);
    loop {
        let n = read_full(&mut ids, &mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        let here = buffer[..n].chunks_exact(width.n_bytes()).map(|bytes| id_of(width, bytes)).max();
        largest = largest.max(here);
    }
    if hash.finalize()[..] != header.ids_sha256 {
        return Ok(Err("damaged (the checksum of its ids does not match)".to_owned()));
    }
    Ok(match largest {
        Some(id) if u64::from(id) >= header.vocab_size => {
            Err(format!("id {id} is outside the vocabulary of {}", header.vocab_size))
        }
        Some(_) => Ok(width),
        None => Err("no tokens".to_owned()),
    })
}

/// Fills the buffer, or reads to the end.
fn read_full(reader: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n_read = 0;
    while n_read < buffer.len() {
        match reader.read(&mut buffer[n_read..])? {
            0 => break,
            n => n_read += n,
        }
    }
    Ok(n_read)
}

/// One id from its bytes.
fn id_of(width: Width, bytes: &[u8]) -> u32 {
    match (width, bytes) {
        (Width::U16, &[a, b]) => u32::from(u16::from_le_bytes([a, b])),
        (Width::U32, &[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        _ => unreachable!("chunks are as wide as ids"),
    }
}

/// Reads at a place of the file, from several threads if need be.
#[cfg(unix)]
fn read_exact_at(file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, at)
}

/// Reads at a place of the file, from several threads if need be.
#[cfg(windows)]
fn read_exact_at(file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
    let mut n_read = 0;
    while n_read < into.len() {
        let place = at + n_read as u64;
        match std::os::windows::fs::FileExt::seek_read(file, &mut into[n_read..], place)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => n_read += n,
        }
    }
    Ok(())
}
