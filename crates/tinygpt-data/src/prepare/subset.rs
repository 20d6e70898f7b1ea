//! `data_percentage`: which documents belong to a seeded part of a dataset.
//!
//! Each document is decided on its own, from the seed and the document's position,
//! so the tokenizer and the shards use the same subset without a stored list, and a
//! larger percentage always contains a smaller one.

use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use crate::error::DataError;
use crate::random;

/// A seeded choice of a percentage of all documents.
pub(crate) struct Subset {
    generator: ChaCha8Rng,
    threshold: u64,
}

impl Subset {
    /// A subset of `percentage` percent, `0 < percentage ≤ 100`.
    pub(crate) fn new(percentage: f64, seed: u64) -> Result<Self, DataError> {
        Self::for_purpose("subset", percentage, seed)
    }

    /// The same with a choice that is independent of those for other purposes.
    pub(crate) fn for_purpose(
        purpose: &'static str,
        percentage: f64,
        seed: u64,
    ) -> Result<Self, DataError> {
        if !(percentage > 0.0 && percentage <= 100.0) {
            return Err(DataError::usage(
                format!("data_percentage is {percentage}"),
                "give a number above 0 and at most 100",
            ));
        }
        // Float to integer casts saturate: 100 % is `u64::MAX`, and `keep` is true for all.
        let threshold = (percentage / 100.0 * 2f64.powi(64)) as u64;
        Ok(Self { generator: random::generator(seed, purpose), threshold })
    }

    /// Whether document `document_idx`, counted from 0, belongs to the subset.
    pub(crate) fn keep(&mut self, document_idx: u64) -> bool {
        // One draw is two 32-bit words of the generator.
        self.generator.set_word_pos(u128::from(document_idx) * 2);
        self.threshold == u64::MAX || self.generator.next_u64() < self.threshold
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn kept(percentage: f64, seed: u64) -> Vec<u64> {
        let mut subset = Subset::new(percentage, seed).unwrap();
        (0..10_000).filter(|&document_idx| subset.keep(document_idx)).collect()
    }

    #[test]
    fn keeps_about_the_percentage_and_grows_with_it() {
        let (ten, thirty) = (kept(10.0, 1), kept(30.0, 1));
        assert!((900..1100).contains(&ten.len()), "{}", ten.len());
        assert!((2800..3200).contains(&thirty.len()), "{}", thirty.len());
        assert!(ten.iter().all(|document_idx| thirty.contains(document_idx)));
        assert_ne!(ten, kept(10.0, 2));
        assert_eq!(kept(100.0, 1).len(), 10_000);
    }

    #[test]
    fn refuses_numbers_that_are_not_percentages() {
        for percentage in [0.0, -1.0, 100.1, f64::NAN, f64::INFINITY] {
            assert!(Subset::new(percentage, 0).is_err(), "{percentage}");
        }
    }
}
