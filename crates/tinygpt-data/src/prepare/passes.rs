//! The two passes over the text: one makes the tokenizer, one writes the shards.
//!
//! Both work on batches of a few megabytes: while the threads work on one, the next is read.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::encoding::Encoding;
use crate::error::DataError;
use crate::prepared::SplitMeta;
use crate::progress::{PrepareProgress, Stage};
use crate::shard::ShardWriter;
use crate::source::{Documents, Piece};
use crate::tokenizer::{CharSet, Tokenizer, WordCounts};

use super::corpus::{Boundary, Corpus, Split};
use super::publish::Staging;

/// How much text is worked on at once, in bytes.
const BATCH_BYTES: usize = 8 << 20;

/// Makes a tokenizer from the training text.
pub(super) fn make_tokenizer(
    corpus: &Corpus,
    boundary: Boundary,
    encoding: Encoding,
    vocab_size: usize,
    progress: &dyn PrepareProgress,
) -> Result<Tokenizer, DataError> {
    let documents = corpus.open(Split::Train, boundary)?;
    let total_bytes = corpus.n_bytes(Split::Train);
    let stage = Stage::TrainTokenizer;
    match encoding {
        Encoding::Simple => {
            let mut chars = CharSet::new();
            let chars_of = |piece: &Piece| Ok(piece.text.chars().collect::<BTreeSet<char>>());
            in_batches(stage, total_bytes, documents, progress, chars_of, |_, mut found| {
                chars.append(&mut found);
                Ok(())
            })?;
            Tokenizer::char_level(&chars)
        }
        Encoding::Bpe => {
            let mut words = WordCounts::default();
            let words_of = |piece: &Piece| WordCounts::of(&piece.text);
            in_batches(stage, total_bytes, documents, progress, words_of, |_, found| {
                words.merge(found);
                Ok(())
            })?;
            Tokenizer::train_bpe(words, vocab_size)
        }
    }
}

/// Writes the shards of a split; returns what they hold and how many records held no text.
pub(super) fn encode(
    corpus: &Corpus,
    boundary: Boundary,
    split: Split,
    tokenizer: &Tokenizer,
    staging: &Staging,
    progress: &dyn PrepareProgress,
) -> Result<(SplitMeta, u64), DataError> {
    let stage = match split {
        Split::Train => Stage::EncodeTrain,
        Split::Val => Stage::EncodeValidation,
    };
    let mut meta =
        SplitMeta { n_documents: 0, n_tokens: 0, n_bytes: 0, n_characters: 0, shards: Vec::new() };
    let mut writer = ShardWriter::new(
        staging.dir(),
        split.file_prefix(),
        tokenizer.vocab_size(),
        tokenizer.sha256_bytes(),
    );
    let ids_of = |piece: &Piece| {
        let mut ids = tokenizer.encode(&piece.text)?;
        if piece.ends_document {
            ids.push(tokenizer.eot_id());
        }
        Ok(ids)
    };
    let documents = corpus.open(split, boundary)?;
    let total_bytes = corpus.n_bytes(split);
    let n_skipped = in_batches(stage, total_bytes, documents, progress, ids_of, |piece, ids| {
        meta.n_documents += u64::from(piece.ends_document);
        meta.n_tokens += ids.len() as u64;
        meta.n_bytes += piece.text.len() as u64;
        meta.n_characters += piece.text.chars().count() as u64;
        writer.write(&ids)
    })?;
    meta.shards = writer.finish()?;
    if meta.n_tokens == 0 {
        return Err(DataError::usage(
            format!("{}: no text for the {} split", corpus.description(), split.file_prefix()),
            "give more text, or take a larger --data-percentage of it",
        ));
    }
    if matches!(boundary, Boundary::Character(_)) {
        meta.n_documents = 1;
    }
    Ok((meta, n_skipped))
}

/// Runs `work` on each piece in parallel and `take`s the results in the order of the text.
/// Returns how many records held no text.
fn in_batches<R: Send>(
    stage: Stage,
    total_bytes: Option<u64>,
    mut documents: Box<dyn Documents + '_>,
    progress: &dyn PrepareProgress,
    work: impl Fn(&Piece) -> Result<R, DataError> + Sync,
    mut take: impl FnMut(&Piece, R) -> Result<(), DataError>,
) -> Result<u64, DataError> {
    progress.begin(stage, total_bytes);
    let mut n_reported = 0;
    let mut batch = read_batch(documents.as_mut())?;
    while !batch.is_empty() {
        let n_bytes = documents.n_bytes_read();
        let (results, next) = rayon::join(
            || batch.par_iter().map(&work).collect::<Result<Vec<R>, DataError>>(),
            || read_batch(documents.as_mut()),
        );
        for (piece, result) in batch.iter().zip(results?) {
            take(piece, result)?;
        }
        progress.advance(n_bytes - n_reported);
        n_reported = n_bytes;
        batch = next?;
    }
    progress.finish();
    Ok(documents.n_skipped())
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
