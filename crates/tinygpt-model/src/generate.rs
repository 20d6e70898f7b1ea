//! Generation: samples of one prompt, token by token, for as long as is asked.
//!
//! All samples are decoded together: they share the prompt's pass, and every weight that a step
//! reads serves all of them. A sample is the same whether it is drawn alone or beside others. The
//! cache of keys and values is bound to absolute positions, so a text longer than `block_size`
//! slides: when the cache is full, the last three quarters of a block are read again. Text is not
//! known here; ids come in and go out.

use std::ops::{ControlFlow, Range};

use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::gpt::Gpt;
use crate::logits::{Sampler, SamplingParams};

/// How much memory the caches of samples that are decoded together may take, in bytes; what does
/// not fit is decoded afterwards.
const CACHE_BYTES: usize = 1 << 30;

/// Why a sample ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model ended the document.
    Eos,
    /// `max_new_tokens` were made.
    Length,
    /// The caller broke off.
    Caller,
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The new tokens, without the prompt and without the end of the document.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub stop: StopReason,
}

/// What happens to a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The model made a token.
    Token(u32),
    /// The sample is complete.
    End,
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
/// let params = SamplingParams { temperature: 0.8, top_k: Some(5), max_new_tokens: 20, seed: 1,
///     eos: None, vocab_used: 11 };
/// let go_on = &mut |_, _| ControlFlow::Continue(());
/// let samples = generate(&gpt, &[1, 2, 3], &params, 0..2, go_on)?;
/// assert_eq!(samples[1].tokens.len(), 20);
/// # Ok::<(), tinygpt_model::ModelError>(())
/// ```
///
/// # Errors
/// [`ModelError::Config`] for settings out of range, [`ModelError::Request`] for an empty prompt
/// or ids outside the vocabulary, [`ModelError::NonFinite`] if the model's weights are broken.
pub fn generate(
    gpt: &Gpt,
    prompt: &[u32],
    params: &SamplingParams,
    samples: Range<u64>,
    on_event: &mut dyn FnMut(u64, Event) -> ControlFlow<()>,
) -> Result<Vec<Generated>> {
    let config = gpt.config();
    params.validate(config.vocab_size)?;
    if prompt.is_empty() {
        let message = "the prompt is empty, expected at least one token: start with the token \
                       that ends documents";
        return Err(ModelError::request(message));
    }
    let at_once = (CACHE_BYTES / cache_bytes(config)).max(1) as u64;
    let mut made = Vec::new();
    let mut start = samples.start;
    while start < samples.end {
        let end = samples.end.min(start.saturating_add(at_once));
        made.extend(together(gpt, prompt, params, start..end, on_event)?);
        start = end;
    }
    Ok(made)
}

/// What one sequence's keys and values take.
fn cache_bytes(config: &ModelConfig) -> usize {
    let per_token = 2 * size_of::<f32>() * config.n_layer * config.n_embd;
    per_token.saturating_mul(config.block_size).max(1)
}

/// A sample that is being made.
struct Writer<'a> {
    sample_idx: u64,
    sampler: Sampler<'a>,
    /// The prompt and what was made.
    text: Vec<u32>,
}

/// The samples of one decoder.
fn together(
    gpt: &Gpt,
    prompt: &[u32],
    params: &SamplingParams,
    samples: Range<u64>,
    on_event: &mut dyn FnMut(u64, Event) -> ControlFlow<()>,
) -> Result<Vec<Generated>> {
    let block_size = gpt.config().block_size;
    let first = samples.start;
    let mut made: Vec<Option<Generated>> = samples.clone().map(|_| None).collect();
    let mut decoder = gpt.decoder(made.len())?;
    let new_writer = |sample_idx| Writer {
        sample_idx,
        sampler: Sampler::new(params, sample_idx),
        text: prompt.to_vec(),
    };
    let mut writers: Vec<Writer<'_>> = samples.map(new_writer).collect();
    let (mut ids, mut kept) = (Vec::new(), Vec::new());
    decoder.prefill(end_of(prompt, block_size))?;
    for n_made in 0.. {
        ids.clear();
        kept.clear();
        for (row, writer) in writers.iter_mut().enumerate() {
            match writer.write(&decoder, row, n_made, params, on_event)? {
                ControlFlow::Continue(id) => {
                    ids.push(id);
                    kept.push(row);
                }
                ControlFlow::Break(stop) => {
                    let tokens = writer.text[prompt.len()..].to_vec();
                    made[(writer.sample_idx - first) as usize] = Some(Generated { tokens, stop });
                    // There is nothing left to break off.
                    let _ = on_event(writer.sample_idx, Event::End);
                }
            }
        }
        if kept.is_empty() {
            break;
        }
        if kept.len() < writers.len() {
            decoder.keep(&kept)?;
            let mut row = 0..;
            writers.retain(|_| row.next().is_some_and(|row| kept.binary_search(&row).is_ok()));
        }
        if decoder.len() < block_size {
            decoder.step(&ids)?;
        } else {
            let texts = writers.iter().map(|w| end_of(&w.text, kept_on_slide(block_size)));
            decoder.refill(&texts.collect::<Vec<_>>())?;
        }
    }
    Ok(made.into_iter().flatten().collect())
}

impl Writer<'_> {
    /// Writes token number `n_made` of the sample, after the logits of `row`; what ended the
    /// sample if there is no more to come.
    fn write(
        &mut self,
        decoder: &Decoder<'_>,
        row: usize,
        n_made: usize,
        params: &SamplingParams,
        on_event: &mut dyn FnMut(u64, Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<StopReason, u32>> {
        if n_made == params.max_new_tokens {
            return Ok(ControlFlow::Break(StopReason::Length));
        }
        let id = self.sampler.choose(decoder.logits(row), n_made as u64)?;
        if params.eos == Some(id) {
            return Ok(ControlFlow::Break(StopReason::Eos));
        }
        self.text.push(id);
        if on_event(self.sample_idx, Event::Token(id)).is_break() {
            return Ok(ControlFlow::Break(StopReason::Caller));
        }
        // The last token needs no logits after it.
        if n_made + 1 == params.max_new_tokens {
            return Ok(ControlFlow::Break(StopReason::Length));
        }
        Ok(ControlFlow::Continue(id))
    }
}

/// How many tokens are read again when the cache is full.
fn kept_on_slide(block_size: usize) -> usize {
    (block_size - block_size / 4).min(block_size - 1).max(1)
}

fn end_of(text: &[u32], n_tokens: usize) -> &[u32] {
    &text[text.len().saturating_sub(n_tokens)..]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{ModelConfig, host};
    use candle_core::Device;

    fn gpt(block_size: usize) -> Gpt {
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
        SamplingParams {
            temperature: 1.0,
            top_k: None,
            max_new_tokens,
            seed: 2,
            eos: None,
            vocab_used: 13,
        }
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
            text.push(sampler.choose(&logits[(seen - 1) * v..], position as u64).unwrap());
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
            let Event::Token(id) = event else { return ControlFlow::Continue(()) };
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
            gpt.set_threads(threads);
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
        let mut told: Vec<Vec<Event>> = vec![Vec::new(); 5];
        let made = generate(&gpt, &[1], &ends, 10..15, &mut |sample_idx, event| {
            told[sample_idx as usize - 10].push(event);
            ControlFlow::Continue(())
        });
        for (told, made) in told.iter().zip(made.unwrap()) {
            let tokens = made.tokens.into_iter().map(Event::Token);
            assert_eq!(*told, tokens.chain([Event::End]).collect::<Vec<_>>());
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
