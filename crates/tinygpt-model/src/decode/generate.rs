//! Generation: samples of one prompt, all of them, however many there are.
//!
//! The [`Engine`] generates. This file decides which samples it works on: as many at a time as a
//! batch holds, and each of the others as soon as one has ended.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use crate::config::ModelConfig;
use crate::decode::engine::{Engine, Event, SequenceId, StopReason};
use crate::decode::model::Model;
use crate::error::Result;
use crate::sampling::SamplingParams;

/// How much memory the key-value caches of a batch may take, in bytes.
const CACHE_BYTES: usize = 1 << 30;

/// The most sequences in a batch. More of them gain no speed and delay the first text.
const MAX_BATCH: usize = 64;

/// What a caller of [`generate_with`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// This sample; its end is the last event about it.
    Sample,
    /// Everything; no event follows.
    All,
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The new tokens, without the prompt and without the end of the document.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub stop: StopReason,
}

/// How many sequences of this model to decode together at most: 64, or as many as have their
/// caches in 1 GiB.
pub fn max_batch_size(config: &ModelConfig) -> usize {
    let per_token = 2 * size_of::<f32>() * config.n_layer * config.n_embd;
    let per_sequence = per_token.saturating_mul(config.block_size).max(1);
    (CACHE_BYTES / per_sequence).clamp(1, MAX_BATCH)
}

