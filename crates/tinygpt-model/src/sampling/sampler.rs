//! From logits to a token: the processors of `transformers` in its order (bias, penalties and banned
//! n-grams, temperature, top-k, top-p, min-p), and a draw that depends on (seed, sample, position) alone.
//!
//! Rows of a padded vocabulary are masked. What changes logits is `adjust.rs`, which tokens may be drawn
//! `shortlist.rs`; when to stop is [`crate::Engine`]'s business.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use tinygpt_kernels::softmax::{self, RUN};

use super::adjust::{Adjustments, BANNED};
use super::candidates::{Shortlist, sum, sum_of_run};
use crate::error::{ModelError, Result};
use crate::rng;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 always takes the largest.
    pub temperature: f32,
    /// Only the `k` largest logits take part, and what equals the last of them; `None` for all.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens take part, as many as it needs to hold this share of all
    /// probability, and at least one; 1 for all.
    pub top_p: f32,
    /// Only tokens at least this times as likely as the likeliest take part; 0 for all.
    pub min_p: f32,
    /// What stands in the text already has its logit divided by this, or multiplied where it is
    /// negative; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of each token that was generated already; 0 changes nothing.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit for each time that it was generated; 0 changes nothing.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// No sequence of this many tokens comes twice in prompt and text; 0 allows all.
    pub no_repeat_ngram_size: usize,
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
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            no_repeat_ngram_size: 0,
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
        for (name, share) in [("top_p", self.top_p), ("min_p", self.min_p)] {
            if !(0.0..=1.0).contains(&share) {
                faults.push(format!("{name} is {share}, expected 0 to 1"));
            }
        }
        let penalty = self.repetition_penalty;
        if !(penalty.is_finite() && penalty > 0.0) {
            faults.push(format!("repetition_penalty is {penalty}, expected more than 0"));
        }
        for (name, penalty) in [
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ] {
            if !penalty.is_finite() {
                faults.push(format!("{name} is {penalty}, expected a finite number"));
            }
        }
        if let Some((id, bias)) = self.logit_bias.iter().find(|(_, bias)| !bias.is_finite()) {
            faults.push(format!("logit_bias of token {id} is {bias}, expected a finite number"));
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
    adjustments: Adjustments,
    shortlist: Shortlist,
    /// The largest score of each run; reused.
    maxima: Vec<f32>,
}

/// What the settings leave of the logits.
enum Shape {
    /// Every token is banned.
    Nothing,
    /// At temperature 0, the most likely token.
    Only(u32),
    /// Any token of the short list.
    Shortlist,
}

/// The logits of tokens that the tokenizer knows.
fn used<'l>(params: &SamplingParams, logits: &'l [f32]) -> &'l [f32] {
    logits.get(..params.vocab_used).unwrap_or(logits)
}

impl Sampler {
    /// A sampler for sample number `sample_idx`.
    pub fn new(params: &SamplingParams, sample_idx: u64) -> Self {
        let mut rng = rng::keyed(params.seed, "sample");
        rng.set_stream(sample_idx);
        Self {
            params: params.clone(),
            rng,
            adjustments: Adjustments::new(params),
            shortlist: Shortlist::default(),
            maxima: Vec::new(),
        }
    }

    /// How it chooses.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Takes the prompt. Only penalties and the ban on n-grams need to know it.
    pub fn see_prompt(&mut self, prompt: &[u32]) {
        self.adjustments.see_prompt(prompt);
    }

    /// Takes a token that was chosen, for the same reason.
    pub fn see(&mut self, id: u32) {
        self.adjustments.see(id);
    }

    /// The token at `position`, counted from the first new one; `None` if every token is banned.
    ///
    /// # Shapes
    /// `logits` `[V]`.
    ///
    /// # Errors
    /// [`ModelError::NonFinite`] if a logit is infinite or not a number.
    pub fn choose(&mut self, logits: &[f32], position: u64) -> Result<Option<u32>> {
        Ok(match self.shape(logits)? {
            Shape::Nothing => None,
            Shape::Only(id) => Some(id),
            Shape::Shortlist => Some(self.draw(position)),
        })
    }

    /// The tokens that [`Sampler::choose`] draws from, in rising order, with their probabilities.
    ///
    /// # Errors
    /// As [`Sampler::choose`].
    pub fn probabilities(&mut self, logits: &[f32]) -> Result<Vec<(u32, f32)>> {
        match self.shape(logits)? {
            Shape::Nothing => return Ok(Vec::new()),
            Shape::Only(id) => return Ok(vec![(id, 1.0)]),
            Shape::Shortlist => {}
        }
        let total = sum(self.shortlist.weights());
        let share = |weight: f32| (f64::from(weight) / total) as f32;
        Ok(self.shortlist.entries().map(|(id, weight)| (id, share(weight))).collect())
    }

