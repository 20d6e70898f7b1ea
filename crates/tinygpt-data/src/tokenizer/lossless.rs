//! Checks that a tokenizer restores every text, by trying it: all characters of the BMP, samples of those
//! beyond, and combinations that pipelines are known to lose or change.
//!
//! What a tokenizer is made of says little: a byte-level one may lack bytes, a normalizer may change case or
//! accents, an added token may swallow the spaces around it. So texts are encoded and decoded when a
//! tokenizer is loaded. With the project's own encoders that takes about a millisecond.

use super::{END_OF_TEXT, Tokenizer};
use crate::error::DataError;

/// A text that is not restored exactly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    text: String,
    back: String,
}

impl Lost {
    /// What is wrong, for the message of an error.
    pub(super) fn describe(&self) -> String {
        format!("loses text: {} comes back as {}", quoted(&self.text), quoted(&self.back))
    }
}

/// How many characters before a difference are quoted with it.
const CONTEXT: usize = 8;

/// How many characters of a text are quoted in a message.
const QUOTED_CHARS: usize = 80;

/// A text for a message: escaped, and cut if it is long.
pub(super) fn quoted(text: &str) -> String {
    // Character by character, so that marks are written apart from their letters.
    let all = || text.chars().flat_map(char::escape_debug);
    let escaped: String = all().take(QUOTED_CHARS).collect();
    let is_cut = all().nth(QUOTED_CHARS).is_some();
    format!("\"{escaped}{}\"", if is_cut { "…" } else { "" })
}

/// The first text that the tokenizer does not give back, if one is found.
///
/// # Errors
/// [`DataError::Corrupt`] if the tokenizer cannot encode one of the texts.
pub(super) fn first_lost(tokenizer: &Tokenizer) -> Result<Option<Lost>, DataError> {
    for text in combinations(tokenizer).into_iter().chain(pages()) {
        let Some(whole) = lost(tokenizer, &text)? else { continue };
        // One character says more than the text, if it is lost alone, too.
        for c in text.chars() {
            if let Some(alone) = lost(tokenizer, c.encode_utf8(&mut [0; 4]))? {
                return Ok(Some(alone));
            }
        }
        return Ok(Some(whole.beginning_at_the_difference()));
    }
    Ok(None)
}

fn lost(tokenizer: &Tokenizer, text: &str) -> Result<Option<Lost>, DataError> {
    let back = tokenizer.decode(&tokenizer.encode(text)?)?;
    Ok((back != text).then(|| Lost { text: text.to_owned(), back }))
}

impl Lost {
    /// The same without the common prefix of both texts, except for its last characters.
    fn beginning_at_the_difference(self) -> Self {
        let same = self.text.chars().zip(self.back.chars()).take_while(|(a, b)| a == b).count();
        let rest = |text: &str| text.chars().skip(same.saturating_sub(CONTEXT)).collect();
        Self { text: rest(&self.text), back: rest(&self.back) }
    }
}

/// The planes beyond the BMP are sampled: each block of this many code points has one character in a page.
const ASTRAL_STEP: usize = 61;

/// Characters in the order of Unicode, 256 to a text.
fn pages() -> impl Iterator<Item = String> {
    let bmp = (0..=0xffff).filter_map(char::from_u32);
    let symbols = ('\u{1f000}'..='\u{1faff}').filter(|c| (*c as usize).is_multiple_of(3));
    let astral = ('\u{10000}'..=char::MAX).step_by(ASTRAL_STEP);
    let mut all = bmp.chain(symbols).chain(astral);
    std::iter::from_fn(move || {
        let page: String = all.by_ref().take(256).collect();
        (!page.is_empty()).then_some(page)
    })
}

/// Every kind of space that Unicode has, and what looks like none.
const SPACES: [&str; 23] = [
    " ", "\t", "\n", "\r", "\r\n", "\u{b}", "\u{c}", "\u{85}", "\u{a0}", "\u{1680}", "\u{2000}",
    "\u{2003}", "\u{2009}", "\u{200a}", "\u{200b}", "\u{2028}", "\u{2029}", "\u{202f}", "\u{205f}",
    "\u{3000}", "\u{feff}", "\u{2581}", "\0",
];

