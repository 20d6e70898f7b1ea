//! Processors that change the logits before temperature: a bias on given tokens, penalties on tokens
//! that were used, and a ban on repeating n-grams; in this order, which is that of `transformers` for
//! the processors that it has.
//!
//! - `logit_bias` is added (OpenAI).
//! - The repetition penalty (Keskar et al. 2019, "CTRL", section 4.1) divides the logit of a token that is
//!   in prompt or text, or multiplies it if it is negative; once, however often the token is there.
//! - `presence_penalty` is subtracted once and `frequency_penalty` for each time that the token was
//!   generated; the prompt does not count (OpenAI).
//! - No n-gram of prompt and text comes twice: tokens that would complete one are banned.

use std::collections::BTreeMap;

use super::params::SamplingParams;

/// The logit of a banned token. Finite, since what is not finite means a broken model.
pub(crate) const BANNED: f32 = f32::MIN;

/// The processors with what they need to know of the tokens so far.
#[derive(Debug)]
pub(crate) struct LogitsProcessors {
    bias: Vec<(u32, f32)>,
    repetition_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    no_repeat_ngram_size: usize,
    /// Each token of prompt and text once.
    seen: Vec<u32>,
    is_seen: Vec<bool>,
    /// How often each token was generated.
    counts: BTreeMap<u32, u32>,
    /// Prompt and text, for n-grams only.
    text: Vec<u32>,
    /// The changed logits; reused.
    scores: Vec<f32>,
}

impl LogitsProcessors {
    /// Before any text.
    pub(crate) fn new(params: &SamplingParams) -> Self {
        Self {
            bias: params.logit_bias.clone(),
            repetition_penalty: params.repetition_penalty as f32,
            presence_penalty: params.presence_penalty as f32,
            frequency_penalty: params.frequency_penalty as f32,
            no_repeat_ngram_size: params.no_repeat_ngram_size,
            seen: Vec::new(),
            is_seen: Vec::new(),
            counts: BTreeMap::new(),
            text: Vec::new(),
            scores: Vec::new(),
        }
    }

    /// Takes the prompt.
    pub(crate) fn observe_prompt(&mut self, prompt: &[u32]) {
        self.mark_seen(prompt);
        if self.no_repeat_ngram_size > 0 {
            self.text.extend_from_slice(prompt);
        }
    }

    /// Takes a token that was generated.
    pub(crate) fn observe(&mut self, id: u32) {
        self.mark_seen(&[id]);
        if self.has_counts() {
            *self.counts.entry(id).or_default() += 1;
        }
        if self.no_repeat_ngram_size > 0 {
            self.text.push(id);
        }
    }

    fn mark_seen(&mut self, ids: &[u32]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        for &id in ids {
            let place = id as usize;
            if self.is_seen.len() <= place {
                self.is_seen.resize(place + 1, false);
            }
            if !std::mem::replace(&mut self.is_seen[place], true) {
                self.seen.push(id);
            }
        }
    }

    fn has_counts(&self) -> bool {
        self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// Whether the logits stay as they are now.
    fn is_idle(&self) -> bool {
        self.bias.is_empty()
            && self.seen.is_empty()
            && self.counts.is_empty()
            && self.text.is_empty()
    }

    /// The logits with all changes, and whether some are [`BANNED`].
    pub(crate) fn apply<'a>(&'a mut self, logits: &'a [f32]) -> (&'a [f32], bool) {
        if self.is_idle() {
            return (logits, false);
        }
        let mut scores = std::mem::take(&mut self.scores);
        scores.clear();
        scores.extend_from_slice(logits);
        let change = |scores: &mut [f32], id: u32, new: &dyn Fn(f32) -> f32| {
            if let Some(score) = scores.get_mut(id as usize) {
                *score = new(*score);
            }
        };
        for &(id, bias) in &self.bias {
            change(&mut scores, id, &|score| score + bias);
        }
        let penalty = self.repetition_penalty;
        for &id in &self.seen {
            change(&mut scores, id, &|score| {
                if score < 0.0 { score * penalty } else { score / penalty }
            });
        }
        for (&id, &count) in &self.counts {
            let loss = self.presence_penalty + self.frequency_penalty * count as f32;
            change(&mut scores, id, &|score| score - loss);
        }
        let mut has_banned = false;
        for id in self.repeats() {
            has_banned = true;
            change(&mut scores, id, &|_| BANNED);
        }
        self.scores = scores;
        (&self.scores, has_banned)
    }

    /// What followed the last n - 1 tokens wherever they stood before: each would complete an n-gram
    /// that is there already.
    fn repeats(&self) -> impl Iterator<Item = u32> {
        let n = self.no_repeat_ngram_size;
        let end = self.text.len().checked_sub(n.saturating_sub(1)).map(|at| &self.text[at..]);
        // Of no size there is no window; without an end nothing can repeat.
        let ngrams = self.text.windows(n.max(1)).filter(move |_| n > 0);
        ngrams.filter(move |ngram| Some(&ngram[..n - 1]) == end).map(move |ngram| ngram[n - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(params: &SamplingParams, prompt: &[u32], made: &[u32]) -> Vec<f32> {
        let mut processors = LogitsProcessors::new(params);
        processors.observe_prompt(prompt);
        made.iter().for_each(|id| processors.observe(*id));
        processors.apply(&[1.0, -1.0, 2.0, 0.5]).0.to_vec()
    }

    #[test]
    fn penalties_follow_openais_formula_and_spare_the_prompt() {
        let params = SamplingParams {
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            ..SamplingParams::unfiltered()
        };
        // mu[j] - c[j] * frequency - (c[j] > 0) * presence, c over generated tokens.
        assert_eq!(scores(&params, &[0, 0, 3], &[1, 2, 1]), [1.0, -2.0, 1.25, 0.5]);
        assert_eq!(scores(&params, &[0, 1, 2, 3], &[]), [1.0, -1.0, 2.0, 0.5]);
        let reward = SamplingParams { presence_penalty: -1.0, ..SamplingParams::unfiltered() };
        assert_eq!(scores(&reward, &[], &[1, 1]), [1.0, 0.0, 2.0, 0.5]);
    }

    #[test]
    fn a_bias_comes_before_the_repetition_penalty() {
        let params = SamplingParams {
            logit_bias: vec![(1, 3.0), (99, 5.0)],
            repetition_penalty: 2.0,
            ..SamplingParams::unfiltered()
        };
        assert_eq!(scores(&params, &[1, 2], &[]), [1.0, 1.0, 1.0, 0.5]);
    }

    #[test]
    fn tokens_that_would_repeat_an_ngram_are_banned() {
        let with = |n, prompt: &[u32], made: &[u32]| {
            let params = SamplingParams { no_repeat_ngram_size: n, ..SamplingParams::unfiltered() };
            let scores = scores(&params, prompt, made);
            (0..4).filter(|id| scores[*id] == BANNED).collect::<Vec<usize>>()
        };
        assert_eq!(with(2, &[0, 1, 0], &[2, 0]), [1, 2]);
        assert_eq!(with(3, &[0, 1, 2], &[0, 1]), [2]);
        assert_eq!(with(1, &[3], &[0, 0]), [0, 3]);
        // Too short to repeat anything, and a token beyond the vocabulary in use.
        assert_eq!(with(4, &[0, 0], &[]), [0usize; 0]);
        assert_eq!(with(2, &[0, 7, 0], &[]), [0usize; 0]);
    }
}
