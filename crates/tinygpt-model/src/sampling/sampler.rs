//! From logits to a token: the processors of `transformers` in its order (bias, penalties and banned
//! n-grams, temperature, top-k, top-p, min-p), and a draw that depends on (seed, sample, position) alone.
//!
//! Rows of a padded vocabulary are masked. `processors.rs` changes logits, `candidates.rs` selects
//! the tokens to draw from; [`crate::Engine`] decides when to stop.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tinygpt_kernels::softmax::{self, RUN};

use super::candidates::{Candidates, sum, sum_of_run};
use super::params::SamplingParams;
use super::processors::{BANNED, LogitsProcessors};
use crate::error::{ModelError, Result};
use crate::rng;

/// Chooses the tokens of one sample.
#[derive(Debug)]
pub struct Sampler {
    params: SamplingParams,
    rng: ChaCha8Rng,
    processors: LogitsProcessors,
    candidates: Candidates,
    /// The largest score of each run; reused.
    maxima: Vec<f32>,
}

/// What the parameters leave to choose from.
enum Choices {
    /// Every token is banned.
    Nothing,
    /// At temperature 0, the most likely token.
    Only(u32),
    /// Any token of the candidates.
    Candidates,
}

/// The logits of tokens that the tokenizer knows.
fn used<'l>(params: &SamplingParams, logits: &'l [f32]) -> &'l [f32] {
    params.vocab_size.and_then(|n| logits.get(..n)).unwrap_or(logits)
}

impl Sampler {
    /// A sampler for sample number `sample_idx`.
    pub fn new(params: &SamplingParams, sample_idx: u64) -> Self {
        let mut rng = rng::keyed(params.seed, "sample");
        rng.set_stream(sample_idx);
        Self {
            params: params.clone(),
            rng,
            processors: LogitsProcessors::new(params),
            candidates: Candidates::default(),
            maxima: Vec::new(),
        }
    }

    /// How it chooses.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Takes the prompt. Only penalties and the ban on n-grams need to know it.
    pub fn observe_prompt(&mut self, prompt: &[u32]) {
        self.processors.observe_prompt(prompt);
    }

    /// Takes a token that was chosen, for the same reason.
    pub fn observe(&mut self, id: u32) {
        self.processors.observe(id);
    }

    /// The token at `position`, counted from the first new one; `None` if every token is banned.
    ///
    /// # Shapes
    /// `logits` `[V]`.
    ///
    /// # Errors
    /// [`ModelError::NonFinite`] if a logit is infinite or not a number.
    pub fn choose(&mut self, logits: &[f32], position: u64) -> Result<Option<u32>> {
        Ok(match self.process(logits)? {
            Choices::Nothing => None,
            Choices::Only(id) => Some(id),
            Choices::Candidates => Some(self.draw(position)),
        })
    }

    /// The tokens that [`Sampler::choose`] draws from, in rising order, with their probabilities.
    ///
    /// # Errors
    /// As [`Sampler::choose`].
    pub fn probabilities(&mut self, logits: &[f32]) -> Result<Vec<(u32, f32)>> {
        match self.process(logits)? {
            Choices::Nothing => return Ok(Vec::new()),
            Choices::Only(id) => return Ok(vec![(id, 1.0)]),
            Choices::Candidates => {}
        }
        let total = sum(self.candidates.weights());
        let share = |weight: f32| (f64::from(weight) / total) as f32;
        Ok(self.candidates.entries().map(|(id, weight)| (id, share(weight))).collect())
    }

