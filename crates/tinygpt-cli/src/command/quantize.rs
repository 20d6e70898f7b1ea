//! `sample --quantize`: rounds the weights, and says what that costs where validation data is at hand.

use std::ops::ControlFlow;

use anyhow::Result;
use tinygpt_data::{Meta, TokenStream};
use tinygpt_model::Gpt;
use tinygpt_train::EvalSet;
use tinygpt_train::checkpoint;

use super::sample::Opened;
use crate::terminal::{grouped, say};

/// Tokens that the loss is taken over, as far as that is quick.
const MAX_TOKENS: usize = 8192;

/// Floating-point operations that may be spent on one loss: a few seconds.
const MAX_FLOPS: f64 = 3e11;

/// Rounds the model to 8 bits.
///
/// # Errors
/// A model that cannot be rounded, or computed with.
pub(super) fn quantize(opened: &mut Opened) -> Result<()> {
    let tokens = validation(opened)?;
    let before = tokens.as_ref().map(|tokens| loss(opened, tokens)).transpose()?.flatten();
    opened.gpt.quantize()?;
    let after = tokens.as_ref().map(|tokens| loss(opened, tokens)).transpose()?.flatten();
    match before.zip(after) {
        Some(((before, n_tokens), (after, _))) => say(&format!(
            "q8_0: val loss {:+.4} nats a token over {} tokens, {before:.4} before",
            after - before,
            grouped(n_tokens as u64)
        )),
        None => say("q8_0: no validation data at hand to measure the loss with"),
    }
    Ok(())
}

/// The validation tokens that the model's own run used, if they are still there.
fn validation(opened: &Opened) -> Result<Option<TokenStream>> {
    let Some(state) = checkpoint::state_of(&opened.dir)? else { return Ok(None) };
    let config = &state.config;
    let meta = Meta::find(&config.data_dir, &config.dataset_name, &state.data_fingerprint);
    Ok(meta.and_then(|meta| meta.open_val(&config.data_dir).ok()))
}

/// The loss in nats a token and over how many; `None` where the text is shorter than a window.
fn loss(opened: &mut Opened, tokens: &TokenStream) -> Result<Option<(f64, usize)>> {
    let gpt: &mut Gpt = &mut opened.gpt;
    let config = gpt.config();
    let seq_len = config.block_size;
    let affordable = (3.0 * MAX_FLOPS / config.flops_per_token()) as usize;
    let n_windows = (MAX_TOKENS.min(affordable) / seq_len).max(1);
    let Ok(set) = EvalSet::new(tokens, n_windows, 1, seq_len) else { return Ok(None) };
    let n_tokens = set.n_batches() * seq_len;
    let go_on = &mut || ControlFlow::Continue(());
    let loss = set.loss(gpt, &opened.tokenizer, go_on)?;
    Ok(loss.map(|loss| (loss.nats_per_token, n_tokens)))
}
