//! A training loop of your own: gradient accumulation, clipping, a learning-rate schedule, dropout,
//! and the model saved for [`load_pretrained`](load_pretrained.rs) and `transformers`.
//!
//! ```text
//! cargo run --release -p tinygpt-train --example custom_loop -- TEXT_FILE MODEL_DIR
//! ```
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

use tinygpt_data::{Encoding, Loader, TokenDataset, Tokenizer};
use tinygpt_model::hf::{self, SpecialTokens};
use tinygpt_model::{Device, DropoutKey, Gpt, ModelConfig, Store};
use tinygpt_train::schedule::{LrSchedule, Schedule, learning_rate};
use tinygpt_train::{AdamW, AdamWConfig, clip_factor, physical_cores, token_batch};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1);
    let (Some(text), Some(model)) = (args.next(), args.next()) else {
        return Err("expected the path of a text and the directory for the model".into());
    };
    train(&fs::read_to_string(text)?, model.as_ref(), 200)?;
    Ok(())
}

/// Trains on `text` and writes the model to `model_dir`. Returns the loss of each step.
pub(crate) fn train(
    text: &str,
    model_dir: &Path,
    n_steps: u64,
) -> Result<Vec<f32>, Box<dyn Error>> {
    let tokenizer = Tokenizer::train(Encoding::Bpe, &[text], 512)?;
    let tokens = TokenDataset::from_ids(tokenizer.encode(text)?);
    let config = ModelConfig {
        vocab_size: tokenizer.vocab_size(),
        block_size: 32,
        n_layer: 2,
        n_head: 2,
        n_embd: 64,
        dropout: 0.1,
        ..ModelConfig::default()
    };
    let (seed, batch_size, n_micro_batches) = (1337, 8, 4);
    let loader = Loader::training(&tokens, batch_size, config.block_size, seed)?;
    let mut gpt = Gpt::init(config, seed, &Device::Cpu)?;
    gpt.set_threads(physical_cores());
    let mut optimizer = AdamW::new(AdamWConfig::default(), &gpt)?;
    let mut grads = gpt.new_grads()?;
    let schedule = Schedule {
        lr_schedule: LrSchedule::Cosine,
        learning_rate: 3e-3,
        min_lr: 3e-4,
        warmup_iters: n_steps / 10,
        lr_decay_iters: n_steps,
        warmdown_ratio: 0.2,
    };

    let mut losses = Vec::new();
    for step in 0..n_steps {
        let mut mean_loss = 0.0;
        for micro_batch in 0..n_micro_batches {
            let batch = loader.batch(step * n_micro_batches + micro_batch)?;
            let dropout = Some(DropoutKey { seed, step, micro_batch });
            let store = if micro_batch == 0 { Store::Overwrite } else { Store::Accumulate };
            // The gradient of the mean over all micro-batches.
            let scale = 1.0 / n_micro_batches as f32;
            mean_loss +=
                scale * gpt.backward(&token_batch(&batch), dropout, scale, store, &mut grads)?;
        }
        let norm = grads.global_norm(gpt.params())?;
        let lr = learning_rate(step, &schedule);
        optimizer.step(&mut gpt, &grads, lr, clip_factor(norm, 1.0))?;
        println!(
            "step {step}: loss {mean_loss:.3}, gradient norm {norm:.2}, learning rate {lr:.1e}"
        );
        losses.push(mean_loss);
    }

    fs::create_dir_all(model_dir)?;
    let eot = tokenizer.eot_id();
    hf::write_dir(&gpt, model_dir, &SpecialTokens { bos: eot, eos: Some(eot) })?;
    tokenizer.save_with_model(model_dir, gpt.config().block_size)?;
    Ok(losses)
}
