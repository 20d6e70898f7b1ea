//! GPT-2's pre-tokenizer: text into words, without a regex engine.
//!
//! The pattern is `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//! (GPT-2 `encoder.py`). Whether a word starts at a byte depends on little more than the classes
//! of the character there and of the one before it. So the text is taken in blocks of up to 64
//! bytes, each class becomes a mask with one bit a byte, and a few operations on masks give the
//! starts of all words in the block (the way of simdjson: Langdale & Lemire 2019,
//! arXiv:1902.08318 §3.1). Special tokens are not known here: they cut the text before.

use super::classes::{CharClass, CharClasses};

/// The most bytes of a block: a mask has one bit for each.
const BLOCK: usize = 64;

/// Calls `word` with the start and the end of each word of `text`, in order, without gaps.
#[inline]
pub(super) fn for_each_word(classes: &CharClasses, text: &str, mut word: impl FnMut(usize, usize)) {
    let (mut word_start, mut at) = (0, 0);
    let mut carry = Carry::default();
    while word_start < text.len() {
        // The end of the text ends the last word like the start of another.
        let (mut starts, n_bytes) = if at < text.len() {
            let block = Block::read(classes, text, at);
            let starts = carry.starts(classes, text, at, &block);
            (if at == 0 { starts & !1 } else { starts }, block.n_bytes)
        } else {
            (1, 0)
        };
        while starts != 0 {
            let start = at + starts.trailing_zeros() as usize;
            word(word_start, start);
            word_start = start;
            starts &= starts - 1;
        }
        at += n_bytes;
    }
}

/// The classes of up to 64 bytes of whole characters; all bytes of a character have its class.
#[derive(Default)]
struct Block {
    n_bytes: usize,
    letters: u64,
    numbers: u64,
    spaces: u64,
    /// U+0020 alone, which begins the word after it.
    blanks: u64,
    apostrophes: u64,
    /// Bytes after the first one of their character.
    continuations: u64,
}

impl Block {
    fn read(classes: &CharClasses, text: &str, at: usize) -> Self {
        match text.as_bytes()[at..].first_chunk::<BLOCK>() {
            Some(bytes) if bytes.is_ascii() => Self::of_ascii(bytes),
            _ => Self::of_characters(classes, &text[at..]),
        }
    }

    fn of_ascii(bytes: &[u8; BLOCK]) -> Self {
        let mut block = Self { n_bytes: BLOCK, ..Self::default() };
        for (idx, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let x = u64::from_le_bytes(*eight);
            let blanks = equal(x, b' ');
            let shift = 8 * idx;
            block.letters |= gather(within(x | splat(0x20), b'a', b'z')) << shift;
            block.numbers |= gather(within(x, b'0', b'9')) << shift;
            block.spaces |= gather(within(x, b'\t', b'\r') | blanks) << shift;
            block.blanks |= gather(blanks) << shift;
            block.apostrophes |= gather(equal(x, b'\'')) << shift;
        }
        block
    }

    /// The block of the first characters of `text`, as many as fit.
    fn of_characters(classes: &CharClasses, text: &str) -> Self {
        let mut block = Self::default();
        for c in text.chars() {
            let (at, n_bytes) = (block.n_bytes, c.len_utf8());
            if at + n_bytes > BLOCK {
                break;
            }
            let bits = (((1u64 << n_bytes) - 1) << at, 1u64 << at);
            match classes.of(c) {
                CharClass::Letter => block.letters |= bits.0,
                CharClass::Number => block.numbers |= bits.0,
                CharClass::Space => block.spaces |= bits.0,
                CharClass::Other => {}
            }
            block.continuations |= bits.0 & !bits.1;
            match c {
                ' ' => block.blanks |= bits.1,
                '\'' => block.apostrophes |= bits.1,
                _ => {}
            }
            block.n_bytes += n_bytes;
        }
        block
    }
}

/// What the end of a block passes to the next one, each in bit 0.
#[derive(Default)]
struct Carry {
    letter: u64,
    number: u64,
    space: u64,
    other: u64,
    blank: u64,
    contractions: Contractions,
}

impl Carry {
    /// The bytes of a block at which a word starts; advances to the end of the block.
    #[inline]
    fn starts(&mut self, classes: &CharClasses, text: &str, at: usize, block: &Block) -> u64 {
        let Block { n_bytes, letters, numbers, spaces, blanks, .. } = *block;
        let last = n_bytes - 1;
        let others = !(letters | numbers | spaces) & (u64::MAX >> (BLOCK - n_bytes));
        let changes = (letters & !((letters << 1) | self.letter))
            | (numbers & !((numbers << 1) | self.number))
            | (others & !((others << 1) | self.other));
        // A space before letters, numbers and others belongs to them: the word starts with it.
        let after_blank = (blanks << 1) | self.blank;
        let after_space = (spaces << 1) | self.space;
        let mut starts = (changes & !after_blank) | (spaces & !after_space);

        // `\s+(?!\S)` leaves the last of several spaces to what follows, unless nothing does.
        let continues = spaces >> last & 1 == 1 && space_or_end(classes, text, at + n_bytes);
        let run_ends = spaces & !((spaces >> 1) | (u64::from(continues) << last));
        starts |= first_bytes(run_ends, block.continuations) & after_space;

        let apostrophes = block.apostrophes & starts;
        if apostrophes != 0 || self.contractions.is_pending() {
            starts = self.contractions.apply(text.as_bytes(), at, block, starts);
        }
        self.letter = letters >> last & 1;
        self.number = numbers >> last & 1;
        self.space = spaces >> last & 1;
        self.other = others >> last & 1;
        self.blank = blanks >> last & 1;
        starts
    }
}

