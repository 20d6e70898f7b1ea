//! The character level: one token for each character seen in training, and one for each byte.
//!
//! An unseen character becomes its UTF-8 bytes, so no text is lost. In `tokenizer.json` it
//! is BPE without merges and with byte fallback; here a table does the same, much faster. Tests
//! compare the two.

use serde_json::{Value, json};

use super::END_OF_TEXT;
use super::special::end_of_text_json;

/// The distinct characters of texts.
pub(crate) struct CharSet(Vec<bool>);

impl CharSet {
    /// No characters yet.
    pub(crate) fn new() -> Self {
        Self(vec![false; char::MAX as usize + 1])
    }

    /// Adds the characters of `text`.
    pub(crate) fn add(&mut self, text: &str) {
        let (ascii, others) = self.0.split_at_mut(128);
        let mut at = 0;
        while at < text.len() {
            let rest = &text.as_bytes()[at..];
            let block = &rest[..rest.len().min(BLOCK)];
            if block.is_ascii() {
                for byte in block {
                    ascii[usize::from(byte & 0x7f)] = true;
                }
                at += block.len();
                continue;
            }
            let mut chars = text[at..].chars();
            for c in chars.by_ref().take(BLOCK / 2) {
                let code_point = c as usize;
                match code_point.checked_sub(128) {
                    Some(at) => others[at] = true,
                    None => ascii[code_point] = true,
                }
            }
            at = text.len() - chars.as_str().len();
        }
    }

    /// Adds the characters of other texts.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (seen, &too) in self.0.iter_mut().zip(&other.0) {
            *seen |= too;
        }
    }

    /// The characters in Unicode order.
    fn iter(&self) -> impl Iterator<Item = char> {
        self.0.iter().zip(0u32..).filter(|(seen, _)| **seen).filter_map(|(_, c)| char::from_u32(c))
    }
}

/// How many bytes are looked at together, to see whether they are ASCII.
const BLOCK: usize = 64;

/// Marks a character that is not a token.
const UNSEEN: u32 = u32::MAX;

/// How many characters share an entry of [`CharTable`]'s first table.
const PAGE: usize = 256;

/// From characters and bytes to token ids.
pub(crate) struct CharTable {
    /// ASCII bytes, known characters or not, are one token each.
    ascii: [u32; 128],
    /// For each page of code points its place among `pages`; 0 is the page without tokens.
    page_of: Vec<u16>,
    pages: Vec<[u32; PAGE]>,
    bytes: [u32; 256],
}

impl CharTable {
    /// Reads the table from a vocabulary; the error says what is missing from it.
    pub(super) fn new<'v>(
        vocab: impl Iterator<Item = (&'v String, &'v u32)>,
    ) -> Result<Self, String> {
        let mut table = Self {
            ascii: [UNSEEN; 128],
            page_of: vec![0; char::MAX as usize / PAGE + 1],
            pages: vec![[UNSEEN; PAGE]],
            bytes: [UNSEEN; 256],
        };
        for (token, &id) in vocab {
            let mut chars = token.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => table.insert(c, id),
                _ => match fallback_byte(token) {
                    Some(byte) => table.bytes[usize::from(byte)] = id,
                    None => return Err(format!("token `{token}` is not a character")),
                },
            }
        }
        if let Some(byte) = table.bytes.iter().position(|&id| id == UNSEEN) {
            return Err(format!("no token `<0x{byte:02X}>`: some text could not be encoded"));
        }
        for (c, byte) in ('\0'..='\x7f').zip(0u8..) {
            let id = table.id_of(c);
            table.ascii[usize::from(byte)] =
                if id == UNSEEN { table.bytes[usize::from(byte)] } else { id };
        }
        Ok(table)
    }

    fn insert(&mut self, c: char, id: u32) {
        let page = &mut self.page_of[c as usize / PAGE];
        if *page == 0 {
            // There are fewer pages than 2^16.
            *page = self.pages.len() as u16;
            self.pages.push([UNSEEN; PAGE]);
        }
        self.pages[usize::from(*page)][c as usize % PAGE] = id;
    }

    /// Appends the ids of `text`, in which the names of special tokens are text like any other.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        ids.reserve(text.len());
        let mut at = 0;
        while at < text.len() {
            let rest = &text.as_bytes()[at..];
            let block = &rest[..rest.len().min(BLOCK)];
            if block.is_ascii() {
                ids.extend(block.iter().map(|&byte| self.ascii[usize::from(byte & 0x7f)]));
                at += block.len();
                continue;
            }
            let mut chars = text[at..].chars();
            for c in chars.by_ref().take(BLOCK / 2) {
                self.push(c, ids);
            }
            at = text.len() - chars.as_str().len();
        }
    }

    fn push(&self, c: char, ids: &mut Vec<u32>) {
        match self.id_of(c) {
            UNSEEN => {
                let mut utf8 = [0; 4];
                let bytes = c.encode_utf8(&mut utf8).bytes();
                ids.extend(bytes.map(|byte| self.bytes[usize::from(byte)]));
            }
            id => ids.push(id),
        }
    }

    /// Whether `c` is a token.
    pub(super) fn has(&self, c: char) -> bool {
        self.id_of(c) != UNSEEN
    }

    fn id_of(&self, c: char) -> u32 {
        self.pages[usize::from(self.page_of[c as usize / PAGE])][c as usize % PAGE]
    }
}

/// The `tokenizer.json` of a character level tokenizer over `chars`.
///
/// Ids: 0 is `<|endoftext|>`, then the characters in Unicode order, then the 256 bytes.
pub(super) fn tokenizer_json(chars: &CharSet) -> String {
    let tokens = std::iter::once(END_OF_TEXT.to_owned())
        .chain(chars.iter().map(String::from))
        .chain((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    let vocab: serde_json::Map<String, Value> =
        tokens.enumerate().map(|(id, token)| (token, json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": end_of_text_json(),
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

/// The byte that a token `<0xHH>` stands for.
pub(super) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let byte = u8::from_str_radix(digits, 16).ok()?;
    (format!("{byte:02X}") == digits).then_some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_tokens_are_read_strictly() {
        assert_eq!(fallback_byte("<0x0A>"), Some(10));
        for token in ["<0x0A", "0x0A>", "<0x+A>", "<0x00A>", "<0xGG>", "<0x0a>"] {
            assert_eq!(fallback_byte(token), None, "{token}");
        }
    }
}
