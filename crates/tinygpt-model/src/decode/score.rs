//! Scoring: how likely a model finds tokens that are given.
//!
//! It decodes as the engine does, with the given tokens instead of drawn ones, so every model that
//! generates also scores, and many sequences share each reading of the weights.

use crate::decode::generate::max_batch_size;
use crate::decode::model::Model;
use crate::error::{ModelError, Result};
use crate::sampling::{Logprobs, logprobs};

/// What is scored, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScoreParams {
    /// The tokenizer's size, if the model's table has more rows: those are padding.
    pub vocab_size: Option<usize>,
    /// How many of the most likely tokens are reported at each position.
    pub n_top: usize,
}

/// A sequence that is being scored.
struct Open {
    /// Its number.
    sequence: usize,
    /// What is known of its tokens after the first.
    scores: Vec<Logprobs>,
}

/// Calls `on_scored` with the number of each sequence and the log-probability of each of its tokens
/// after the first, given those before it. Sequences end in any order.
///
/// ```
/// use candle_core::Device;
/// use tinygpt_model::{Gpt, ModelConfig, ScoreParams, score};
/// let config = ModelConfig { vocab_size: 11, block_size: 8, n_layer: 1, n_head: 2, n_embd: 8,
///     ..ModelConfig::default() };
/// let gpt = Gpt::init(config, 1337, &Device::Cpu)?;
/// let mut nats = 0.0;
/// score(&gpt, &[&[0, 1, 2, 3][..]], ScoreParams::default(), &mut |_sequence, scores| {
///     nats -= scores.iter().map(|score| score.chosen).sum::<f32>();
/// })?;
/// assert!(nats > 0.0);
/// # Ok::<(), tinygpt_model::ModelError>(())
/// ```
///
/// # Errors
/// [`ModelError::Request`] for a sequence with fewer than 2 tokens or more than `block_size + 1`, or
/// with ids outside the vocabulary; [`ModelError::NonFinite`] if the model's weights are broken.
pub fn score(
    model: &dyn Model,
    sequences: &[&[u32]],
    params: ScoreParams,
    on_scored: &mut dyn FnMut(usize, Vec<Logprobs>),
) -> Result<()> {
    let config = model.config();
    check(sequences, config.block_size)?;
    let used = params.vocab_size.unwrap_or(config.vocab_size).min(config.vocab_size);
    // The longest first: those that remain at the end are short.
    let mut waiting: Vec<usize> = (0..sequences.len()).collect();
    waiting.sort_by_key(|sequence| sequences[*sequence].len());
    let n_slots = max_batch_size(config).min(sequences.len()).max(1);
    let mut decoder = model.decoder(n_slots)?;
    let mut open: Vec<Option<Open>> = (0..n_slots).map(|_| None).collect();
    loop {
        let mut tokens = Vec::new();
        for (slot, open) in open.iter_mut().enumerate() {
            if open.is_none() {
                let Some(sequence) = waiting.pop() else { continue };
                decoder.prefill(&[slot], &sequences[sequence][..1])?;
                *open = Some(Open { sequence, scores: Vec::new() });
            }
            let Some(Open { sequence, scores }) = open else { continue };
            let ids = sequences[*sequence];
            let id = ids[scores.len() + 1];
            let logits = &decoder.logits(slot)[..used];
            if !logits.iter().all(|logit| logit.is_finite()) {
                return Err(ModelError::NonFinite { what: "a logit".to_owned() });
            }
            scores.push(logprobs(logits, id, params.n_top));
            if scores.len() + 1 < ids.len() {
                tokens.push((slot, id));
                continue;
            }
            on_scored(*sequence, std::mem::take(scores));
            *open = None;
            decoder.free(slot)?;
        }
        if !tokens.is_empty() {
            decoder.decode(&tokens)?;
        } else if waiting.is_empty() {
            return Ok(());
        }
    }
}

fn check(sequences: &[&[u32]], block_size: usize) -> Result<()> {
    match sequences.iter().find(|ids| !(2..=block_size + 1).contains(&ids.len())) {
        None => Ok(()),
        Some(ids) => Err(ModelError::request(format!(
            "a sequence of {} tokens cannot be scored, expected 2 to {}, one more than the context",
            ids.len(),
            block_size + 1
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::decode::generate::tests::gpt;

    /// From one forward pass over the whole sequence.
    fn expected(gpt: &mut crate::Gpt, ids: &[u32], used: usize) -> Vec<Logprobs> {
        let v = gpt.config().vocab_size;
        let n = ids.len() - 1;
        let logits = gpt.logits(&ids[..n], 1, n).unwrap();
        let rows = logits.chunks_exact(v).zip(&ids[1..]);
        rows.map(|(logits, id)| logprobs(&logits[..used], *id, 2)).collect()
    }

    #[test]
    fn scores_are_those_of_a_forward_pass() {
        let lengths = [2, 9, 3, 7, 9, 2, 5];
        let sequences: Vec<Vec<u32>> =
            lengths.iter().map(|n| (0..*n).map(|j| (j * j + n) % 12).collect()).collect();
        let slices: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        for autograd in [false, true] {
            let mut gpt = gpt(8);
            if autograd {
                gpt.use_autograd();
            }
            for vocab_size in [None, Some(12)] {
                let mut scored = vec![Vec::new(); slices.len()];
                let params = ScoreParams { vocab_size, n_top: 2 };
                score(&gpt, &slices, params, &mut |i, scores| scored[i] = scores).unwrap();
                for (ids, scores) in sequences.iter().zip(&scored) {
                    let expected = expected(&mut gpt, ids, vocab_size.unwrap_or(13));
                    assert_eq!(scores.len(), expected.len());
                    for (score, expected) in scores.iter().zip(expected) {
                        assert!((score.chosen - expected.chosen).abs() < 1e-4, "{autograd}");
                        assert_eq!(score.top[0].0, expected.top[0].0);
                    }
                }
            }
        }
    }

    #[test]
    fn sequences_that_cannot_be_scored_are_refused() {
        let gpt = gpt(8);
        let scored = |ids: &[u32]| {
            score(&gpt, &[&[1, 2], ids], ScoreParams::default(), &mut |_, _| {})
                .map_err(|it| it.to_string())
        };
        assert!(scored(&[1]).unwrap_err().contains("1 tokens"));
        assert!(scored(&[1; 10]).unwrap_err().contains("expected 2 to 9"));
        assert!(scored(&[1; 9]).is_ok());
        assert!(scored(&[13, 1]).is_err() && scored(&[1, 13, 1]).is_err());
        score(&gpt, &[], ScoreParams::default(), &mut |_, _| {}).unwrap();
    }
}
