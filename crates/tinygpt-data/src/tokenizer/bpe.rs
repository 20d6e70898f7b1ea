//! Byte-level BPE training: from counted words to a `tokenizer.json` as in GPT-2.
//!
//! Only counts are kept of a text, so memory grows with the number of different words and not
//! with the text. Words are counted in `counts.rs`, merges are trained in `trainer.rs`; here they
//! become the library's file. Source: Sennrich et al. 2016, arXiv:1508.07909 §3.2; bytes as
//! alphabet: Radford et al. 2019 (GPT-2) §2.2.

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::tokenizer::AddedToken;

use super::END_OF_TEXT;
use super::bytes::byte_alphabet;
use super::counts::WordCounts;
use super::trainer::{Learned, Words, learn};
use crate::error::DataError;

/// The smallest vocabulary: 256 bytes and `<|endoftext|>`.
const MIN_VOCAB_SIZE: usize = 257;

/// Pairs seen only once are not merged: such a token would almost never be used.
const MIN_FREQUENCY: u64 = 2;

/// Checks that a vocabulary has room for the initial tokens of byte-pair encoding.
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
/// A short text may have too few pairs; the vocabulary is then smaller.
pub(super) fn train(words: WordCounts, vocab_size: usize) -> Result<String, DataError> {
    check_vocab_size(vocab_size)?;
    let mut tokens: Vec<Box<[u8]>> = vec![END_OF_TEXT.as_bytes().into()];
    let mut byte_ids = [0; 256];
    for ((_, byte), id) in byte_alphabet().into_iter().zip(1..) {
        tokens.push([byte].into());
        byte_ids[usize::from(byte)] = id;
    }
    let mut all = Words::new(byte_ids);
    words.for_each(|word, count| all.push(word, count));
    drop(words);
    let learned = learn(all, tokens, vocab_size, MIN_FREQUENCY);
    to_json(model_of(&learned)?)
}

/// The library's model of a vocabulary whose first token is `<|endoftext|>`.
fn model_of(learned: &Learned) -> Result<BPE, DataError> {
    let mut chars = ['\0'; 256];
    for (c, byte) in byte_alphabet() {
        chars[usize::from(byte)] = c;
    }
    let written = |token: &[u8]| token.iter().map(|&byte| chars[usize::from(byte)]).collect();
    let mut tokens: Vec<String> = learned.tokens.iter().map(|token| written(token)).collect();
    END_OF_TEXT.clone_into(&mut tokens[0]);
    let merges = learned
        .merges
        .iter()
        .map(|&(left, right)| (tokens[left as usize].clone(), tokens[right as usize].clone()));
    let merges = merges.collect();
    let vocab: Vocab = tokens.into_iter().zip(0..).collect();
    BPE::builder()
        .vocab_and_merges(vocab, merges)
        .build()
        .map_err(DataError::tokenizer("take its merges"))
}

/// The `tokenizer.json` of GPT-2's pipeline around a model.
pub(super) fn to_json(model: BPE) -> Result<String, DataError> {
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(byte_level())).with_decoder(Some(byte_level()));
    tokenizer
        .add_special_tokens([AddedToken::from(END_OF_TEXT, true)])
        .map_err(DataError::tokenizer("add `<|endoftext|>`"))?;
    tokenizer.to_string(true).map_err(DataError::tokenizer("write its JSON"))
}

/// GPT-2's pre-tokeniser, which also writes bytes as characters; and its decoder.
fn byte_level() -> ByteLevel {
    ByteLevel::new(false, true, true)
}
