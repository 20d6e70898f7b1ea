//! Byte-level BPE without the library: splitter, word cache, merges.
//!
//! The ids are those of `tokenizers`, many times faster. Only the pipeline of GPT-2 is known
//! here, which is also the one of trained tokenizers: split into words, then merge bytes. For any other, [`BpeEncoder::of`] reports what differs, and the library
//! encodes.

use std::sync::Mutex;

use serde_json::Value;
use tokenizers::{ModelWrapper, PreTokenizerWrapper};

use super::cache::{IdBuffer, WordCache};
use super::classes::CharClasses;
use super::merges::{Merges, Pair};
use super::splitter::for_each_word;

/// A vocabulary that encodes by itself.
pub(super) struct BpeEncoder {
    merges: Merges,
    classes: &'static CharClasses,
    /// Caches that no thread uses now, warm from their last text.
    caches: Mutex<Vec<WordCache>>,
}

impl BpeEncoder {
    /// Takes the tables out of a tokenizer, or says in what it differs from GPT-2's.
    ///
    /// `json` is the file, from which the order of the merges is read; `token_bytes` are the bytes
    /// of each token by id.
    pub(super) fn of(
        inner: &tokenizers::Tokenizer,
        json: &Value,
        token_bytes: &[Box<[u8]>],
    ) -> Result<Self, String> {
        let ModelWrapper::BPE(model) = inner.get_model() else {
            return Err("its model is not BPE".to_owned());
        };
        let affix = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let pre_tokenizer = match inner.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::ByteLevel(it)) => it.use_regex && !it.add_prefix_space,
            _ => false,
        };
        let differences = [
            (!pre_tokenizer, "its pre-tokenizer is not GPT-2's"),
            (inner.get_normalizer().is_some(), "it normalises text"),
            (model.dropout.is_some_and(|p| p > 0.0), "its merges drop out"),
            (affix(&model.continuing_subword_prefix), "its tokens have prefixes"),
            (affix(&model.end_of_word_suffix), "its tokens have suffixes"),
            (model.byte_fallback, "it falls back to bytes"),
            (model.ignore_merges, "it ignores merges"),
        ];
        if let Some((_, difference)) = differences.iter().find(|(differs, _)| *differs) {
            return Err((*difference).to_owned());
        }
        let classes = CharClasses::get().map_err(|error| error.to_string())?;
        Ok(Self {
            merges: Merges::new(byte_ids(token_bytes)?, learned(inner, json)?.into_iter()),
            classes,
            caches: Mutex::default(),
        })
    }

    /// Appends the ids of `text`, in which the names of special tokens are text like any other.
    pub(super) fn encode(&self, cache: &mut WordCache, text: &str, ids: &mut Vec<u32>) {
        let mut buffer = IdBuffer::new(ids);
        let bytes = text.as_bytes();
        for_each_word(self.classes, text, |start, end| {
            cache.push_ids(bytes, start, end, &mut buffer, |word, ids| {
                self.merges.encode(word, ids);
            });
        });
        buffer.flush();
    }

    /// A warm cache that nobody uses, else a new one.
    pub(super) fn take_cache(&self) -> WordCache {
        let warm = self.caches.lock().ok().and_then(|mut caches| caches.pop());
        warm.unwrap_or_else(WordCache::new)
    }

    /// Keeps a cache for the next text.
    pub(super) fn give_back(&self, cache: WordCache) {
        if let Ok(mut caches) = self.caches.lock() {
            caches.push(cache);
        }
    }
}

/// The token of each byte.
fn byte_ids(token_bytes: &[Box<[u8]>]) -> Result<[u32; 256], String> {
    let mut ids = [None; 256];
    for (bytes, id) in token_bytes.iter().zip(0u32..) {
        if let [byte] = **bytes {
            ids[usize::from(byte)].get_or_insert(id);
        }
    }
    let mut found = [0; 256];
    for (byte, (place, id)) in found.iter_mut().zip(ids).enumerate() {
        *place = id.ok_or_else(|| format!("no token for byte {byte}"))?;
    }
    Ok(found)
}

/// The merges of the file in their order: two tokens and the one that they give.
fn learned(inner: &tokenizers::Tokenizer, json: &Value) -> Result<Vec<(Pair, u32)>, String> {
    let model = inner.get_model();
    let id_of = |token: &str| {
        tokenizers::Model::token_to_id(model, token).ok_or_else(|| format!("no token `{token}`"))
    };
    let merges = json["model"]["merges"].as_array().ok_or("no merges")?;
    merges
        .iter()
        .map(|merge| {
            let (left, right) = match merge {
                Value::String(text) => text.split_once(' '),
                Value::Array(pair) => match pair.as_slice() {
                    [Value::String(left), Value::String(right)] => Some((&**left, &**right)),
                    _ => None,
                },
                _ => None,
            }
            .ok_or_else(|| format!("{merge} is not a merge"))?;
            let merged = id_of(&format!("{left}{right}"))?;
            Ok(((id_of(left)?, id_of(right)?), merged))
        })
        .collect()
}