/// Continues `prompt` once for each number in `samples` and calls `on_event` with the sample's
/// number for each token as it comes, and for each end. If that breaks, the sample or all of them
/// end early.
///
/// A sample is a function of the model, the prompt, `params` and its number. If a prompt is longer
/// than `block_size`, the model sees its end. Memory does not grow with the number of samples.
///
/// ```
/// use std::ops::ControlFlow;
/// use candle_core::Device;
/// use tinygpt_model::{Event, Gpt, ModelConfig, SamplingParams, generate_with};
/// let config = ModelConfig { vocab_size: 11, block_size: 8, n_layer: 1, n_head: 2, n_embd: 8,
///     ..ModelConfig::default() };
/// let gpt = Gpt::init(config, 1337, &Device::Cpu)?;
/// let params = SamplingParams { top_k: 5, max_new_tokens: 20, ..SamplingParams::default() };
/// let mut n_tokens = 0;
/// generate_with(&gpt, &[1, 2, 3], &params, 0..2, &mut |_sample_idx, event| {
///     n_tokens += usize::from(matches!(event, Event::Token { .. }));
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(n_tokens, 40);
/// # Ok::<(), tinygpt_model::ModelError>(())
/// ```
///
/// # Errors
/// [`crate::ModelError::Config`] for parameters out of range, [`crate::ModelError::Request`] for an
/// empty prompt or ids outside the vocabulary, [`crate::ModelError::NonFinite`] if the model's
/// weights are broken.
pub fn generate_with(
    model: &dyn Model,
    prompt: &[u32],
    params: &SamplingParams,
    samples: Range<u64>,
    on_event: &mut dyn FnMut(u64, Event) -> ControlFlow<Stop>,
) -> Result<()> {
    let n_samples = samples.end.saturating_sub(samples.start);
    if n_samples == 0 {
        return Ok(());
    }
    let most = max_batch_size(model.config());
    let batch_size = usize::try_from(n_samples).map_or(most, |n| n.min(most));
    let mut engine = Engine::new(model, batch_size)?;
    let mut running: BTreeMap<SequenceId, u64> = BTreeMap::new();
    let mut next = samples.start;
    while next < samples.end || !engine.is_idle() {
        let end = samples.end.min(next.saturating_add(engine.room() as u64));
        if next < end {
            running.extend(engine.add(prompt, params, next..end)?.into_iter().zip(next..end));
            next = end;
        }
        let (mut failure, mut is_over) = (None, false);
        engine.step(&mut |id, event| {
            if is_over {
                return ControlFlow::Break(());
            }
            let Some(&sample_idx) = running.get(&id) else { return ControlFlow::Break(()) };
            match event {
                Event::Token { .. } => {}
                Event::End(_) => _ = running.remove(&id),
                Event::Failed(error) => {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            }
            on_event(sample_idx, event).map_break(|stop| is_over = stop == Stop::All)
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        if is_over {
            break;
        }
    }
    Ok(())
}

/// Continues `prompt` once: the sample number 0 of [`generate_with`].
///
/// ```
/// use candle_core::Device;
/// use tinygpt_model::{Gpt, ModelConfig, SamplingParams, generate};
/// let config = ModelConfig { vocab_size: 11, block_size: 8, n_layer: 1, n_head: 2, n_embd: 8,
///     ..ModelConfig::default() };
/// let gpt = Gpt::init(config, 1337, &Device::Cpu)?;
/// let params = SamplingParams { max_new_tokens: 20, ..SamplingParams::default() };
/// assert_eq!(generate(&gpt, &[1, 2, 3], &params)?.tokens.len(), 20);
/// # Ok::<(), tinygpt_model::ModelError>(())
/// ```
///
/// # Errors
/// As [`generate_with`].
pub fn generate(model: &dyn Model, prompt: &[u32], params: &SamplingParams) -> Result<Generated> {
    let mut samples = generate_samples(model, prompt, params, 0..1)?;
    Ok(samples.swap_remove(0))
}

/// The samples that [`generate_with`] produces, all at once and in order.
///
/// # Errors
/// As [`generate_with`].
pub fn generate_samples(
    model: &dyn Model,
    prompt: &[u32],
    params: &SamplingParams,
    samples: Range<u64>,
) -> Result<Vec<Generated>> {
    let mut generated: BTreeMap<u64, Generated> = BTreeMap::new();
    generate_with(model, prompt, params, samples, &mut |sample_idx, event| {
        let empty = || Generated { tokens: Vec::new(), stop: StopReason::Length };
        let sample = generated.entry(sample_idx).or_insert_with(empty);
        match event {
            Event::Token { id, .. } => sample.tokens.push(id),
            Event::End(stop) => sample.stop = stop,
            // `generate_with` returns the error.
            Event::Failed(_) => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(generated.into_values().collect())
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::decode::engine::kept_on_shift;
    use crate::{Gpt, Sampler, host};
    use candle_core::Device;

    pub(crate) fn gpt(block_size: usize) -> Gpt {
        let config = ModelConfig {
            vocab_size: 13,
            block_size,
            n_layer: 2,
            n_head: 2,
            n_embd: 8,
            ..ModelConfig::default()
        };
        let gpt = Gpt::init(config, 3, &Device::Cpu).unwrap();
        // Larger than at the start of training, so that every token depends on those before.
        for (_, tensor) in gpt.params().iter().filter(|(spec, _)| spec.kind.is_decayed()) {
            host::write(tensor, |values| values.iter_mut().for_each(|x| *x *= 16.0)).unwrap();
        }
        gpt
    }

    pub(crate) fn unfiltered(max_new_tokens: usize) -> SamplingParams {
        SamplingParams { max_new_tokens, ..SamplingParams::unfiltered() }
    }

    fn params(max_new_tokens: usize) -> SamplingParams {
        SamplingParams { seed: 2, ..unfiltered(max_new_tokens) }
    }

    fn run(gpt: &Gpt, prompt: &[u32], params: &SamplingParams) -> Result<Generated> {
        generate(gpt, prompt, params)
    }

    fn several(
        gpt: &Gpt,
        prompt: &[u32],
        params: &SamplingParams,
        samples: Range<u64>,
    ) -> Result<Vec<Generated>> {
        generate_samples(gpt, prompt, params, samples)
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
            seen = if seen == block_size { kept_on_shift(block_size) } else { seen + 1 };
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
        let (mut seen, mut end) = (Vec::new(), None);
        generate_with(&gpt, &[1], &params(30), 0..1, &mut |_, event| {
            match event {
                Event::Token { id, .. } => seen.push(id),
                Event::End(stop) => end = Some(stop),
                Event::Failed(error) => panic!("{error}"),
            }
            if seen.len() == 4 {
                ControlFlow::Break(Stop::Sample)
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
        assert_eq!((end, seen.len()), (Some(StopReason::Caller), 4));
        assert_eq!(seen, run(&gpt, &[1], &params(30)).unwrap().tokens[..4]);
    }

    #[test]
    fn a_sample_is_the_same_alone_and_next_to_others() {
        for threads in [1, 2, 3] {
            let mut gpt = gpt(8);
            gpt.set_decode_threads(threads);
            // Far beyond the block, so that the window slides; a token that ends some samples
            // early, so that they leave the others.
            let ends = SamplingParams { eos: Some(3), top_k: 9, ..params(60) };
            let together = several(&gpt, &[1, 2], &ends, 0..7).unwrap();
            for (i, sample) in (0..).zip(&together) {
                assert_eq!(several(&gpt, &[1, 2], &ends, i..i + 1).unwrap()[0], *sample, "{i}");
            }
            let lengths: Vec<usize> = together.iter().map(|sample| sample.tokens.len()).collect();
            assert!(lengths.iter().max() > Some(&16) && lengths.iter().min() < Some(&16));
        }
    }

    #[test]
    fn autograd_draws_the_same_samples() {
        let ends = SamplingParams { eos: Some(3), ..params(30) };
        let mut gpt = gpt(8);
        let fused = several(&gpt, &[1, 2], &ends, 0..4).unwrap();
        gpt.use_autograd();
        assert_eq!(several(&gpt, &[1, 2], &ends, 0..4).unwrap(), fused);
    }

    #[test]
    fn every_sample_reports_its_tokens_and_then_its_end() {
        let gpt = gpt(8);
        let ends = SamplingParams { eos: Some(3), ..params(20) };
        let mut reported: Vec<Vec<Option<u32>>> = vec![Vec::new(); 5];
        generate_with(&gpt, &[1], &ends, 10..15, &mut |sample_idx, event| {
            reported[sample_idx as usize - 10].push(match event {
                Event::Token { id, .. } => Some(id),
                _ => None,
            });
            ControlFlow::Continue(())
        })
        .unwrap();
        for (reported, made) in reported.iter().zip(several(&gpt, &[1], &ends, 10..15).unwrap()) {
            let tokens = made.tokens.into_iter().map(Some);
            assert_eq!(*reported, tokens.chain([None]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn more_samples_than_a_batch_holds_are_generated_in_bounded_memory() {
        let gpt = gpt(8);
        let params = SamplingParams { eos: Some(3), ..params(12) };
        let n = 3 * MAX_BATCH as u64 + 5;
        let made = several(&gpt, &[1, 2], &params, 0..n).unwrap();
        assert_eq!(made.len() as u64, n);
        for i in [0, 63, 64, 65, 127, 128, n - 1] {
            assert_eq!(several(&gpt, &[1, 2], &params, i..i + 1).unwrap()[0], made[i as usize]);
        }
        // Of as many samples as there can be, the first come at once and in a small batch.
        let (mut n_events, mut highest) = (0, 0);
        generate_with(&gpt, &[1], &unfiltered(4), 0..u64::MAX, &mut |sample_idx, _| {
            n_events += 1;
            highest = highest.max(sample_idx);
            if n_events == 1000 { ControlFlow::Break(Stop::All) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        assert_eq!(n_events, 1000);
        // Five events for each sample, and one batch that is not complete.
        assert!(highest < 200 + MAX_BATCH as u64, "{highest}");
    }

    #[test]
    fn bad_requests_are_refused() {
        let gpt = gpt(8);
        assert!(run(&gpt, &[], &params(3)).unwrap_err().to_string().contains("empty"));
        assert!(run(&gpt, &[13], &params(3)).unwrap_err().to_string().contains("token id 13"));
        assert!(run(&gpt, &[1], &params(0)).unwrap().tokens.is_empty());
    }
}
