//! A tokenizer as lists of tokens and merges, for formats that know no `tokenizer.json`.
//!
//! How such a format writes them is not decided here.

use serde_json::Value;

use super::Tokenizer;
use super::char_level::fallback_byte;
use crate::encoding::Encoding;
use crate::error::DataError;

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Its text.
    Text,
    /// One byte of a character that has no token; only at the character level.
    Byte(u8),
    /// `<|endoftext|>`: a mark in the text.
    Control,
    /// Nothing: no text has this id.
    Unused,
}

/// All that a tokenizer knows, in lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// Whether tokens are characters, or byte pairs written in GPT-2's 256 characters for bytes.
    pub encoding: Encoding,
    /// Texts and kinds by id; no text stands there twice.
    pub tokens: Vec<(String, TokenKind)>,
    /// Pairs of tokens with a space between them, the first to be merged first.
    pub merges: Vec<String>,
}

impl Tokenizer {
    /// The tokenizer in lists.
    ///
    /// # Errors
    /// [`DataError::Usage`] if it is more than lists: another pipeline than GPT-2's.
    pub fn vocabulary(&self) -> Result<Vocabulary, DataError> {
        if let Some(reason) = self.slow_because() {
            return Err(DataError::usage(
                format!("this tokenizer cannot be written as tokens and merges: {reason}"),
                "use a tokenizer of a prepared dataset, or GPT-2's own",
            ));
        }
        let is_special = |id| self.special().iter().any(|(_, special)| special == id);
        let tokens = (0..self.vocab_size() as u32).map(|id| match self.inner.id_to_token(id) {
            None => (format!("<|unused {id}|>"), TokenKind::Unused),
            Some(token) if is_special(id) => (token, TokenKind::Control),
            Some(token) => {
                let byte = fallback_byte(&token).filter(|_| self.encoding == Encoding::Simple);
                (token, byte.map_or(TokenKind::Text, TokenKind::Byte))
            }
        });
        Ok(Vocabulary { encoding: self.encoding, tokens: tokens.collect(), merges: self.merges()? })
    }

    /// The merges of the file, which older ones write as text and newer ones as pairs.
    fn merges(&self) -> Result<Vec<String>, DataError> {
        let value: Value = serde_json::from_str(&self.json).unwrap_or_default();
        let written = value["model"]["merges"].as_array().into_iter().flatten();
        let joined = written.map(|merge| match merge {
            Value::String(merge) => Some(merge.clone()),
            pair => Some(format!("{} {}", pair[0].as_str()?, pair[1].as_str()?)),
        });
        joined.collect::<Option<_>>().ok_or_else(|| {
            DataError::usage("a merge of this tokenizer is not a pair of tokens", "prepare it anew")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::CharSet;
    use super::*;

    #[test]
    fn characters_bytes_and_the_end_are_distinguished() {
        let mut chars = CharSet::new();
        chars.add("é a");
        let vocabulary = Tokenizer::char_level(&chars).unwrap().vocabulary().unwrap();
        assert_eq!(vocabulary.encoding, Encoding::Simple);
        assert_eq!(vocabulary.tokens.len(), 1 + 3 + 256);
        let first = [
            ("<|endoftext|>", TokenKind::Control),
            (" ", TokenKind::Text),
            ("a", TokenKind::Text),
            ("é", TokenKind::Text),
            ("<0x00>", TokenKind::Byte(0)),
        ];
        for ((token, kind), (text, expected)) in vocabulary.tokens.iter().zip(first) {
            assert_eq!((token.as_str(), *kind), (text, expected));
        }
        assert!(vocabulary.merges.is_empty());
    }

    #[test]
    fn byte_pairs_keep_their_order_and_gaps_are_filled() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bpe/tokenizer.json");
        let tokenizer = Tokenizer::from_file(golden).unwrap();
        let vocabulary = tokenizer.vocabulary().unwrap();
        assert_eq!(vocabulary.tokens[0], ("<|endoftext|>".to_owned(), TokenKind::Control));
        // Each merge gives the token with the next id.
        let n = vocabulary.merges.len();
        assert!(n > 10);
        let made = &vocabulary.tokens[257..];
        for (merge, (token, _)) in vocabulary.merges.iter().zip(made) {
            assert_eq!(merge.replace(' ', ""), *token);
        }
        // The last token gets an id that leaves a gap of one.
        let (last, id) = (&made[n - 1].0, vocabulary.tokens.len() - 1);
        let quoted = serde_json::to_string(last).unwrap();
        let moved =
            tokenizer.json().replace(&format!("{quoted}: {id}"), &format!("{quoted}: {}", id + 1));
        let vocabulary =
            Tokenizer::from_json(moved, golden.as_ref()).unwrap().vocabulary().unwrap();
        assert_eq!(vocabulary.tokens[id].1, TokenKind::Unused);
        assert_eq!(vocabulary.tokens[id + 1].0, *last);
    }
}
