//! The candidates of a draw and their weights: temperature, then top-k, top-p and min-p, with the
//! definitions and in the order of `transformers`.
//!
//! The vocabulary is never sorted as a whole: top-k keeps a rising threshold and collects the logits
//! above it; top-p drops the tail that cannot matter and sorts only as many of the best as hold the
//! requested probability.

use std::cmp::Ordering;

use tinygpt_kernels::softmax::{self, RUN};

use super::params::SamplingParams;

/// A token with its logit or its weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) score: f32,
    pub(crate) id: u32,
}

impl Candidate {
    /// The larger score first, of equal ones the smaller id.
    pub(crate) fn best_first(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.id.cmp(&other.id))
    }
}

/// The tokens that may be drawn; its memory is reused from token to token.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// In rising order; `None` stands for the whole vocabulary.
    ids: Option<Vec<u32>>,
    /// Softmax weights, of which the largest is 1.
    weights: Vec<f32>,
    found: Vec<Candidate>,
}

impl Candidates {
    /// Fills the list from finite `scores` `[V]`, of which `maxima` has the largest of each [`RUN`]
    /// and `max` the largest of all. The temperature is not 0.
    pub(crate) fn fill(
        &mut self,
        scores: &[f32],
        (maxima, max): (&[f32], f32),
        params: &SamplingParams,
    ) {
        self.weights.clear();
        if (1..scores.len()).contains(&params.top_k) {
            keep_top_k(scores, maxima, params.top_k, &mut self.found);
            self.take_found();
        } else {
            self.ids = None;
            self.weights.extend_from_slice(scores);
        }
        softmax::weigh(&mut self.weights, max, params.temperature as f32);
        let top_p = params.top_p as f32;
        if top_p < 1.0 {
            self.keep_top_p(f64::from(top_p));
        }
        let min_p = params.min_p as f32;
        if min_p > 0.0 {
            self.find(min_p);
            self.take_found();
        }
    }

    /// Keeps only such tokens; the weights of the others have to be next to nothing.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(u32) -> bool) {
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        let entries = self.entries().filter(|(id, _)| is_kept(*id));
        found.extend(entries.map(|(id, score)| Candidate { score, id }));
        self.found = found;
        self.take_found();
    }

    /// Each token that may be drawn with its weight.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, f32)> {
        (0..self.weights.len()).map(|place| (self.id(place), self.weights[place]))
    }

    /// The weights, in rising order of the ids.
    pub(crate) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The token at a place of [`Candidates::weights`].
    pub(crate) fn id(&self, place: usize) -> u32 {
        self.ids.as_ref().map_or(place as u32, |ids| ids[place])
    }

    /// Keeps the most likely tokens up to the one with which they reach the probability `p`.
    ///
    /// `transformers` adds up from below and cuts at `1 - p`; that is the same. Of equal tokens at
    /// the edge it keeps some, whichever its sort puts last; here the smaller ids stay.
    fn keep_top_p(&mut self, p: f64) {
        let total = sum(&self.weights);
        // All that lies below this is together worth less than 1 - p. A little lower for rounding.
        let floor = 0.999 * (1.0 - p) * total / self.weights.len() as f64;
        self.find(floor as f32);
        let (found, wanted) = (&mut self.found, p * total);
        let mut n_best = 64;
        loop {
            n_best = n_best.min(found.len());
            if n_best < found.len() {
                found.select_nth_unstable_by(n_best - 1, Candidate::best_first);
            }
            let mass: f64 = found[..n_best].iter().map(|best| f64::from(best.score)).sum();
            if mass >= wanted || n_best == found.len() {
                break;
            }
            n_best *= 4;
        }
        found[..n_best].sort_unstable_by(Candidate::best_first);
        let mut above = 0.0;
        let n_kept = found[..n_best].iter().take_while(|next| {
            let is_in = above < wanted;
            above += f64::from(next.score);
            is_in
        });
        let n_kept = n_kept.count().max(1);
        found.truncate(n_kept);
        found.sort_unstable_by_key(|candidate| candidate.id);
        self.take_found();
    }

    /// Finds those whose weight is at least `floor`.
    fn find(&mut self, floor: f32) {
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        let heavy = self.entries().filter(|(_, weight)| *weight >= floor);
        found.extend(heavy.map(|(id, score)| Candidate { score, id }));
        self.found = found;
    }

    /// Makes the list of what was found.
    fn take_found(&mut self) {
        let ids = self.ids.get_or_insert_default();
        ids.clear();
        ids.extend(self.found.iter().map(|candidate| candidate.id));
        self.weights.clear();
        self.weights.extend(self.found.iter().map(|candidate| candidate.score));
    }
}

/// Finds the k largest logits and all that are equal to the last of them, in order of their ids;
/// `maxima` has the largest of each [`RUN`].
///
/// One pass with a rising threshold: whenever twice as many candidates as before are collected, the k
/// best are kept and the threshold rises to the worst of them. Most blocks of logits have none above
/// it.
pub(crate) fn keep_top_k(logits: &[f32], maxima: &[f32], k: usize, found: &mut Vec<Candidate>) {
    found.clear();
    let mut threshold = f32::NEG_INFINITY;
    let mut many = 2 * k;
    for ((run, logits), max) in logits.chunks(RUN).enumerate().zip(maxima) {
        if *max < threshold {
            continue;
        }
        for (i, logit) in logits.iter().enumerate().filter(|(_, logit)| **logit >= threshold) {
            // Adding zero makes a zero of a negative zero, for which `>=` knows no order.
            found.push(Candidate { score: logit + 0.0, id: (run * RUN + i) as u32 });
        }
        if found.len() >= many {
            threshold = keep_best(found, k);
            many = 2 * found.len();
        }
    }
    if found.len() > k {
        keep_best(found, k);
    }
    // So that the result does not depend on how the selection shuffles.
    found.sort_unstable_by_key(|candidate| candidate.id);
}

/// Keeps the k best and what equals the last of them, whose score it returns.
fn keep_best(found: &mut Vec<Candidate>, k: usize) -> f32 {
    let (_, worst, _) = found.select_nth_unstable_by(k - 1, Candidate::best_first);
    let threshold = worst.score;
    found.retain(|candidate| candidate.score >= threshold);
    threshold
}

/// The sum of all weights.
pub(crate) fn sum(weights: &[f32]) -> f64 {
    weights.chunks(RUN).map(sum_of_run).sum()
}

/// The sum of few weights.
pub(crate) fn sum_of_run(weights: &[f32]) -> f64 {
    let mut sums = [0.0; 4];
    for weights in weights.chunks(4) {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += f64::from(*weight);
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}