    /// The logits of tokens that the tokenizer knows.
    pub(crate) fn used<'l>(&self, logits: &'l [f32]) -> &'l [f32] {
        used(&self.params, logits)
    }

    /// Fills the candidates, unless there is nothing to draw.
    fn process(&mut self, logits: &[f32]) -> Result<Choices> {
        let (scores, has_banned) = self.processors.apply(used(&self.params, logits));
        self.maxima.resize(scores.len().div_ceil(RUN), 0.0);
        let finite = softmax::survey(scores, &mut self.maxima);
        let (Some((run, max)), true) = (largest_of(&self.maxima), finite) else {
            return Err(ModelError::NonFinite { what: "a logit".to_owned() });
        };
        if has_banned && max == BANNED {
            return Ok(Choices::Nothing);
        }
        if self.params.temperature as f32 == 0.0 {
            let of_run = scores[run * RUN..].iter().position(|score| *score == max);
            return Ok(Choices::Only((run * RUN + of_run.unwrap_or_default()) as u32));
        }
        self.candidates.fill(scores, (&self.maxima, max), &self.params);
        if has_banned {
            self.candidates.retain(|id| scores[id as usize] != BANNED);
        }
        Ok(Choices::Candidates)
    }

    /// Draws from the candidates with the probabilities of its weights.
    fn draw(&mut self, position: u64) -> u32 {
        self.rng.set_word_pos(2 * u128::from(position));
        let uniform: f64 = self.rng.random();
        let weights = self.candidates.weights();
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
                return self.candidates.id(place);
            }
        }
        // Rounding may leave a rest after the last one: then it is that one.
        self.candidates.id(weights.len() - 1)
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

    fn params(temperature: f64, top_k: usize, vocab_size: usize) -> SamplingParams {
        let vocab_size = Some(vocab_size);
        SamplingParams { temperature, top_k, seed: 5, vocab_size, ..SamplingParams::unfiltered() }
    }

    #[test]
    fn greedy_takes_the_first_largest_and_never_padding() {
        let logits = [0.5, 2.0, 2.0, 9.0];
        assert_eq!(Sampler::new(&params(0.0, 0, 3), 0).choose(&logits, 0).unwrap(), Some(1));
        assert_eq!(Sampler::new(&params(0.0, 1, 4), 0).choose(&logits, 0).unwrap(), Some(3));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let (logits, temperature) = ([1.0f32, 0.0, 2.0, -1.0], 0.7f32);
        let params = params(f64::from(temperature), 0, 4);
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
        let params = params(1.0, 20, 50);
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
            let error = Sampler::new(&params(1.0, 0, 2), 0).choose(&[0.0, bad], 0);
            assert!(matches!(error, Err(ModelError::NonFinite { .. })));
        }
        assert!(Sampler::new(&params(1.0, 0, 1), 0).choose(&[], 0).is_err());
    }

    #[test]
    fn banned_tokens_are_never_drawn_and_nothing_is_if_all_are_banned() {
        let logits: Vec<f32> = (0..9).map(|i| i as f32 * 0.3).collect();
        for (temperature, top_k, top_p) in
            [(0.0, 0, 1.0), (1.0, 0, 1.0), (50.0, 8, 1.0), (2.0, 3, 0.5)]
        {
            let params =
                SamplingParams { top_p, no_repeat_ngram_size: 1, ..params(temperature, top_k, 9) };
            let mut sampler = Sampler::new(&params, 0);
            sampler.observe_prompt(&[8, 2]);
            let mut made = std::collections::BTreeSet::from([8, 2]);
            for position in 0..7 {
                let shares = sampler.probabilities(&logits).unwrap();
                assert!(shares.iter().all(|(id, _)| !made.contains(id)), "{shares:?}");
                let id = sampler.choose(&logits, position).unwrap().unwrap();
                assert!(made.insert(id), "{id} of {made:?}");
                sampler.observe(id);
            }
            assert_eq!(sampler.choose(&logits, 7).unwrap(), None);
            assert!(sampler.probabilities(&logits).unwrap().is_empty());
        }
    }

    /// Sorts everything and draws by one running sum.
    fn naive(logits: &[f32], params: &SamplingParams, sample_idx: u64, position: u64) -> usize {
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        ids.sort_by(|a, b| logits[*b].partial_cmp(&logits[*a]).unwrap().then(a.cmp(b)));
        let k = params.top_k;
        if (1..ids.len()).contains(&k) {
            let bar = logits[ids[k - 1]];
            ids.retain(|id| logits[*id] >= bar);
        }
        let max = logits[ids[0]];
        let weight = |id: &usize| (f64::from(logits[*id] - max) / params.temperature).exp();
        let wanted = params.top_p * ids.iter().map(weight).sum::<f64>();
        let mut above = 0.0;
        ids.retain(|id| {
            let is_in = above < wanted;
            above += weight(id);
            is_in
        });
        ids.retain(|id| weight(id) >= f64::from(params.min_p as f32));
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
            for (top_k, top_p) in [(k, 1.0), (0, 1.0), (0, top_p), (k, top_p)] {
                let params = SamplingParams {
                    top_p: f64::from(top_p),
                    min_p: 0.013 * (position % 3) as f64,
                    ..params(f64::from(temperature), top_k, logits.len())
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
            let params = params(2.0, k, logits.len());
            let id = Sampler::new(&params, 0).choose(&logits, position).unwrap().unwrap() as usize;
            prop_assert!(logits.iter().filter(|z| **z > logits[id]).count() < k);
        }
    }
}