/// Texts that pipelines often change, one kind per line.
const TRICKY: &[&str] = &[
    // Case, and letters whose case is special.
    "Hello hELLO WORLD",
    "ßẞ İıiI ŉ ǅ ﬀ Σσς",
    // The same letters composed and decomposed; marks in two orders, and without a letter.
    "é e\u{301} Å A\u{30a} \u{212b}",
    "q\u{323}\u{307} q\u{307}\u{323}",
    "\u{301}",
    "한 \u{1112}\u{1161}\u{11ab}",
    // Compatibility characters.
    "ﬁ ① ½ Ａ ｱ ㎏ ™ … x² ℌ",
    // Scripts that join, stack or run the other way.
    "नमस्ते क्षत्रिय",
    "ภาษาไทย",
    "مرحبا ـــ\u{200f}",
    "שָׁלוֹם",
    "日本語 中文 한국어",
    "ქართული Ω Жж",
    // Emoji: joined, with tones and selectors, flags, keycaps, tags.
    "👩‍👩‍👧‍👦 👍🏽 ❤️ 🇩🇪🇫🇷 1️⃣ 🏴\u{e0067}\u{e0062}\u{e007f}",
    // Private, unassigned and last characters; the replacement character itself.
    "\u{e000}\u{f8ff}\u{f0000}\u{10fffd}\u{10ffff}\u{fffe}\u{fffd}",
    // Controls and invisible formats.
    "\u{1}\u{7}\u{8}\u{1b}[0m\u{7f}\u{9b}\u{ad}\u{200c}\u{200d}\u{202e}\u{2060}",
    // Numbers, signs, apostrophes and quotes.
    "1234567 3.14 -5 1,000,000 ½",
    "it's I'LL we'Ve ''s ' 's",
    "“a” «b» -- – — ... $€£ #@&*()[]{}<>|\\/~^`_+=",
    // How tokenizers write bytes, spaces, words and special tokens inside.
    "<0x41> <0xFF> Ġ Ċ Ã © ▁ ## ##a a@@ </w> [UNK] [CLS] [SEP] [PAD] [MASK] <s> </s> <unk> <pad>",
    "<|endoftext",
    "|><|",
    "<|im_start|>",
    "ĠĠ",
    "\u{100}\u{143}",
];

/// Texts of spaces in every place, of special tokens between spaces, long ones and tricky ones.
fn combinations(tokenizer: &Tokenizer) -> Vec<String> {
    let mut texts: Vec<String> = TRICKY.iter().map(|text| (*text).to_owned()).collect();
    for space in SPACES {
        let all = [
            "{}",
            "a{}",
            "{}a",
            "a{}b",
            "{}{}",
            "a{}{}b",
            "{}{}{}a{}{}{}",
            ".{}A",
            "1{}2",
            "{} {}a",
        ];
        texts.extend(all.iter().map(|form| form.replace("{}", space)));
    }
    let mut added: Vec<_> = tokenizer.inner.get_added_tokens_decoder().into_iter().collect();
    // First those that swallow spaces.
    added.sort_by_key(|(id, token)| (!(token.lstrip || token.rstrip), *id));
    let added = added.into_iter().map(|(_, token)| token.content);
    for token in added.take(MAX_ADDED).chain([END_OF_TEXT.to_owned()]) {
        let forms = ["{}", "a{}b", " {} ", "a {} b", "a  {}\n\n{}  b", "{}{}"];
        texts.extend(forms.iter().map(|form| form.replace("{}", &token)));
        texts.push(format!("{} {}", token.to_lowercase(), token.to_uppercase()));
    }
    texts.extend(["a", " ", "ab ", "日"].map(|unit| unit.repeat(1_500)));
    texts
}

/// The most added tokens that are tried.
const MAX_ADDED: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_basic_plane_and_every_block_beyond_is_tried() {
        let all: String = pages().collect();
        let tried: std::collections::BTreeSet<char> = all.chars().collect();
        assert!(('\0'..='\u{ffff}').all(|c| tried.contains(&c)));
        assert!(('\u{10000}'..=char::MAX).step_by(64).all(|block| {
            let end = char::from_u32(block as u32 + 63).unwrap_or(char::MAX);
            tried.range(block..=end).next().is_some()
        }));
        // Every byte that UTF-8 has.
        let bytes: std::collections::BTreeSet<u8> = all.bytes().collect();
        assert_eq!(bytes.len(), 128 + 64 + 30 + 16 + 5);
    }

    #[test]
    fn quotes_are_escaped_and_cut() {
        assert_eq!(quoted("a\n\u{1b}\""), "\"a\\n\\u{1b}\\\"\"");
        assert!(quoted(&"\u{1}".repeat(1_000)).chars().count() <= QUOTED_CHARS + 3);
    }

    #[test]
    fn a_long_difference_begins_where_it_begins() {
        let lost = |text: &str, back: &str| Lost { text: text.to_owned(), back: back.to_owned() };
        let expected = lost("all the same this", "all the same that");
        let lost = lost("and they are all the same this", "and they are all the same that");
        assert!(expected.text.ends_with(&lost.beginning_at_the_difference().text));
    }
}
