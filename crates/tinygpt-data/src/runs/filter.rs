//! Finds the places of a stream that are worth a closer look: where it may have a run of the samples.
//!
//! A long run consists of n-grams that are all in the samples. A set of the samples' n-grams answers in about
//! a nanosecond whether that can be so, because a hash of the last n tokens is cheap to keep up to date (Karp
//! and Rabin 1987). Two n-grams can have one hash, so an answer is "no" or "maybe".

/// The n-grams of some samples.
pub(super) struct Filter {
    n: usize,
    /// One bit for each value of a hash.
    bits: Vec<u64>,
    /// What a token that is n tokens back has been multiplied with.
    oldest: u64,
}

/// An odd multiplier.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bits of the set for each n-gram: of the n-grams that are not in the samples, one in this many passes.
const BITS_EACH: usize = 64;

impl Filter {
    /// The n-grams of `samples`; `n` is at least 1.
    pub(super) fn new<'s>(samples: impl Iterator<Item = &'s Vec<u32>> + Clone, n: usize) -> Self {
        let n_grams: usize = samples.clone().map(|sample| sample.windows(n).count()).sum();
        let n_bits = (BITS_EACH * n_grams).next_power_of_two().max(64);
        let oldest = (0..n).fold(1_u64, |power, _| power.wrapping_mul(BASE));
        let mut filter = Self { n, bits: vec![0; n_bits / 64], oldest };
        for sample in samples {
            let mut hash = 0;
            for (place, &id) in sample.iter().enumerate() {
                hash = filter.add(hash, id, place.checked_sub(n).map(|oldest| sample[oldest]));
                if place + 1 >= n {
                    let bit = filter.bit(hash);
                    filter.bits[bit / 64] |= 1 << (bit % 64);
                }
            }
        }
        filter
    }

    pub(super) fn n(&self) -> usize {
        self.n
    }

    /// The hash of the last n tokens, from that of the n before: with `id`, without `oldest`.
    #[inline]
    pub(super) fn add(&self, hash: u64, id: u32, oldest: Option<u32>) -> u64 {
        // One more than the token, so that zeros count.
        let term = |id: u32| u64::from(id) + 1;
        let out = oldest.map_or(0, |id| term(id).wrapping_mul(self.oldest));
        hash.wrapping_mul(BASE).wrapping_add(term(id)).wrapping_sub(out)
    }

    /// Whether an n-gram with this hash may be in the samples.
    #[inline]
    pub(super) fn has(&self, hash: u64) -> bool {
        let bit = self.bit(hash);
        self.bits[bit / 64] >> (bit % 64) & 1 == 1
    }

    #[inline]
    fn bit(&self, hash: u64) -> usize {
        // The high bits depend on all tokens.
        (hash.wrapping_mul(BASE) >> 20) as usize & (self.bits.len() * 64 - 1)
    }
}
