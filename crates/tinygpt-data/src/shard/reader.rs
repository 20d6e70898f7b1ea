//! Opens shards and reads several as one stream.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::file::ShardFile;
use super::info::ShardInfo;
use crate::error::DataError;

/// The tokens of a split, in order, however many files they are in. A clone shares the files.
///
/// ```
/// let stream = tinygpt_data::TokenDataset::from_ids(vec![5, 6, 7, 8]);
/// let mut ids = [0; 2];
/// stream.read(1, &mut ids).unwrap();
/// assert_eq!(ids, [6, 7]);
/// ```
#[derive(Clone)]
pub struct TokenDataset {
    parts: Arc<[Part]>,
    len: usize,
    /// Which tokens are learned; `None`: all.
    mask: Option<Arc<Self>>,
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
    Shard(ShardFile),
}

impl TokenDataset {
    /// A stream of ids in memory, for tests and small texts.
    pub fn from_ids(ids: Vec<u32>) -> Self {
        let len = ids.len();
        let parts = Arc::new([Part { start: 0, n_tokens: len, ids: Ids::Memory(ids) }]);
        Self { parts, len, mask: None }
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
    ) -> Result<Self, DataError> {
        let open = |info: &ShardInfo| {
            ShardFile::open(dir.join(&info.file), info, vocab_size, tokenizer_sha256)
        };
        let files: Vec<ShardFile> =
            shards.par_iter().map(open).collect::<Result<_, DataError>>()?;
        let (mut parts, mut len) = (Vec::with_capacity(files.len()), 0);
        for file in files {
            let n_tokens = file.n_tokens();
            parts.push(Part { start: len, n_tokens, ids: Ids::Shard(file) });
            len += n_tokens;
        }
        Ok(Self { parts: parts.into(), len, mask: None })
    }

    /// The same tokens with a `mask`: token i is learned if the mask's number i is not 0. A
    /// [`Loader`](crate::Loader) gives [`IGNORED_TARGET`](crate::IGNORED_TARGET) for the others.
    ///
    /// # Errors
    /// [`DataError::MaskLength`] unless `mask` has as many numbers as there are tokens.
    pub fn with_mask(self, mask: Self) -> Result<Self, DataError> {
        if mask.len != self.len {
            return Err(DataError::MaskLength { tokens: self.len, mask: mask.len });
        }
        Ok(Self { mask: Some(Arc::new(mask)), ..self })
    }

    /// Which tokens are learned, if not all are.
    pub fn mask(&self) -> Option<&Self> {
        self.mask.as_deref()
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
    /// [`DataError::OutOfRange`] if the stream ends before `into` does; [`DataError::Corrupt`] if a
    /// shard has changed since it was opened, [`DataError::Io`].
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
            part.read(offset, now)?;
            position += n_here;
            rest = later;
            part_idx += 1;
        }
        Ok(())
    }
}

impl std::fmt::Debug for TokenDataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenDataset")
            .field("n_shards", &self.parts.len())
            .field("len", &self.len)
            .field("mask", &self.mask)
            .finish()
    }
}

impl Part {
    /// Copies tokens `offset..offset + into.len()`, which must lie in this part.
    fn read(&self, offset: usize, into: &mut [u32]) -> Result<(), DataError> {
        match &self.ids {
            Ids::Memory(ids) => into.copy_from_slice(&ids[offset..offset + into.len()]),
            Ids::Shard(file) => file.read(offset, into)?,
        }
        Ok(())
    }
}
