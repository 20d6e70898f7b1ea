//! Which bytes each token of a `tokenizer.json` stands for, for the two kinds that we accept.
//!
//! With this table decoding is concatenation, whatever the encoding.

use std::collections::BTreeSet;

use serde_json::Value;

use super::END_OF_TEXT;
use super::char_level::{CharTable, decoder_json, fallback_byte};

/// The largest vocabulary that is accepted; ids beyond it are a forged or foreign file.
const MAX_VOCAB: usize = 1 << 22;

/// The bytes of all tokens by id and, for a character level tokenizer, its table.
pub(super) type TokenBytes = (Vec<Box<[u8]>>, Option<CharTable>);

/// Reads the bytes of all tokens; the error says what is wrong with the tokenizer.
pub(super) fn of_tokens(inner: &tokenizers::Tokenizer, json: &Value) -> Result<TokenBytes, String> {
    let vocab = inner.get_vocab(true);
    let vocab_size = vocab.values().max().map_or(0, |&id| id as usize + 1);
    if vocab_size > MAX_VOCAB {
        return Err(format!("token id {} is beyond {MAX_VOCAB}", vocab_size - 1));
    }
    let is_char_level = is_char_level(json);
    if !is_char_level && json["decoder"]["type"] != "ByteLevel" {
        return Err(format!("a {} tokenizer, which loses text", json["model"]["type"]));
    }
    let added = added_tokens(json);
    let mut token_bytes: Vec<Box<[u8]>> = vec![Box::default(); vocab_size];
    let mut is_taken = vec![false; vocab_size];
    for (token, &id) in &vocab {
        let bytes =
            if added.contains(token.as_str()) {
                token.as_bytes().into()
            } else if is_char_level {
                fallback_byte(token).map_or_else(|| token.as_bytes().into(), |byte| [byte].into())
            } else {
                token.chars().map(byte_of_char).collect::<Option<_>>().ok_or_else(|| {
                    format!("token `{token}` is not written in byte-level characters")
                })?
            };
        if std::mem::replace(&mut is_taken[id as usize], true) {
            return Err(format!("two tokens have id {id}"));
        }
        token_bytes[id as usize] = bytes;
    }
    let char_table = if is_char_level {
        let is_text = |token: &str| !added.contains(token);
        Some(CharTable::new(vocab.iter().filter(|(token, _)| is_text(token)))?)
    } else {
        None
    };
    Ok((token_bytes, char_table))
}

/// Whether every character is a token by itself and the rest falls back to bytes: our own form.
fn is_char_level(json: &Value) -> bool {
    let model = &json["model"];
    let is_empty = |list: &Value| list.as_array().is_some_and(Vec::is_empty);
    model["type"] == "BPE"
        && model["byte_fallback"] == true
        && is_empty(&model["merges"])
        && json["pre_tokenizer"].is_null()
        && json["normalizer"].is_null()
        && json["decoder"] == decoder_json()
        && added_tokens(json).contains(END_OF_TEXT)
}

fn added_tokens(json: &Value) -> BTreeSet<&str> {
    let added = json["added_tokens"].as_array();
    added.into_iter().flatten().filter_map(|token| token["content"].as_str()).collect()
}

/// GPT-2's 256 characters in Unicode order, each with the byte that it stands for.
pub(super) fn byte_alphabet() -> Vec<(char, u8)> {
    ('!'..='\u{143}').filter_map(|c| Some((c, byte_of_char(c)?))).collect()
}

/// The byte that GPT-2 writes as `c`.
///
/// Printable bytes of Latin-1 stand for themselves, the other 68 for U+0100 and up, in order
/// (GPT-2 `encoder.py`, `bytes_to_unicode`).
fn byte_of_char(c: char) -> Option<u8> {
    let shifted = u32::from(c).checked_sub(256);
    match shifted {
        Some(shift) => {
            (0..=255u8).filter(|&byte| !stands_for_itself(byte)).nth(usize::try_from(shift).ok()?)
        }
        None => u8::try_from(c).ok().filter(|&byte| stands_for_itself(byte)),
    }
}

fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn every_byte_has_one_character_and_it_is_the_libraries() {
        let mut bytes: Vec<u8> =
            ByteLevel::alphabet().into_iter().filter_map(byte_of_char).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte_alphabet().len(), 256);
        assert_eq!(byte_of_char('Ġ'), Some(b' '));
        assert_eq!(byte_of_char('Ċ'), Some(b'\n'));
        assert_eq!(byte_of_char('\u{144}'), None);
        assert_eq!(byte_of_char(' '), None);
    }
}
