//! From logits to a token: temperature, top-k, and a draw that depends on (seed, sample, position)
//! alone.
//!
//! Rows of a padded vocabulary are masked. The vocabulary is never sorted as a whole. When to stop
//! is [`crate::generate`]'s business.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use tinygpt_kernels::softmax::{self, RUN};

use crate::candidates::{Candidate, keep_top_k};
use crate::error::{ModelError, Result};
use crate::rng;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 always takes the largest.
    pub temperature: f32,
    /// Only the `k` largest logits take part, and what equals the last of them; `None` for all.
    pub top_k: Option<usize>,
    /// At most this many tokens are made.
    pub max_new_tokens: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// The token that ends a document; it stops the sample and is not part of it.
    pub eos: Option<u32>,
    /// How many rows of the vocabulary the tokenizer knows; rows above are padding.
    pub vocab_used: usize,
    /// Whether to tell each token's probability, and those of how many of the likeliest.
    pub logprobs: Option<usize>,
}

impl SamplingParams {
    /// Draws from the model's own probabilities, with seed 0, until the length is reached.
    pub fn new(max_new_tokens: usize, vocab_used: usize) -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            max_new_tokens,
            seed: 0,
            eos: None,
            vocab_used,
            logprobs: None,
        }
    }

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
pub struct Sampler {
    params: SamplingParams,
    rng: ChaCha8Rng,
    /// With top-k, those that take part; reused from token to token.
    candidates: Vec<Candidate>,
    /// Softmax weights of the candidates, or of all tokens; reused.
    weights: Vec<f32>,
    /// The largest logit of each run; reused.
    maxima: Vec<f32>,
}

impl Sampler {
    /// A sampler for sample number `sample_idx`.
    pub fn new(params: &SamplingParams, sample_idx: u64) -> Self {
        let mut rng = rng::keyed(params.seed, "sample");
        rng.set_stream(sample_idx);
        Self {
            params: params.clone(),
            rng,
            candidates: Vec::new(),
            weights: Vec::new(),
            maxima: Vec::new(),
        }
    }

    /// How it chooses.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// The logits of tokens that the tokenizer knows.
    pub(crate) fn used<'l>(&self, logits: &'l [f32]) -> &'l [f32] {
        logits.get(..self.params.vocab_used).unwrap_or(logits)
    }

    /// The token at `position`, counted from the first new one.
    ///
    /// # Shapes
    /// `logits` `[V]`.
    ///
    /// # Errors
    /// [`ModelError::NonFinite`] if a logit is infinite or not a number.
    pub fn choose(&mut self, logits: &[f32], position: u64) -> Result<u32> {
        let used = self.used(logits);
        self.maxima.resize(used.len().div_ceil(RUN), 0.0);
        let finite = softmax::survey(used, &mut self.maxima);
        let largest = largest_of(&self.maxima);
        let (Some((run, max)), true) = (largest, finite) else {
            return Err(ModelError::NonFinite { what: "a logit".to_owned() });
        };
        if self.params.temperature == 0.0 {
            let of_run = used[run * RUN..].iter().position(|logit| *logit == max);
            return Ok((run * RUN + of_run.unwrap_or_default()) as u32);
        }
        self.weights.clear();
        let k = self.params.top_k.filter(|k| *k < used.len());
        if let Some(k) = k {
            keep_top_k(used, &self.maxima, k, &mut self.candidates);
            self.weights.extend(self.candidates.iter().map(|candidate| candidate.logit));
        } else {
            self.weights.extend_from_slice(used);
        }
        softmax::weigh(&mut self.weights, max, self.params.temperature);
        let drawn = self.draw(position);
        Ok(if k.is_some() { self.candidates[drawn].id } else { drawn as u32 })
    }

    /// Draws an index with the probabilities of the weights.
    fn draw(&mut self, position: u64) -> usize {
        self.rng.set_word_pos(2 * u128::from(position));
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * sum_of_runs(&self.weights);
        let mut start = 0;
        while start + RUN < self.weights.len() {
            let of_run = sum(&self.weights[start..start + RUN]);
            if left < of_run {
                break;
            }
            left -= of_run;
            start += RUN;
        }
        for drawn in start..self.weights.len() {
            left -= f64::from(self.weights[drawn]);
            if left < 0.0 {
                return drawn;
            }
        }
        // Rounding may leave a rest after the last one: then it is that one.
        self.weights.len() - 1
    }
}

/// The first of the largest values, with its place.
fn largest_of(values: &[f32]) -> Option<(usize, f32)> {
    let places = values.iter().copied().enumerate();
    places.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// The sum of all weights.
pub(crate) fn sum_of_runs(weights: &[f32]) -> f64 {
    weights.chunks(RUN).map(sum).sum()
}

fn sum(weights: &[f32]) -> f64 {
    let mut sums = [0.0; 4];
    for weights in weights.chunks(4) {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += f64::from(*weight);
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn params(temperature: f32, top_k: Option<usize>, vocab_used: usize) -> SamplingParams {
        SamplingParams { temperature, top_k, seed: 5, ..SamplingParams::new(0, vocab_used) }
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

    /// Sorts everything and draws by one running sum.
    fn naive(logits: &[f32], params: &SamplingParams, sample_idx: u64, position: u64) -> usize {
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        ids.sort_by(|a, b| logits[*b].partial_cmp(&logits[*a]).unwrap().then(a.cmp(b)));
        if let Some(k) = params.top_k.filter(|k| *k < ids.len()) {
            let bar = logits[ids[k - 1]];
            ids.retain(|id| logits[*id] >= bar);
        }
        let max = logits[ids[0]];
        ids.sort_unstable();
        let weight =
            |id: &usize| (f64::from(logits[*id] - max) / f64::from(params.temperature)).exp();
        let mut rng = rng::keyed(params.seed, "sample");
        rng.set_stream(sample_idx);
        rng.set_word_pos(2 * u128::from(position));
        let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = uniform * ids.iter().map(weight).sum::<f64>();
        for id in &ids {
            left -= weight(id);
            if left < 0.0 {
                return *id;
            }
        }
        ids[ids.len() - 1]
    }

    proptest! {
        #[test]
        fn chooses_what_a_sorted_vocabulary_would(
            logits in proptest::collection::vec(-40i16..40, 1..700),
            k in 1usize..300,
            temperature in 0.1f32..3.0,
            position in 0u64..50,
        ) {
            // Few distinct values: many ties.
            let logits: Vec<f32> = logits.into_iter().map(|z| f32::from(z) / 8.0).collect();
            for top_k in [Some(k), None] {
                let params = params(temperature, top_k, logits.len());
                let id = Sampler::new(&params, 3).choose(&logits, position).unwrap();
                prop_assert_eq!(id as usize, naive(&logits, &params, 3, position));
            }
        }

        #[test]
        fn what_is_chosen_has_fewer_than_k_above_it(
            logits in proptest::collection::vec(-5i8..5, 1..40),
            k in 1usize..50,
            position in 0u64..1000,
        ) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let params = params(2.0, Some(k), logits.len());
            let id = Sampler::new(&params, 0).choose(&logits, position).unwrap() as usize;
            prop_assert!(logits.iter().filter(|z| **z > logits[id]).count() < k);
        }
    }
}
