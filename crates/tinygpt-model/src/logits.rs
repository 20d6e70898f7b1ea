//! From logits to a token: temperature, top-k, and a draw that depends on (seed, sample, position)
//! alone.
//!
//! Rows of a padded vocabulary are masked. The vocabulary is never sorted as a whole. When to stop
//! is [`crate::generate`]'s business.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use crate::error::{ModelError, Result};
use crate::rng;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 always takes the largest.
    pub temperature: f32,
    /// Only the `k` largest logits take part; `None` for all.
    pub top_k: Option<usize>,
    /// At most this many tokens are made.
    pub max_new_tokens: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// The token that ends a document; it stops the sample and is not part of it.
    pub eos: Option<u32>,
    /// How many rows of the vocabulary the tokenizer knows; rows above are padding.
    pub vocab_used: usize,
}

impl SamplingParams {
    /// Checks ranges against a model with `vocab_size` rows.
    ///
    /// # Errors
    /// [`ModelError::Config`] with every fault listed.
    pub fn validate(&self, vocab_size: usize) -> Result<()> {
        let mut faults = Vec::new();
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            faults.push(format!("temperature is {}, expected 0 or more", self.temperature));
        }
        if self.top_k == Some(0) {
            faults.push("top_k is 0, expected 1 or more, or null for no limit".to_owned());
        }
        if self.vocab_used == 0 || self.vocab_used > vocab_size {
            faults.push(format!(
                "the tokenizer has {} tokens, expected 1 to the model's vocab_size of {vocab_size}",
                self.vocab_used
            ));
        }
        if faults.is_empty() { Ok(()) } else { Err(ModelError::Config { faults }) }
    }
}

/// Chooses the tokens of one sample.
#[derive(Debug)]
pub struct Sampler<'a> {
    params: &'a SamplingParams,
    rng: ChaCha8Rng,
    /// Reused from token to token: `(logit, id)`.
    candidates: Vec<(f32, u32)>,
}

impl<'a> Sampler<'a> {
    /// A sampler for sample number `sample_idx`.
    pub fn new(params: &'a SamplingParams, sample_idx: u64) -> Self {
        let mut rng = rng::keyed(params.seed, "sample");
        rng.set_stream(sample_idx);
        Self { params, rng, candidates: Vec::new() }
    }

    /// The token at `position`, counted from the first new one.
    ///
    /// # Shapes
    /// `logits` `[V]`.
    ///
    /// # Errors
    /// [`ModelError::NonFinite`] if a logit is infinite or not a number.
    pub fn choose(&mut self, logits: &[f32], position: u64) -> Result<u32> {
        let used = logits.get(..self.params.vocab_used).unwrap_or(logits);
        self.candidates.clear();
        self.candidates.extend((0..).zip(used).map(|(id, logit)| (*logit, id)));
        let largest = self
            .candidates
            .iter()
            .copied()
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        let (Some((max, id)), true) = (largest, used.iter().all(|logit| logit.is_finite())) else {
            return Err(ModelError::NonFinite { what: "a logit".to_owned() });
        };
        if self.params.temperature == 0.0 {
            return Ok(id);
        }
        self.keep_top_k(used);
        Ok(self.draw(max, position))
    }

    /// Leaves the k largest candidates in order of their ids; of equal ones the first are kept.
    fn keep_top_k(&mut self, logits: &[f32]) {
        let Some(k) = self.params.top_k.filter(|k| *k < logits.len()) else { return };
        let larger_first = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let (_, last, _) = self.candidates.select_nth_unstable_by(k - 1, larger_first);
        let last = *last;
        // Walked again in order of ids, so that the result does not depend on how the selection
        // shuffles.
        self.candidates.clear();
        let all = (0..).zip(logits).map(|(id, logit)| (*logit, id));
        self.candidates.extend(all.filter(|candidate| larger_first(candidate, &last).is_le()));
    }