    /// The logits of tokens that the tokenizer knows.
    pub(crate) fn used<'l>(&self, logits: &'l [f32]) -> &'l [f32] {
        used(&self.params, logits)
    }

    /// Fills the short list, unless there is nothing to draw.
    fn shape(&mut self, logits: &[f32]) -> Result<Shape> {
        let (scores, has_banned) = self.adjustments.apply(used(&self.params, logits));
        self.maxima.resize(scores.len().div_ceil(RUN), 0.0);
        let finite = softmax::survey(scores, &mut self.maxima);
        let (Some((run, max)), true) = (largest_of(&self.maxima), finite) else {
            return Err(ModelError::NonFinite { what: "a logit".to_owned() });
        };
        if has_banned && max == BANNED {
            return Ok(Shape::Nothing);
        }
        if self.params.temperature == 0.0 {
            let of_run = scores[run * RUN..].iter().position(|score| *score == max);
            return Ok(Shape::Only((run * RUN + of_run.unwrap_or_default()) as u32));
        }
        self.shortlist.fill(scores, (&self.maxima, max), &self.params);
        if has_banned {
            self.shortlist.retain(|id| scores[id as usize] != BANNED);
        }
        Ok(Shape::Shortlist)
    }

    /// Draws from the short list with the probabilities of its weights.
    fn draw(&mut self, position: u64) -> u32 {
        self.rng.set_word_pos(2 * u128::from(position));
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let weights = self.shortlist.weights();
        let mut left = uniform * sum(weights);
        let mut start = 0;
        while start + RUN < weights.len() {
            let of_run = sum_of_run(&weights[start..start + RUN]);
            if left < of_run {
                break;
            }
            left -= of_run;
            start += RUN;
        }
        for (place, weight) in weights.iter().enumerate().skip(start) {
            left -= f64::from(*weight);
            if left < 0.0 {
                return self.shortlist.id(place);
            }
        }
        // Rounding may leave a rest after the last one: then it is that one.
        self.shortlist.id(weights.len() - 1)
    }
}

/// The first of the largest values, with its place.
fn largest_of(values: &[f32]) -> Option<(usize, f32)> {
    let places = values.iter().copied().enumerate();
    places.reduce(|best, next| if next.1 > best.1 { next } else { best })
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
        assert_eq!(Sampler::new(&params(0.0, None, 3), 0).choose(&logits, 0).unwrap(), Some(1));
        assert_eq!(Sampler::new(&params(0.0, Some(1), 4), 0).choose(&logits, 0).unwrap(), Some(3));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let (logits, temperature) = ([1.0f32, 0.0, 2.0, -1.0], 0.7f32);
        let params = params(temperature, None, 4);
        let mut sampler = Sampler::new(&params, 3);
        let mut counts = [0u32; 4];
        let n = 40_000;
        for position in 0..n {
            counts[sampler.choose(&logits, position).unwrap().unwrap() as usize] += 1;
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
            positions.iter().map(|p| sampler.choose(&logits, *p).unwrap().unwrap()).collect()
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
        let bad = SamplingParams {
            top_p: 1.5,
            min_p: f32::NAN,
            repetition_penalty: 0.0,
            presence_penalty: f32::NAN,
            frequency_penalty: f32::INFINITY,
            logit_bias: vec![(3, f32::NAN)],
            ..params(-1.0, Some(0), 9)
        };
        let message = bad.validate(8).unwrap_err().to_string();
        for part in [
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
            "logit_bias of token 3",
            "vocab_size of 8",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert!(params(f32::NAN, None, 8).validate(8).is_err());
    }

    #[test]
    fn banned_tokens_are_never_drawn_and_nothing_is_if_all_are_banned() {
        let logits: Vec<f32> = (0..9).map(|i| i as f32 * 0.3).collect();
        for (temperature, top_k, top_p) in
            [(0.0, None, 1.0), (1.0, None, 1.0), (50.0, Some(8), 1.0), (2.0, Some(3), 0.5)]
        {
            let params =
                SamplingParams { top_p, no_repeat_ngram_size: 1, ..params(temperature, top_k, 9) };
            let mut sampler = Sampler::new(&params, 0);
            sampler.see_prompt(&[8, 2]);
            let mut made = std::collections::BTreeSet::from([8, 2]);
            for position in 0..7 {
                let shares = sampler.probabilities(&logits).unwrap();
                assert!(shares.iter().all(|(id, _)| !made.contains(id)), "{shares:?}");
                let id = sampler.choose(&logits, position).unwrap().unwrap();
                assert!(made.insert(id), "{id} of {made:?}");
                sampler.see(id);
            }
            assert_eq!(sampler.choose(&logits, 7).unwrap(), None);
            assert!(sampler.probabilities(&logits).unwrap().is_empty());
        }
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
        let weight =
            |id: &usize| (f64::from(logits[*id] - max) / f64::from(params.temperature)).exp();
        let wanted = f64::from(params.top_p) * ids.iter().map(weight).sum::<f64>();
        let mut above = 0.0;
        ids.retain(|id| {
            let is_in = above < wanted;
            above += weight(id);
            is_in
        });
        ids.retain(|id| weight(id) >= f64::from(params.min_p));
        ids.sort_unstable();
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
            top_p in 0.01f32..1.0,
        ) {
            // Few distinct values: many ties.
            let logits: Vec<f32> = logits.into_iter().map(|z| f32::from(z) / 8.0).collect();
            for (top_k, top_p) in [(Some(k), 1.0), (None, 1.0), (None, top_p), (Some(k), top_p)] {
                let params = SamplingParams {
                    top_p,
                    min_p: 0.013 * (position % 3) as f32,
                    ..params(temperature, top_k, logits.len())
                };
                let id = Sampler::new(&params, 3).choose(&logits, position).unwrap().unwrap();
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
            let id = Sampler::new(&params, 0).choose(&logits, position).unwrap().unwrap() as usize;
            prop_assert!(logits.iter().filter(|z| **z > logits[id]).count() < k);
        }
    }
}
