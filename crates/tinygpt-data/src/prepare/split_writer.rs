//! The shards of one split, with what `meta.json` says about them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::prepared::{MASK_VALUES, SplitMeta};
use crate::shard::{Packed, ShardWriter, WrittenShards};
use crate::tokenizer::Tokenizer;

use super::split::Split;

/// A batch of documents as a shard holds it, with its share of the counts.
pub(super) struct Encoded<X> {
    pub(super) ids: Packed,
    /// Which tokens are learned, of conversations.
    pub(super) mask: Option<Packed>,
    pub(super) n_tokens: u64,
    pub(super) n_bytes: u64,
    pub(super) n_characters: u64,
    pub(super) watched: X,
}

/// What is written of a split, so that another run can continue after it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenSplit {
    /// The counts, without the shards.
    counts: SplitMeta,
    pub(super) tokens: WrittenShards,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mask: Option<WrittenShards>,
}

impl WrittenSplit {
    /// The names of all files.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let shards = self.tokens.all().chain(self.mask.iter().flat_map(WrittenShards::all));
        shards.map(|info| info.file.as_str())
    }
}

/// Writes the shards of a split.
pub(super) struct SplitWriter {
    split: Split,
    tokens: ShardWriter,
    mask: Option<ShardWriter>,
    counts: SplitMeta,
}

impl SplitWriter {
    /// A writer of shards of at most `max_tokens` into `dir`.
    pub(super) fn new(
        split: Split,
        tokenizer: &Tokenizer,
        is_chat: bool,
        dir: &Path,
        max_tokens: u64,
    ) -> Self {
        let sha256 = tokenizer.sha256_bytes();
        let writer = |prefix, n_values| {
            ShardWriter::new(dir, prefix, n_values, sha256).with_max_tokens(max_tokens)
        };
        Self {
            split,
            tokens: writer(split.file_prefix(), tokenizer.vocab_size()),
            mask: is_chat.then(|| writer(split.mask_prefix(), MASK_VALUES)),
            counts: SplitMeta::default(),
        }
    }

    /// Continues after what another writer had written.
    ///
    /// # Errors
    /// [`DataError::Corrupt`] if a shard is not what `written` says, [`DataError::Io`].
    pub(super) fn continue_after(self, written: &WrittenSplit) -> Result<Self, DataError> {
        let mask = match (self.mask, &written.mask) {
            (Some(writer), Some(written)) => Some(writer.continue_after(written)?),
            (writer, _) => writer,
        };
        let tokens = self.tokens.continue_after(&written.tokens)?;
        Ok(Self { tokens, mask, counts: written.counts.clone(), ..self })
    }

    /// Appends a batch.
    pub(super) fn write<X>(&mut self, batch: &Encoded<X>) -> Result<(), DataError> {
        self.counts.n_tokens += batch.n_tokens;
        self.counts.n_bytes += batch.n_bytes;
        self.counts.n_characters += batch.n_characters;
        if let (Some(writer), Some(mask)) = (&mut self.mask, &batch.mask) {
            writer.write(mask)?;
        }
        self.tokens.write(&batch.ids)
    }

    /// Counts the documents of the batches.
    pub(super) fn add_documents(&mut self, n_documents: u64) {
        self.counts.n_documents += n_documents;
    }

    /// Hands everything to the operating system, and describes it.
    pub(super) fn written(&mut self) -> Result<WrittenSplit, DataError> {
        let mask = self.mask.as_mut().map(ShardWriter::written).transpose()?;
        Ok(WrittenSplit { counts: self.counts.clone(), tokens: self.tokens.written()?, mask })
    }

    /// Completes the last shard and returns what `meta.json` says about the split.
    pub(super) fn finish(self) -> Result<SplitMeta, DataError> {
        let mut meta = self.counts;
        if meta.n_tokens == 0 {
            return Err(DataError::usage(
                format!("the {} split has no text", self.split.file_prefix()),
                "give more text, or set `data_percentage` higher",
            ));
        }
        meta.shards = self.tokens.finish()?;
        meta.mask_shards = self.mask.map_or(Ok(Vec::new()), ShardWriter::finish)?;
        meta.bytes_per_token = meta.bytes_per_token();
        Ok(meta)
    }
}
