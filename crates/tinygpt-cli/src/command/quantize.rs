//! `sample --quantize`: says what the rounding costs, where validation data is at hand.

use std::ops::ControlFlow;

use anyhow::Result;
use candle_core::Device;
use tinygpt_data::{Meta, TokenStream};
use tinygpt_model::{Gpt, Model as _, QuantizedGpt, hf};
use tinygpt_train::EvalSet;
use tinygpt_train::checkpoint;

use super::sample::Opened;
use crate::terminal::{grouped, say};

/// Tokens that the loss is taken over, as far as that is quick.
const MAX_TOKENS: usize = 8192;

/// Floating-point operations that may be spent on one loss: a few seconds.
const MAX_FLOPS: f64 = 3e11;

/// Says how much the loss changes with rounding. For that the model is in memory as f32 for a while.
///
/// # Errors
/// A model that cannot be read, or computed with.
pub(super) fn tell_cost(opened: &Opened<QuantizedGpt>, threads: usize) -> Result<()> {
    let losses = match validation(opened)? {
        Some(tokens) => losses(opened, &tokens, threads)?,
        None => None,
    };
    match losses {
        Some((before, after, n_tokens)) => say(&format!(
            "q8_0: val loss {:+.4} nats a token over {} tokens, {before:.4} before",
            after - before,
            grouped(n_tokens as u64)
        )),
        None => say("q8_0: no validation data at hand to measure the loss with"),
    }
    Ok(())
}

/// The validation tokens that the model's own run used, if they are still there.
fn validation(opened: &Opened<QuantizedGpt>) -> Result<Option<TokenStream>> {
    let Some(state) = checkpoint::state_of(&opened.dir)? else { return Ok(None) };
    let config = &state.config;
    let meta = Meta::find(&config.data_dir, &config.dataset_name, &state.data_fingerprint);
    Ok(meta.and_then(|meta| meta.open_val(&config.data_dir).ok()))
}

/// The losses of the model and of the rounded one in nats a token, and over how many; `None` where the
/// text is shorter than a window.
fn losses(
    opened: &Opened<QuantizedGpt>,
    tokens: &TokenStream,
    threads: usize,
) -> Result<Option<(f64, f64, usize)>> {
    let config = opened.model.config();
    let seq_len = config.block_size;
    let affordable = (3.0 * MAX_FLOPS / config.flops_per_token()) as usize;
    let n_windows = (MAX_TOKENS.min(affordable) / seq_len).max(1);
    let Ok(set) = EvalSet::new(tokens, n_windows, 1, seq_len) else { return Ok(None) };
    let loss = |gpt: Gpt| {
        let mut gpt = gpt;
        gpt.set_threads(threads);
        let loss = set.loss(&mut gpt, &opened.tokenizer, &mut || ControlFlow::Continue(()))?;
        Ok::<_, anyhow::Error>(loss.map(|loss| loss.nats_per_token))
    };
    let before = loss(hf::read_dir(&opened.dir, &Device::Cpu)?)?;
    let after = loss(opened.model.to_gpt()?)?;
    let n_tokens = set.n_batches() * seq_len;
    Ok(before.zip(after).map(|(before, after)| (before, after, n_tokens)))
}