/// Whether white space continues at `at`, or the text ends there.
fn space_or_end(classes: &CharClasses, text: &str, at: usize) -> bool {
    text[at..].chars().next().is_none_or(|c| classes.of(c) == CharClass::Space)
}

/// From the last bytes of white space characters to their first ones; none has more than three.
fn first_bytes(last_bytes: u64, continuations: u64) -> u64 {
    let mut found = last_bytes & !continuations;
    let mut others = last_bytes & continuations;
    while others != 0 {
        others >>= 1;
        found |= others & !continuations;
        others &= continuations;
    }
    found
}

/// The starts that contractions make and take away, from bit 0 of a block and beyond its end.
#[derive(Default)]
struct Contractions {
    made: u128,
    taken: u128,
}

impl Contractions {
    fn is_pending(&self) -> bool {
        self.made | self.taken != 0
    }

    /// Corrects the starts of a block that begins at `at`.
    ///
    /// A contraction is a word if a word starts at its apostrophe, whatever letters follow it.
    fn apply(&mut self, bytes: &[u8], at: usize, block: &Block, starts: u64) -> u64 {
        let mut apostrophes = block.apostrophes & starts;
        while apostrophes != 0 {
            let bit = apostrophes.trailing_zeros() as usize;
            let n_bytes = contraction(&bytes[at + bit..]);
            if n_bytes > 0 {
                self.taken |= 1 << (bit + 1);
                self.made |= 1 << (bit + n_bytes);
            }
            apostrophes &= apostrophes - 1;
        }
        let valid = u64::MAX >> (BLOCK - block.n_bytes);
        let starts = (starts & !(self.taken as u64)) | (self.made as u64 & valid);
        self.taken >>= block.n_bytes;
        self.made >>= block.n_bytes;
        starts
    }
}

/// The length of the contraction at the apostrophe at the start of `bytes`, or 0.
fn contraction(bytes: &[u8]) -> usize {
    match bytes {
        [_, b's' | b't' | b'm' | b'd', ..] => 2,
        [_, b'r' | b'v', b'e', ..] | [_, b'l', b'l', ..] => 3,
        _ => 0,
    }
}

const HIGH_BITS: u64 = splat(0x80);

/// The same byte eight times.
const fn splat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The high bit of each of eight ASCII bytes that lie within `first..=last`.
fn within(x: u64, first: u8, last: u8) -> u64 {
    (x + splat(0x80 - first)) & !(x + splat(0x7f - last)) & HIGH_BITS
}

/// The high bit of each of eight ASCII bytes that are `byte`.
fn equal(x: u64, byte: u8) -> u64 {
    (HIGH_BITS - (x ^ splat(byte))) & HIGH_BITS
}

/// The high bits of eight bytes, in the lowest eight bits.
fn gather(high_bits: u64) -> u64 {
    (high_bits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    fn ours(text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        for_each_word(CharClasses::get().unwrap(), text, |start, end| {
            words.push(&text[start..end]);
        });
        words
    }

    fn theirs(text: &str) -> Vec<&str> {
        let mut words = PreTokenizedString::from(text);
        ByteLevel::new(false, true, true).pre_tokenize(&mut words).unwrap();
        let splits = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits
            .into_iter()
            .map(|(_, (start, end), _)| &text[start..end])
            .filter(|w| !w.is_empty())
            .collect()
    }

    #[test]
    fn words_are_gpt2s() {
        assert_eq!(
            ours("It's  the owls' café,\n\n 'twas 12\u{a0}\u{a0}x! \t"),
            [
                "It", "'s", " ", " the", " owls", "'", " café", ",", "\n\n", " '", "twas", " 12",
                "\u{a0}", "\u{a0}", "x", "!", " \t"
            ]
        );
        assert!(ours("").is_empty());
    }

    /// Each text at each place of a block, so that every rule meets every border.
    #[test]
    fn borders_of_blocks_change_nothing() {
        for text in [
            "it's we're you'll I'd he've I'm 'twas ''s 's's'll'l'r",
            "a  b   c \t\n d\u{3000}\u{3000}e\u{a0} f\u{2028}\u{2028}",
            "x1y2 3a!b? ...c",
            "日本語　です é́ 👩\u{200d}👧 １２\u{85}\u{85}z",
        ] {
            for before in 0..130 {
                for filler in ["a", " ", "'", "é", "\u{2003}"] {
                    let shifted = filler.repeat(before) + text;
                    assert_eq!(ours(&shifted), theirs(&shifted), "{shifted:?}");
                    assert_eq!(ours(&(shifted.clone() + "  ")), theirs(&(shifted + "  ")));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn words_are_the_librarys(parts in prop::collection::vec(
            prop_oneof![
                4 => "[ \\t\\n'a-eslmtrvd0-3.!]{1,9}",
                2 => "[\\p{L}\\p{N}\\s\\p{P}\\p{S}\\p{M}\\p{C}]{1,3}",
                1 => Just("\u{2003}\u{2003}".to_owned()),
            ],
            0..60,
        )) {
            let text = parts.concat();
            prop_assert_eq!(ours(&text), theirs(&text));
        }
    }
}
