//! Training byte-level BPE, GPT-2 style: words are counted as the text streams by, then merged.
//!
//! Only the counts are kept, so memory grows with the number of different words and not with the
//! text. Splitting into words and merging are the `tokenizers` library's, so the merges are those
//! that Python finds on the same text. Source: Sennrich et al. 2016, arXiv:1508.07909 §3.2;
//! bytes as alphabet: Radford et al. 2019 (GPT-2) §2.2.

use std::collections::HashMap;

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::tokenizer::{
    AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use super::END_OF_TEXT;
use crate::error::DataError;

/// The smallest vocabulary: 256 bytes and `<|endoftext|>`.
const MIN_VOCAB_SIZE: usize = 257;

/// Pairs seen only once are not merged: such a token would almost never be used.
const MIN_FREQUENCY: u64 = 2;

/// How often each word occurs, words in GPT-2's byte characters.
#[derive(Default)]
pub(crate) struct WordCounts(HashMap<String, u64>);

impl WordCounts {
    /// Counts the words of `text`, a document or a piece of one.
    pub(crate) fn of(text: &str) -> Result<Self, DataError> {
        let mut counts = Self::default();
        for part in text.split(END_OF_TEXT) {
            let mut words = PreTokenizedString::from(part);
            splitter()
                .pre_tokenize(&mut words)
                .map_err(DataError::tokenizer("split a text into words"))?;
            for (word, _, _) in words.get_splits(OffsetReferential::Original, OffsetType::None) {
                counts.add(word, 1);
            }
        }
        Ok(counts)
    }

    /// Adds the counts of another text.
    pub(crate) fn merge(&mut self, other: Self) {
        for (word, count) in other.0 {
            self.add(&word, count);
        }
    }

    fn add(&mut self, word: &str, count: u64) {
        match self.0.get_mut(word) {
            Some(total) => *total += count,
            None => _ = self.0.insert(word.to_owned(), count),
        }
    }
}

/// GPT-2's pre-tokeniser, which also writes bytes as characters.
fn splitter() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

/// Checks that a vocabulary has room for what byte-pair encoding begins with.
pub(crate) fn check_vocab_size(vocab_size: usize) -> Result<(), DataError> {
    if vocab_size >= MIN_VOCAB_SIZE {
        return Ok(());
    }
    Err(DataError::usage(
        format!("vocab_size is {vocab_size}"),
        format!(
            "byte-pair encoding needs at least {MIN_VOCAB_SIZE}: 256 bytes and `{END_OF_TEXT}`"
        ),
    ))
}

/// Merges up to `vocab_size` tokens and returns the `tokenizer.json`.
///
/// Ids: 0 is `<|endoftext|>`, then the 256 bytes, then the merges in the order they were found.
/// A short text has fewer merges to offer than asked for; the vocabulary is then smaller.
pub(super) fn train(words: WordCounts, vocab_size: usize) -> Result<String, DataError> {
    check_vocab_size(vocab_size)?;
    let end_of_text = AddedToken::from(END_OF_TEXT, true);
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(MIN_FREQUENCY)
        .show_progress(false)
        .special_tokens(vec![end_of_text.clone()])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let counts = words.0.into_iter().map(|(word, count)| (word.into(), count)).collect();
    let mut model = BPE::default();
    trainer.do_train(&counts, &mut model).map_err(DataError::tokenizer("train"))?;

    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(splitter())).with_decoder(Some(splitter()));
    tokenizer
        .add_special_tokens([end_of_text])
        .map_err(DataError::tokenizer("add `<|endoftext|>`"))?;
    tokenizer.to_string(true).map_err(DataError::tokenizer("write its JSON"))
}
