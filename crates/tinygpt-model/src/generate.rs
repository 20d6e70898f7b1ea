//! Generation: samples of one prompt, all of them, however many there are.
//!
//! The [`Engine`] does it; here is who waits for whom. All samples are decoded together as far as
//! memory reaches, and the others take the place of those that have ended.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use crate::config::ModelConfig;
use crate::engine::{Engine, Event, StopReason, Ticket};
use crate::error::Result;
use crate::model::Model;
use crate::sampling::SamplingParams;

/// How much memory the caches of sequences that are decoded together may take, in bytes.
const CACHE_BYTES: usize = 1 << 30;

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The new tokens, without the prompt and without the end of the document.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub stop: StopReason,
}

/// How many sequences of this model to decode together at most: their caches fit into 1 GiB.
pub fn most_at_once(config: &ModelConfig) -> usize {
    let per_token = 2 * size_of::<f32>() * config.n_layer * config.n_embd;
    (CACHE_BYTES / per_token.saturating_mul(config.block_size).max(1)).max(1)
}

/// Continues `prompt` once for each number in `samples` and tells `on_event` of each token as it
/// comes, and of each end, with the sample's number. Where that breaks off, that sample ends.
///
/// A sample is a function of the model, the prompt, `params` and its number. Of a prompt longer
/// than `block_size` the model sees the end.
///
/// ```
/// use std::ops::ControlFlow;
/// use candle_core::Device;
/// use tinygpt_model::{Gpt, ModelConfig, SamplingParams, generate};
/// let config = ModelConfig { vocab_size: 11, block_size: 8, n_layer: 1, n_head: 2, n_embd: 8,
///     dropout: 0.0, bias: true };
/// let gpt = Gpt::init(config, 1337, &Device::Cpu)?;
/// let params = SamplingParams { temperature: 0.8, top_k: Some(5), ..SamplingParams::new(20, 11) };
/// let go_on = &mut |_, _| ControlFlow::Continue(());
/// let samples = generate(&gpt, &[1, 2, 3], &params, 0..2, go_on)?;
/// assert_eq!(samples[1].tokens.len(), 20);
/// # Ok::<(), tinygpt_model::ModelError>(())
/// ```
///
/// # Errors
/// [`crate::ModelError::Config`] for settings out of range, [`crate::ModelError::Request`] for an
/// empty prompt or ids outside the vocabulary, [`crate::ModelError::NonFinite`] if the model's
/// weights are broken.
pub fn generate(
    model: &dyn Model,
    prompt: &[u32],
    params: &SamplingParams,
    samples: Range<u64>,
    on_event: &mut dyn FnMut(u64, Event) -> ControlFlow<()>,
) -> Result<Vec<Generated>> {
    let n_samples = samples.end.saturating_sub(samples.start) as usize;
    let mut made: Vec<Option<Generated>> = vec![None; n_samples];
    if n_samples == 0 {
        return Ok(Vec::new());
    }
    let mut engine = Engine::new(model, most_at_once(model.config()).min(n_samples))?;
    let mut writing: BTreeMap<Ticket, (u64, Vec<u32>)> = BTreeMap::new();
    let mut next = samples.start;
    while next < samples.end || !engine.is_idle() {
        let end = samples.end.min(next.saturating_add(engine.room() as u64));
        if next < end {
            let tickets = engine.admit(prompt, params, next..end)?;
            writing.extend(tickets.into_iter().zip((next..end).map(|i| (i, Vec::new()))));
            next = end;
        }
        let mut failure = None;
        engine.step(&mut |ticket, event| {
            let Some((sample_idx, tokens)) = writing.get_mut(&ticket) else {
                return ControlFlow::Break(());
            };
            match event {
                Event::Token { id, .. } => tokens.push(id),
                Event::End(stop) => {
                    let tokens = std::mem::take(tokens);
                    let place = (*sample_idx - samples.start) as usize;
                    made[place] = Some(Generated { tokens, stop });
                }
                Event::Failed(error) => {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            }
            on_event(*sample_idx, event)
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
    }
    Ok(made.into_iter().flatten().collect())
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::engine::kept_on_slide;
    use crate::{Gpt, Sampler, host};
    use candle_core::Device;

    pub(crate) fn gpt(block_size: usize) -> Gpt {
        let config = ModelConfig {
            vocab_size: 13,
            block_size,
            n_layer: 2,
            n_head: 2,
            n_embd: 8,
            dropout: 0.0,
            bias: true,
        };
        let gpt = Gpt::init(config, 3, &Device::Cpu).unwrap();
        // Larger than at the start of training, so that every token depends on those before.
        for (_, tensor) in gpt.params().iter().filter(|(spec, _)| spec.decay) {
            host::write(tensor, |values| values.iter_mut().for_each(|x| *x *= 16.0)).unwrap();
        }
        gpt
    }

    fn params(max_new_tokens: usize) -> SamplingParams {
        SamplingParams { seed: 2, ..SamplingParams::new(max_new_tokens, 13) }
    }

    fn run(gpt: &Gpt, prompt: &[u32], params: &SamplingParams) -> Result<Generated> {
        Ok(several(gpt, prompt, params, 0..1)?.remove(0))
    }

    fn several(
        gpt: &Gpt,
        prompt: &[u32],
        params: &SamplingParams,
        samples: Range<u64>,
    ) -> Result<Vec<Generated>> {
        generate(gpt, prompt, params, samples, &mut |_, _| ControlFlow::Continue(()))
    }

    /// What `generate` must equal: the same window seen from scratch for every token.
    fn without_cache(gpt: &mut Gpt, prompt: &[u32], params: &SamplingParams) -> Vec<u32> {
        let (block_size, v) = (gpt.config().block_size, gpt.config().vocab_size);
        let mut sampler = Sampler::new(params, 0);
        let mut text = prompt.to_vec();
        let mut seen = text.len().min(block_size);
        for position in 0..params.max_new_tokens {
            let window = &text[text.len() - seen..];
            let logits = gpt.logits(window, 1, seen).unwrap();
            text.push(sampler.choose(&logits[(seen - 1) * v..], position as u64).unwrap().unwrap());
            seen = if seen == block_size { kept_on_slide(block_size) } else { seen + 1 };
        }
        text.split_off(prompt.len())
    }

    #[test]
    fn the_cache_changes_nothing_even_when_it_slides() {
        for (block_size, prompt_len) in [(8, 3), (8, 8), (8, 20), (1, 1), (2, 5), (3, 1)] {
            let mut gpt = gpt(block_size);
            let prompt: Vec<u32> = (0..prompt_len).map(|i| i * 5 % 13).collect();
            let params = params(30);
            let expected = without_cache(&mut gpt, &prompt, &params);
            assert_eq!(run(&gpt, &prompt, &params).unwrap().tokens, expected, "{block_size}");
        }
    }

    #[test]
    fn stops_at_the_end_of_a_document_and_leaves_it_out() {
        let gpt = gpt(8);
        let free = run(&gpt, &[1], &params(30)).unwrap();
        assert_eq!(free.stop, StopReason::Length);
        let eos = free.tokens[10];
        let first = free.tokens.iter().position(|id| *id == eos).unwrap();
        let stopped = run(&gpt, &[1], &SamplingParams { eos: Some(eos), ..params(30) }).unwrap();
        assert_eq!(stopped.stop, StopReason::Eos);
        assert_eq!(stopped.tokens, free.tokens[..first]);
    }

    #[test]
    fn the_caller_sees_each_token_and_can_break_off() {
        let gpt = gpt(8);
        let mut seen = Vec::new();
        let samples = generate(&gpt, &[1], &params(30), 0..1, &mut |_, event| {
            let Event::Token { id, .. } = event else { return ControlFlow::Continue(()) };
            seen.push(id);
            if seen.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let sample = &samples.unwrap()[0];
        assert_eq!((sample.stop, sample.tokens.len()), (StopReason::Caller, 4));
        assert_eq!(sample.tokens, seen);
    }

    #[test]
    fn a_sample_is_the_same_alone_and_beside_others() {
        for threads in [1, 2, 3] {
            let mut gpt = gpt(8);
            gpt.set_decode_threads(threads);
            // Far beyond the block, so that the window slides; a token that ends some samples
            // early, so that they leave the others.
            let ends = SamplingParams { eos: Some(3), top_k: Some(9), ..params(60) };
            let together = several(&gpt, &[1, 2], &ends, 0..7).unwrap();
            for (i, sample) in (0..).zip(&together) {
                assert_eq!(several(&gpt, &[1, 2], &ends, i..i + 1).unwrap()[0], *sample, "{i}");
            }
            let lengths: Vec<usize> = together.iter().map(|sample| sample.tokens.len()).collect();
            assert!(lengths.iter().max() > Some(&16) && lengths.iter().min() < Some(&16));
        }
    }

    #[test]
    fn the_composed_path_draws_the_same_samples() {
        let ends = SamplingParams { eos: Some(3), ..params(30) };
        let mut gpt = gpt(8);
        let fused = several(&gpt, &[1, 2], &ends, 0..4).unwrap();
        gpt.use_composed_path();
        assert_eq!(several(&gpt, &[1, 2], &ends, 0..4).unwrap(), fused);
    }

    #[test]
    fn every_sample_tells_its_tokens_and_then_its_end() {
        let gpt = gpt(8);
        let ends = SamplingParams { eos: Some(3), ..params(20) };
        let mut told: Vec<Vec<Option<u32>>> = vec![Vec::new(); 5];
        let made = generate(&gpt, &[1], &ends, 10..15, &mut |sample_idx, event| {
            told[sample_idx as usize - 10].push(match event {
                Event::Token { id, .. } => Some(id),
                _ => None,
            });
            ControlFlow::Continue(())
        });
        for (told, made) in told.iter().zip(made.unwrap()) {
            let tokens = made.tokens.into_iter().map(Some);
            assert_eq!(*told, tokens.chain([None]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn bad_requests_are_refused() {
        let gpt = gpt(8);
        assert!(run(&gpt, &[], &params(3)).unwrap_err().to_string().contains("empty"));
        assert!(run(&gpt, &[13], &params(3)).unwrap_err().to_string().contains("token id 13"));
        assert!(run(&gpt, &[1], &params(0)).unwrap().tokens.is_empty());
    }
}
