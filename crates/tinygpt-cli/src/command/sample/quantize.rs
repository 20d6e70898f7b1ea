//! `sample --quantize`: reports the loss before and after rounding, if validation data is available.

use std::ops::ControlFlow;

use anyhow::Result;
use candle_core::Device;
use tinygpt_data::{Meta, TokenDataset};
use tinygpt_model::{Gpt, Model as _, QuantizedGpt, hf};
use tinygpt_train::checkpoint::{self, State};
use tinygpt_train::{EvalSet, TrainConfig};

use super::load::LoadedModel;
use crate::terminal::{grouped, say};

/// Most floating-point operations for one loss: a few seconds.
const MAX_FLOPS: f64 = 3e11;

/// Reports how rounding changes the loss. The model is in memory as f32 meanwhile.
///
/// It uses the windows that training evaluates, so that the loss before rounding is the one that
/// training printed; for a large model only some of them, and the report says so.
///
/// # Errors
/// A model that cannot be read, or computed with.
pub(super) fn report_loss(loaded: &LoadedModel<QuantizedGpt>, threads: usize) -> Result<()> {
    let losses = match validation(loaded)? {
        Some((tokens, state)) => losses(loaded, &tokens, &state.config, threads)?,
        None => None,
    };
    let Some(Losses { before, after, n_tokens, of_training }) = losses else {
        say("q8_0: no validation data to measure the loss with");
        return Ok(());
    };
    let change = after - before;
    let n_tokens = grouped(n_tokens as u64);
    let compared = match of_training {
        None => "the same as in training".to_owned(),
        Some(all) => {
            let all = grouped(all as u64);
            format!("of {all} in training: its loss may differ")
        }
    };
    say(&format!(
        "q8_0: val loss {change:+.4} nats per token, {before:.4} before, over {n_tokens} tokens, \
         {compared}"
    ));
    Ok(())
}

/// The validation tokens of the model's run, if they still exist, and its state.
fn validation(loaded: &LoadedModel<QuantizedGpt>) -> Result<Option<(TokenDataset, State)>> {
    let Some(state) = checkpoint::state_of(&loaded.dir)? else { return Ok(None) };
    let config = &state.config;
    let meta = Meta::find(&config.data_dir, &config.dataset_name, &state.data_fingerprint);
    let tokens = meta.and_then(|meta| meta.open_val(&config.data_dir).ok());
    Ok(tokens.map(|tokens| (tokens, state)))
}

/// The losses before and after rounding.
struct Losses {
    /// In nats per token.
    before: f64,
    after: f64,
    /// Evaluated tokens.
    n_tokens: usize,
    /// Tokens that training evaluates, if they are more.
    of_training: Option<usize>,
}

/// Computes the losses; `None` if the text is shorter than a window.
fn losses(
    loaded: &LoadedModel<QuantizedGpt>,
    tokens: &TokenDataset,
    run: &TrainConfig,
    threads: usize,
) -> Result<Option<Losses>> {
    let config = loaded.model.config();
    let seq_len = config.block_size;
    let rows = (run.rows, loaded.tokenizer.eot_id());
    let set = |n, batch_size| EvalSet::new(rows, tokens, n, (batch_size, seq_len));
    let Ok(whole) = set(run.eval_iters, run.batch_size) else {
        return Ok(None);
    };
    // A forward pass is a third of a step.
    let affordable = (3.0 * MAX_FLOPS / config.flops_per_token()) as usize / seq_len;
    let of_training = (whole.n_windows() > affordable).then(|| whole.n_windows() * seq_len);
    let set = match of_training {
        None => whole,
        Some(_) => set(affordable.max(1), 1)?,
    };
    let loss = |gpt: Gpt| {
        let mut gpt = gpt;
        gpt.set_threads(threads);
        let loss = set.loss(&mut gpt, &loaded.tokenizer, &mut || ControlFlow::Continue(()))?;
        Ok::<_, anyhow::Error>(loss.map(|loss| loss.nats_per_token))
    };
    let before = loss(hf::read_dir(&loaded.dir, &Device::Cpu)?)?;
    let after = loss(Gpt::from_quantized(&loaded.model)?)?;
    let n_tokens = set.n_windows() * seq_len;
    let losses = before.zip(after);
    Ok(losses.map(|(before, after)| Losses { before, after, n_tokens, of_training }))
}
