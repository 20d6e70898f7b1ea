//! The tokenizer as GGUF metadata, so that llama.cpp gives the same ids for the same text.
//!
//! Byte-level BPE is llama.cpp's model `gpt2` with GPT-2's splitting into words. Characters with byte
//! fallback are its model `llama`, SentencePiece, without merges. SentencePiece writes a space as
//! U+2581, so the token of the space has that name, and a U+2581 in a text is read as a space.

use anyhow::Result;
use tinygpt_data::{Encoding, TokenKind, Vocabulary};
use tinygpt_model::gguf::{Metadata, Value};
use tinygpt_model::hf::SpecialTokens;

use crate::usage::UsageError;

/// A space in SentencePiece.
const SPACE: &str = "\u{2581}";

/// The keys `tokenizer.ggml.*`.
///
/// # Errors
/// [`UsageError`] if a character cannot be a token there.
pub(super) fn metadata(vocabulary: &Vocabulary, special: SpecialTokens) -> Result<Metadata> {
    let is_simple = vocabulary.encoding == Encoding::Simple;
    let tokens = if is_simple { characters(vocabulary)? } else { byte_pairs(vocabulary) };
    // A model that never saw the end of a document still gets an end token: without one, llama.cpp
    // would choose another.
    let is_end = |(_, kind): &(String, TokenKind)| *kind == TokenKind::Control;
    let end = vocabulary.tokens.iter().position(is_end).unwrap_or_default();
    let ids = [("bos", special.bos), ("eos", special.eos.unwrap_or(end as u32))];
    let (texts, kinds) = tokens.into_iter().unzip();
    let mut keys = vec![
        ("model", Value::String(if is_simple { "llama" } else { "gpt2" }.to_owned())),
        ("tokens", Value::Strings(texts)),
        ("token_type", Value::I32s(kinds)),
        ("add_bos_token", Value::Bool(false)),
        ("add_eos_token", Value::Bool(false)),
        ("add_space_prefix", Value::Bool(false)),
    ];
    if !is_simple {
        keys.push(("pre", Value::String("gpt-2".to_owned())));
        keys.push(("merges", Value::Strings(vocabulary.merges.clone())));
    }
    let mut metadata: Metadata =
        keys.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect();
    for (which, id) in ids {
        metadata.push((format!("tokenizer.ggml.{which}_token_id"), Value::U32(id)));
    }
    Ok(metadata)
}

/// Token types of llama.cpp.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

fn byte_pairs(vocabulary: &Vocabulary) -> Vec<(String, i32)> {
    let kind = |kind: &TokenKind| match kind {
        TokenKind::Text | TokenKind::Byte(_) => NORMAL,
        TokenKind::Control => CONTROL,
        TokenKind::Unused => UNUSED,
    };
    vocabulary.tokens.iter().map(|(token, is)| (token.clone(), kind(is))).collect()
}

fn characters(vocabulary: &Vocabulary) -> Result<Vec<(String, i32)>> {
    let has = |text: &str| vocabulary.tokens.iter().any(|(token, _)| token == text);
    for (character, name) in [(SPACE, "U+2581"), ("\0", "U+0000")] {
        if has(character) {
            let message = format!(
                "this vocabulary has the character {name} as a token, which llama.cpp cannot distinguish \
                 from another: it cannot be exported to GGUF"
            );
            let hint = "export it with --export hf DIR, or prepare the text without it";
            return Err(UsageError::new(message).hint(hint).into());
        }
    }
    let has_space = has(" ");
    let token = |(token, kind): &(String, TokenKind)| match kind {
        TokenKind::Text if token == " " => (SPACE.to_owned(), NORMAL),
        // Without a space in the training text, the model knows it as a byte.
        TokenKind::Byte(b' ') if !has_space => (SPACE.to_owned(), NORMAL),
        TokenKind::Text => (token.clone(), NORMAL),
        TokenKind::Byte(_) => (token.clone(), BYTE),
        TokenKind::Control => (token.clone(), CONTROL),
        TokenKind::Unused => (token.clone(), UNUSED),
    };
    Ok(vocabulary.tokens.iter().map(token).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn vocabulary(chars: &[&str]) -> Vocabulary {
        let mut tokens = vec![("<|endoftext|>".to_owned(), TokenKind::Control)];
        tokens.extend(chars.iter().map(|c| ((*c).to_owned(), TokenKind::Text)));
        tokens.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), TokenKind::Byte(byte))));
        Vocabulary { encoding: Encoding::Simple, tokens, merges: Vec::new() }
    }

    const SPECIAL: SpecialTokens = SpecialTokens { bos: 3, eos: None };

    fn tokens(vocabulary: &Vocabulary) -> (Vec<String>, Vec<i32>) {
        let metadata = metadata(vocabulary, SPECIAL).unwrap();
        let get =
            |key: &str| metadata.iter().find(|(found, _)| found.ends_with(key)).unwrap().1.clone();
        assert_eq!(get(".model"), Value::String("llama".to_owned()));
        assert_eq!(get("eos_token_id"), Value::U32(0));
        match (get(".tokens"), get(".token_type")) {
            (Value::Strings(tokens), Value::I32s(kinds)) => (tokens, kinds),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_space_has_its_sentencepiece_name_in_any_vocabulary() {
        let (texts, kinds) = tokens(&vocabulary(&[" ", "é"]));
        assert_eq!(texts[..4], ["<|endoftext|>", SPACE, "é", "<0x00>"]);
        assert_eq!(kinds[..4], [CONTROL, NORMAL, NORMAL, BYTE]);
        assert_eq!((texts[3 + 32].as_str(), kinds[3 + 32]), ("<0x20>", BYTE));
        let (texts, kinds) = tokens(&vocabulary(&["é"]));
        assert_eq!((texts[2 + 32].as_str(), kinds[2 + 32]), (SPACE, NORMAL));
        // llama.cpp refuses a vocabulary with a token twice.
        for texts in [texts, tokens(&vocabulary(&[" "])).0] {
            let distinct: std::collections::BTreeSet<&String> = texts.iter().collect();
            assert_eq!(distinct.len(), texts.len());
        }
    }

    #[test]
    fn characters_that_llama_cpp_confuses_are_refused() {
        for (character, name) in [(SPACE, "U+2581"), ("\0", "U+0000")] {
            let error = metadata(&vocabulary(&[" ", character]), SPECIAL).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
