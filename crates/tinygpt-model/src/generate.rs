//! Generation: one sample, token by token, for as long as is asked.
//!
//! The cache of keys and values is bound to absolute positions, so a text longer than `block_size`
//! slides: when the cache is full, the last three quarters of a block are read again. Text is not
//! known here; ids come in and go out.

use std::ops::ControlFlow;

use crate::error::{ModelError, Result};
use crate::gpt::Gpt;
use crate::logits::{Sampler, SamplingParams};

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

/// Continues `prompt` and hands each new token to `on_token` as it comes.
///
/// Of a prompt longer than `block_size` the model sees the end.
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
/// let sample = generate(&gpt, &[1, 2, 3], &params, 0, &mut |_| ControlFlow::Continue(()))?;
/// assert_eq!(sample.tokens.len(), 20);
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
    sample_idx: u64,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Generated> {
    let config = gpt.config();
    params.validate(config.vocab_size)?;
    if prompt.is_empty() {
        let message = "the prompt is empty, expected at least one token: start with the token \
                       that ends documents";
        return Err(ModelError::request(message));
    }
    let mut text = prompt.to_vec();
    let done = |text: &[u32], stop| {
        let tokens = text[prompt.len()..].to_vec();
        Ok(Generated { tokens, stop })
    };
    if params.max_new_tokens == 0 {
        return done(&text, StopReason::Length);
    }
    let mut decoder = gpt.decoder(1)?;
    let mut sampler = Sampler::new(params, sample_idx);
    decoder.prefill(end_of(&text, config.block_size))?;
    for position in 0.. {
        let id = sampler.choose(decoder.logits(0), position)?;
        if params.eos == Some(id) {
            return done(&text, StopReason::Eos);
        }
        text.push(id);
        if on_token(id).is_break() {
            return done(&text, StopReason::Caller);
        }
        if text.len() - prompt.len() == params.max_new_tokens {
            break;
        }
        if decoder.len() < config.block_size {
            decoder.step(&[id])?;
        } else {
            decoder.prefill(end_of(&text, kept_on_slide(config.block_size)))?;
        }
    }
    done(&text, StopReason::Length)
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
    use crate::ModelConfig;
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
        Gpt::init(config, 3, &Device::Cpu).unwrap()
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
        generate(gpt, prompt, params, 0, &mut |_| ControlFlow::Continue(()))
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
        let sample = generate(&gpt, &[1], &params(30), 0, &mut |id| {
            seen.push(id);
            if seen.len() == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let sample = sample.unwrap();
        assert_eq!((sample.stop, sample.tokens.len()), (StopReason::Caller, 4));
        assert_eq!(sample.tokens, seen);
    }

    #[test]
    fn bad_requests_are_refused() {
        let gpt = gpt(8);
        assert!(run(&gpt, &[], &params(3)).unwrap_err().to_string().contains("empty"));
        assert!(run(&gpt, &[13], &params(3)).unwrap_err().to_string().contains("token id 13"));
        assert!(run(&gpt, &[1], &params(0)).unwrap().tokens.is_empty());
    }
}
