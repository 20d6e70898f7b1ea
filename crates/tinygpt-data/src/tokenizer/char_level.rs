//! The character level: one token for each character seen in training, and one for each byte.
//!
//! A character never seen becomes its UTF-8 bytes, so any text survives. In `tokenizer.json` it
//! is BPE without merges and with byte fallback; here a table does the same, much faster. The
//! tests hold the two equal.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::END_OF_TEXT;
use super::bytes::fallback_byte;

/// The distinct characters of a text, in order.
pub(crate) type CharSet = BTreeSet<char>;

/// How many characters have a direct place in the table: those of one or two UTF-8 bytes.
const N_DIRECT: usize = 0x800;

/// Marks a character that is no token.
const UNSEEN: u32 = u32::MAX;

/// From characters and bytes to token ids.
pub(crate) struct CharTable {
    direct: Vec<u32>,
    others: HashMap<char, u32>,
    bytes: [u32; 256],
}

impl CharTable {
    /// Reads the table from a vocabulary; the error says what is missing from it.
    pub(super) fn new(vocab: &HashMap<String, u32>) -> Result<Self, String> {
        let mut table =
            Self { direct: vec![UNSEEN; N_DIRECT], others: HashMap::new(), bytes: [UNSEEN; 256] };
        for (token, &id) in vocab {
            let mut chars = token.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => match table.direct.get_mut(c as usize) {
                    Some(slot) => *slot = id,
                    None => _ = table.others.insert(c, id),
                },
                _ if token == END_OF_TEXT => {}
                _ => match fallback_byte(token) {
                    Some(byte) => table.bytes[usize::from(byte)] = id,
                    None => return Err(format!("token `{token}` is not a character")),
                },
            }
        }
        match table.bytes.iter().position(|&id| id == UNSEEN) {
            Some(byte) => Err(format!("no token `<0x{byte:02X}>`: some text could not be encoded")),
            None => Ok(table),
        }
    }

    /// The ids of `text`, in which `<|endoftext|>` is one token, `eot_id`.
    pub(super) fn encode(&self, text: &str, eot_id: u32) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len());
        for (part_idx, part) in text.split(END_OF_TEXT).enumerate() {
            if part_idx > 0 {
                ids.push(eot_id);
            }
            for c in part.chars() {
                match self.id_of(c) {
                    UNSEEN => {
                        let mut utf8 = [0; 4];
                        let bytes = c.encode_utf8(&mut utf8).bytes();
                        ids.extend(bytes.map(|byte| self.bytes[usize::from(byte)]));
                    }
                    id => ids.push(id),
                }
            }
        }
        ids
    }

    fn id_of(&self, c: char) -> u32 {
        match self.direct.get(c as usize) {
            Some(&id) => id,
            None => self.others.get(&c).copied().unwrap_or(UNSEEN),
        }
    }
}

/// The `tokenizer.json` of a character level tokenizer over `chars`.
///
/// Ids: 0 is `<|endoftext|>`, then the characters in Unicode order, then the 256 bytes.
pub(super) fn tokenizer_json(chars: &CharSet) -> String {
    let tokens = std::iter::once(END_OF_TEXT.to_owned())
        .chain(chars.iter().map(char::to_string))
        .chain((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    let vocab: serde_json::Map<String, Value> =
        tokens.enumerate().map(|(id, token)| (token, json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{
            "id": 0,
            "content": END_OF_TEXT,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": decoder_json(),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": [],
        },
    });
    format!("{tokenizer:#}\n")
}

/// The decoder of such a file. Without `Fuse` the library would put spaces between characters.
pub(super) fn decoder_json() -> Value {
    json!({ "type": "Sequence", "decoders": [{ "type": "ByteFallback" }, { "type": "Fuse" }] })
}
