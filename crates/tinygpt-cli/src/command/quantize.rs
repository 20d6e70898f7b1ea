//! `sample --quantize`: says what the rounding costs, where validation data is at hand.

use std::ops::ControlFlow;

use anyhow::Result;
use candle_core::Device;
use tinygpt_data::{Meta, TokenDataset};
use tinygpt_model::{Gpt, Model as _, QuantizedGpt, hf};
use tinygpt_train::checkpoint::{self, State};
use tinygpt_train::{EvalSet, TrainConfig};

use super::sample::Opened;
use crate::terminal::{grouped, say};

/// Floating-point operations that may be spent on one loss: a few seconds.
const MAX_FLOPS: f64 = 3e11;

/// Says how much the loss changes with rounding. For that the model is in memory as f32 for a while.
///
/// The windows are those that training evaluates, so that the loss before rounding is the one that
/// training printed; or the fewer that there is time for, which is said.
///
/// # Errors
/// A model that cannot be read, or computed with.
pub(super) fn tell_cost(opened: &Opened<QuantizedGpt>, threads: usize) -> Result<()> {
    let losses = match validation(opened)? {
        Some((tokens, state)) => losses(opened, &tokens, &state.config, threads)?,
        None => None,
    };
    let Some(Losses { before, after, n_tokens, of_training }) = losses else {
        say("q8_0: no validation data at hand to measure the loss with");
        return Ok(());
    };
    let change = after - before;
    let n_tokens = grouped(n_tokens as u64);
    let compared = match of_training {
        None => "the ones that training evaluates".to_owned(),
        Some(all) => {
            let all = grouped(all as u64);
            format!("of the {all} that training evaluates: its own figure may differ")
        }
    };
    say(&format!(
        "q8_0: val loss {change:+.4} nats a token, {before:.4} before, over {n_tokens} tokens, \
         {compared}"
    ));
    Ok(())
}

/// The validation tokens that the model's own run used, if they are still there, and that run.
fn validation(opened: &Opened<QuantizedGpt>) -> Result<Option<(TokenDataset, State)>> {
    let Some(state) = checkpoint::state_of(&opened.dir)? else { return Ok(None) };
    let config = &state.config;
    let meta = Meta::find(&config.data_dir, &config.dataset_name, &state.data_fingerprint);
    let tokens = meta.and_then(|meta| meta.open_val(&config.data_dir).ok());
    Ok(tokens.map(|tokens| (tokens, state)))
}

/// What rounding changes.
struct Losses {
    /// In nats a token.
    before: f64,
    after: f64,
    /// Over how many tokens.
    n_tokens: usize,
    /// How many training evaluates, if those are more.
    of_training: Option<usize>,
}

/// The losses of the model and of the rounded one; `None` if the text is shorter than a window.
fn losses(
    opened: &Opened<QuantizedGpt>,
    tokens: &TokenDataset,
    run: &TrainConfig,
    threads: usize,
) -> Result<Option<Losses>> {
    let config = opened.model.config();
    let seq_len = config.block_size;
    let Ok(whole) = EvalSet::new(tokens, run.eval_iters, run.batch_size, seq_len) else {
        return Ok(None);
    };
    // A forward pass is a third of a step.
    let affordable = (3.0 * MAX_FLOPS / config.flops_per_token()) as usize / seq_len;
    let of_training = (whole.n_windows() > affordable).then(|| whole.n_windows() * seq_len);
    let set = match of_training {
        None => whole,
        Some(_) => EvalSet::new(tokens, affordable.max(1), 1, seq_len)?,
    };
    let loss = |gpt: Gpt| {
        let mut gpt = gpt;
        gpt.set_threads(threads);
        let loss = set.loss(&mut gpt, &opened.tokenizer, &mut || ControlFlow::Continue(()))?;
        Ok::<_, anyhow::Error>(loss.map(|loss| loss.nats_per_token))
    };
    let before = loss(hf::read_dir(&opened.dir, &Device::Cpu)?)?;
    let after = loss(opened.model.to_gpt()?)?;
    let n_tokens = set.n_windows() * seq_len;
    let losses = before.zip(after);
    Ok(losses.map(|(before, after)| Losses { before, after, n_tokens, of_training }))
}
