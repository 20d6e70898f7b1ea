//! The random choices of a story: counter-based, the same on every machine.
//!
//! One ChaCha8 stream per (seed, story number). Only 32-bit words are drawn and no float is
//! involved, so a choice depends neither on the width of `usize` nor on a library's way of
//! mapping words to ranges.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What the stream is for: the second part of the key, so that no other use of the same seed
/// sees the same words.
const PURPOSE: &[u8; 24] = b"tiny_tales story choices";

/// The random choices of one story.
pub(crate) struct StoryRng(ChaCha8Rng);

impl StoryRng {
    /// The choices of story number `index` under `seed`.
    pub(super) fn new(seed: u64, index: u64) -> Self {
        Self::with_purpose(PURPOSE, seed, index)
    }

    /// The choices of text number `index` under `seed`, for another generator of texts.
    pub(crate) fn with_purpose(purpose: &[u8; 24], seed: u64, index: u64) -> Self {
        let mut key = [0; 32];
        let (head, tail) = key.split_at_mut(8);
        head.copy_from_slice(&seed.to_le_bytes());
        tail.copy_from_slice(purpose);
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Self(rng)
    }

    /// A number in `0..n`, or 0 if `n` is 0: the high half of a 32 by 32 bit product. The bias is
    /// below `n / 2^32`, nothing for lists of a few dozen words.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        let product = u64::from(self.0.next_u32()) * u64::from(n);
        (product >> 32) as u32
    }

    /// One of `items`; `None` only if there are none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let n = u32::try_from(items.len()).unwrap_or(u32::MAX);
        items.get(self.below(n) as usize)
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_stay_in_range_and_reach_every_face() {
        let mut rng = StoryRng::new(7, 0);
        let mut seen = [0; 6];
        for _ in 0..600 {
            seen[rng.below(6) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| n > 60), "uneven rng: {seen:?}");
        assert_eq!(rng.pick::<u8>(&[]), None);
    }

    #[test]
    fn seed_and_story_number_both_matter() {
        let roll = |seed, index| StoryRng::new(seed, index).below(u32::MAX);
        assert_eq!(roll(1, 2), roll(1, 2));
        assert_ne!(roll(1, 2), roll(1, 3));
        assert_ne!(roll(1, 2), roll(2, 2));
    }
}
