//! A short word as one number: the key of the tables of words.
//!
//! Nearly all words of a text have at most 15 bytes. With its length such a word fits 128 bits,
//! so that comparing two words is comparing two numbers.

use std::hash::{BuildHasherDefault, Hasher};

/// The most bytes of a short word.
pub(super) const MAX_BYTES: usize = 15;

/// A word of at most [`MAX_BYTES`]: its bytes, zeros, and its length as the highest byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShortWord(u128);

/// What to keep of 16 bytes, by length.
const KEEP: [u128; MAX_BYTES + 1] = {
    let mut keep = [0; MAX_BYTES + 1];
    let mut n_bytes = 0;
    while n_bytes <= MAX_BYTES {
        keep[n_bytes] = (1 << (8 * n_bytes)) - 1;
        n_bytes += 1;
    }
    keep
};

impl ShortWord {
    /// No word: the key of an empty slot.
    pub(super) const NONE: Self = Self(0);

    /// The word `bytes[start..end]`, if it is short.
    #[inline(always)]
    pub(super) fn at(bytes: &[u8], start: usize, end: usize) -> Option<Self> {
        let n_bytes = end - start;
        let keep = KEEP.get(n_bytes)?;
        let sixteen = match bytes[start..].first_chunk::<16>() {
            Some(chunk) => u128::from_le_bytes(*chunk),
            None => {
                let mut chunk = [0; 16];
                chunk[..n_bytes].copy_from_slice(&bytes[start..end]);
                u128::from_le_bytes(chunk)
            }
        };
        Some(Self((sixteen & keep) | ((n_bytes as u128) << 120)))
    }

    /// Calls `take` with the bytes of the word.
    pub(super) fn with_bytes<T>(self, take: impl FnOnce(&[u8]) -> T) -> T {
        let n_bytes = (self.0 >> 120) as usize;
        take(&self.0.to_le_bytes()[..n_bytes])
    }

    /// A hash whose high bits are well mixed.
    #[inline(always)]
    pub(super) fn hash(self) -> u64 {
        mix(self.0 as u64 ^ 0x9e37_79b9_7f4a_7c15, (self.0 >> 64) as u64 ^ 0xd6e8_feb8_6659_fd93)
    }
}

/// Multiplies to 128 bits and folds them.
#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A fast hash of a pair of ids or of bytes, for tables whose keys are not chosen by an attacker.
#[derive(Default, Clone, Copy)]
pub(super) struct QuickHasher(u64);

/// Builds [`QuickHasher`]s for the standard library's tables.
pub(super) type QuickHash = BuildHasherDefault<QuickHasher>;

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.write_u64(u64::from_le_bytes(*chunk));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last) ^ ((rest.len() as u64) << 56));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = mix(self.0 ^ value ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_short_word_is_its_bytes_at_any_position() {
        let text = b"a word, and more text after it\0\0";
        for start in 0..text.len() {
            for end in start..=text.len() {
                let Some(word) = ShortWord::at(text, start, end) else {
                    assert!(end - start > MAX_BYTES);
                    continue;
                };
                word.with_bytes(|bytes| assert_eq!(bytes, &text[start..end]));
                assert_eq!(Some(word), ShortWord::at(&text[start..end], 0, end - start));
            }
        }
        // A zero at the end is part of the word.
        assert_ne!(ShortWord::at(b"a\0", 0, 1), ShortWord::at(b"a\0", 0, 2));
    }
}
