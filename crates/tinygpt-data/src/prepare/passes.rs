//! The two passes over the text: one makes the tokenizer, one writes the shards.
//!
//! Both work on batches of a few megabytes: while the threads work on one, the next is read.

use std::path::Path;

use rayon::prelude::*;

use crate::encoding::Encoding;
use crate::error::DataError;
use crate::prepared::SplitMeta;
use crate::progress::{PrepareProgress, Stage};
use crate::shard::ShardWriter;
use crate::source::{Documents, Piece};
use crate::tokenizer::{CharSet, Dropped, Tokenizer, WordCounts};

use super::corpus::Corpus;
use super::split::{Boundary, Split};

/// How much text is worked on at once, in bytes.
const BATCH_BYTES: usize = 8 << 20;

/// How much of that one thread works on, in bytes.
const GROUP_BYTES: usize = 1 << 20;

/// What both passes need.
pub(super) struct Passes<'a> {
    pub(super) corpus: &'a Corpus,
    pub(super) boundary: Boundary,
    pub(super) progress: &'a dyn PrepareProgress,
}

impl Passes<'_> {
    /// Makes a tokenizer from the training text.
    pub(super) fn make_tokenizer(
        &self,
        encoding: Encoding,
        vocab_size: usize,
    ) -> Result<Tokenizer, DataError> {
        match encoding {
            Encoding::Simple => {
                let mut chars = CharSet::new();
                let chars_of = |pieces: &[Piece]| {
                    let mut chars = CharSet::new();
                    pieces.iter().for_each(|piece| chars.add(&piece.text));
                    Ok(chars)
                };
                self.run(Stage::TrainTokenizer, Split::Train, chars_of, |_, found| {
                    chars.merge(&found);
                    Ok(())
                })?;
                Tokenizer::char_level(&chars)
            }
            Encoding::Bpe => {
                let mut words = WordCounts::new()?;
                let words_of = |pieces: &[Piece]| {
                    let mut words = WordCounts::new()?;
                    pieces.iter().for_each(|piece| words.count(&piece.text));
                    Ok(words)
                };
                self.run(Stage::TrainTokenizer, Split::Train, words_of, |_, found| {
                    words.merge(&found);
                    words.trim();
                    Ok(())
                })?;
                self.tell_dropped(words.dropped());
                Tokenizer::train_bpe(words, vocab_size)
            }
        }
    }

    fn tell_dropped(&self, dropped: Dropped) {
        if dropped != Dropped::default() {
            self.progress.notice(&format!(
                "more different words than fit: the rarest were dropped {} times, {} occurrences \
                 in all; merges were learned from the others",
                dropped.n_words, dropped.n_occurrences
            ));
        }
    }

    /// Writes the shards of a split; returns what they hold and how many records held no text.
    pub(super) fn encode(
        &self,
        split: Split,
        tokenizer: &Tokenizer,
        dir: &Path,
    ) -> Result<(SplitMeta, u64), DataError> {
        let stage = match split {
            Split::Train => Stage::EncodeTrain,
            Split::Val => Stage::EncodeValidation,
        };
        let mut meta = SplitMeta::default();
        let sha256 = tokenizer.sha256_bytes();
        let mut writer = ShardWriter::new(dir, split.file_prefix(), tokenizer.vocab_size(), sha256);
        if let Some(reason) = tokenizer.slow_because() {
            self.progress.notice(&format!(
                "the `tokenizers` library encodes, many times slower than we would: {reason}"
            ));
        }
        let ids_of = |pieces: &[Piece]| {
            let (mut encoder, mut ids) = (tokenizer.encoder(), Vec::new());
            for piece in pieces {
                encoder.encode_into(&piece.text, &mut ids)?;
                if piece.ends_document {
                    ids.push(tokenizer.eot_id());
                }
            }
            Ok(ids)
        };
        let n_skipped = self.run(stage, split, ids_of, |pieces, ids| {
            meta.n_tokens += ids.len() as u64;
            for piece in pieces {
                meta.n_documents += u64::from(piece.ends_document);
                meta.n_bytes += piece.text.len() as u64;
                meta.n_characters += piece.text.chars().count() as u64;
            }
            writer.write(&ids)
        })?;
        meta.shards = writer.finish()?;
        if meta.n_tokens == 0 {
            return Err(DataError::usage(
                format!("the {} split has no text", split.file_prefix()),
                "give more text, or take a larger --data-percentage of it",
            ));
        }
        if matches!(self.boundary, Boundary::Character(_)) {
            meta.n_documents = 1; // A part of the only one, without its end.
        }
        Ok((meta, n_skipped))
    }

    /// Runs `work` on groups of pieces of a split in parallel, and `take`s the results in the order
    /// of the text. Returns how many records held no text.
    fn run<R: Send>(
        &self,
        stage: Stage,
        split: Split,
        work: impl Fn(&[Piece]) -> Result<R, DataError> + Sync,
        mut take: impl FnMut(&[Piece], R) -> Result<(), DataError>,
    ) -> Result<u64, DataError> {
        let mut documents = self.corpus.open(split, self.boundary)?;
        self.progress.begin(stage, self.corpus.n_bytes(split));
        let mut n_reported = 0;
        let mut batch = read_batch(documents.as_mut())?;
        while !batch.is_empty() {
            let n_bytes = documents.n_bytes_read();
            let groups = groups_of(&batch);
            let (results, next) = rayon::join(
                || groups.par_iter().copied().map(&work).collect::<Result<Vec<R>, DataError>>(),
                || read_batch(documents.as_mut()),
            );
            for (group, result) in groups.into_iter().zip(results?) {
                take(group, result)?;
            }
            self.progress.advance(n_bytes - n_reported);
            n_reported = n_bytes;
            batch = next?;
        }
        self.progress.finish();
        Ok(documents.n_skipped())
    }
}

/// The next pieces, together about [`BATCH_BYTES`]; none at the end.
fn read_batch(documents: &mut dyn Documents) -> Result<Vec<Piece>, DataError> {
    let mut batch = Vec::new();
    let mut n_bytes = 0;
    while n_bytes < BATCH_BYTES {
        let Some(piece) = documents.next_piece()? else { break };
        n_bytes += piece.text.len();
        batch.push(piece);
    }
    Ok(batch)
}

/// Cuts a batch into groups of at least [`GROUP_BYTES`]; where depends on the text alone.
fn groups_of(mut batch: &[Piece]) -> Vec<&[Piece]> {
    let mut groups = Vec::new();
    while !batch.is_empty() {
        let mut n_bytes = 0;
        let is_full = |piece: &Piece| {
            n_bytes += piece.text.len();
            n_bytes >= GROUP_BYTES
        };
        let n = batch.iter().position(is_full).map_or(batch.len(), |at| at + 1);
        let (group, rest) = batch.split_at(n);
        groups.push(group);
        batch = rest;
    }
    groups
}
