//! How likely a token was, and what else was likely: the log-softmax of the model's own logits,
//! before temperature and every filter, as OpenAI's API reports it.

use tinygpt_kernels::softmax::{self, RUN};

use super::candidates::{Candidate, keep_top_k, sum};

/// Log-probabilities at one position, in nats; all are finite and at most 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// That of the token that was chosen.
    pub chosen: f32,
    /// The most likely tokens with theirs, best first; of equal ones the smaller id.
    pub top: Vec<(u32, f32)>,
}

/// Those of `id` and of the `n_top` most likely, from finite `logits` `[V]`.
pub(crate) fn logprobs(logits: &[f32], id: u32, n_top: usize) -> Logprobs {
    let mut maxima = vec![0.0; logits.len().div_ceil(RUN)];
    softmax::survey(logits, &mut maxima);
    let max = maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights = logits.to_vec();
    softmax::weigh(&mut weights, max, 1.0);
    let log_sum = f64::from(max) + sum(&weights).ln();
    let of = |logit: f32| (f64::from(logit) - log_sum).min(0.0) as f32;
    let mut top = Vec::new();
    if n_top > 0 {
        keep_top_k(logits, &maxima, n_top.min(logits.len()), &mut top);
        top.sort_unstable_by(Candidate::best_first);
        top.truncate(n_top);
    }
    Logprobs {
        chosen: logits.get(id as usize).map_or(0.0, |logit| of(*logit)),
        top: top.into_iter().map(|Candidate { id, score }| (id, of(score))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_the_softmax_of_the_logits_best_first() {
        let logits = [1.0, 3.0, -2.0, 3.0, 0.5];
        let total: f64 = logits.iter().map(|z| f64::from(*z).exp()).sum();
        let expected = |id: usize| (f64::from(logits[id]).exp() / total) as f32;
        let got = logprobs(&logits, 2, 3);
        assert!((got.chosen.exp() - expected(2)).abs() < 1e-6);
        let ids: Vec<u32> = got.top.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [1, 3, 0]);
        for (id, logprob) in got.top {
            assert!((logprob.exp() - expected(id as usize)).abs() < 1e-6);
        }
        assert_eq!(logprobs(&logits, 0, 99).top.len(), 5);
        assert!(logprobs(&[1e30, -1e30], 1, 1).chosen.is_finite());
    }
}
