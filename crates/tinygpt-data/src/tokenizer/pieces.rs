//! Single tokens as a report shows them: their text, and whether they are only a part of a
//! character.

use super::Tokenizer;
use super::char_level::fallback_byte;
use crate::encoding::Encoding;

impl Tokenizer {
    /// Whether token `id` stands for bytes of a character that has no token of its own.
    ///
    /// At the character level these are the 256 byte tokens; of byte-pair encoding, those whose
    /// bytes are not whole characters.
    pub fn is_fallback(&self, id: u32) -> bool {
        match self.encoding {
            Encoding::Simple => {
                self.inner.id_to_token(id).is_some_and(|token| fallback_byte(&token).is_some())
            }
            Encoding::Bpe => {
                self.bytes_of(id).is_ok_and(|bytes| std::str::from_utf8(bytes).is_err())
            }
        }
    }

    /// The text of token `id` for people: quoted, with what cannot be printed escaped.
    pub fn token_text(&self, id: u32) -> String {
        match self.bytes_of(id) {
            Ok(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => format!("{text:?}"),
                Err(_) => format!("\"{}\"", bytes.escape_ascii()),
            },
            Err(_) => "no token".to_owned(),
        }
    }
}