    /// Draws from the softmax of the candidates at the given temperature.
    fn draw(&mut self, max: f32, position: u64) -> u32 {
        let temperature = f64::from(self.params.temperature);
        let weight = |logit: f32| (f64::from(logit - max) / temperature).exp();
        let total: f64 = self.candidates.iter().map(|(logit, _)| weight(*logit)).sum();
        self.rng.set_word_pos(2 * u128::from(position));
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * total;
        let mut chosen = 0;
        for (logit, id) in &self.candidates {
            let weight = weight(*logit);
            // Rounding may leave a rest after the last one: then the last possible one it is.
            if weight > 0.0 {
                chosen = *id;
                left -= weight;
            }
            if left < 0.0 {
                break;
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn params(temperature: f32, top_k: Option<usize>, vocab_used: usize) -> SamplingParams {
        SamplingParams { temperature, top_k, max_new_tokens: 0, seed: 5, eos: None, vocab_used }
    }

    #[test]
    fn greedy_takes_the_first_largest_and_never_padding() {
        let logits = [0.5, 2.0, 2.0, 9.0];
        assert_eq!(Sampler::new(&params(0.0, None, 3), 0).choose(&logits, 0).unwrap(), 1);
        assert_eq!(Sampler::new(&params(0.0, Some(1), 4), 0).choose(&logits, 0).unwrap(), 3);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let (logits, temperature) = ([1.0f32, 0.0, 2.0, -1.0], 0.7f32);
        let params = params(temperature, None, 4);
        let mut sampler = Sampler::new(&params, 3);
        let mut counts = [0u32; 4];
        let n = 40_000;
        for position in 0..n {
            counts[sampler.choose(&logits, position).unwrap() as usize] += 1;
        }
        let weights = logits.map(|z| (z / temperature).exp());
        for (count, weight) in counts.iter().zip(weights) {
            let expected = weight / weights.iter().sum::<f32>();
            let got = *count as f32 / n as f32;
            assert!((got - expected).abs() < 0.01, "{got} {expected}");
        }
    }

    #[test]
    fn a_draw_depends_on_seed_sample_and_position_only() {
        let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.7).sin()).collect();
        let params = params(1.0, Some(20), 50);
        let draw = |sample_idx: u64, positions: &[u64]| -> Vec<u32> {
            let mut sampler = Sampler::new(&params, sample_idx);
            positions.iter().map(|p| sampler.choose(&logits, *p).unwrap()).collect()
        };
        let ordered: Vec<u64> = (0..32).collect();
        let reversed: Vec<u64> = (0..32).rev().collect();
        let mut backwards = draw(1, &reversed);
        backwards.reverse();
        assert_eq!(draw(1, &ordered), backwards);
        assert_ne!(draw(1, &ordered), draw(2, &ordered));
    }

    #[test]
    fn what_is_not_a_number_is_an_error() {
        for bad in [f32::NAN, f32::INFINITY] {
            let error = Sampler::new(&params(1.0, None, 2), 0).choose(&[0.0, bad], 0);
            assert!(matches!(error, Err(ModelError::NonFinite { .. })));
        }
        assert!(Sampler::new(&params(1.0, None, 1), 0).choose(&[], 0).is_err());
    }

    #[test]
    fn bad_settings_are_listed() {
        let message = params(-1.0, Some(0), 9).validate(8).unwrap_err().to_string();
        for part in ["temperature", "top_k", "vocab_size of 8"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(params(f32::NAN, None, 8).validate(8).is_err());
    }

    proptest! {
        #[test]
        fn only_the_k_largest_are_ever_chosen(
            logits in proptest::collection::vec(-5i8..5, 1..40),
            k in 1usize..50,
            position in 0u64..1000,
        ) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let params = params(2.0, Some(k), logits.len());
            let id = Sampler::new(&params, 0).choose(&logits, position).unwrap() as usize;
            let before = logits.iter().enumerate()
                .filter(|(i, z)| **z > logits[id] || (**z == logits[id] && *i < id))
                .count();
            prop_assert!(before < k);
        }
    }
}
