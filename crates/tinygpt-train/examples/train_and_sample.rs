//! From text to a trained model to new text: 100 steps on the built-in stories.
//!
//! ```text
//! cargo run --release -p tinygpt-train --example train_and_sample -- [DATA_DIR]
//! ```
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::env;
use std::error::Error;
use std::path::PathBuf;

use tinygpt_data::{Loader, NoProgress, PrepareRequest, Prepared, prepare};
use tinygpt_model::{Device, Gpt, ModelConfig, SamplingParams, generate};
use tinygpt_train::{AdamW, AdamWConfig, physical_cores, train_step};

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = || env::temp_dir().join("tinygpt");
    let data_dir = env::args_os().nth(1).map_or_else(temporary, PathBuf::from);
    println!("{}", train_and_sample(data_dir, 100)?.0);
    Ok(())
}

/// Trains `n_steps` on `tiny_tales`. Returns a sample and the loss of each step.
pub(crate) fn train_and_sample(
    data_dir: PathBuf,
    n_steps: u64,
) -> Result<(String, Vec<f32>), Box<dyn Error>> {
    let request =
        PrepareRequest { dataset_name: "tiny_tales".into(), data_dir, ..Default::default() };
    prepare(&request, &NoProgress)?;
    let data = Prepared::open(&request.data_dir, "tiny_tales", None)?;

    let (batch_size, block_size, vocab_size) = (16, 64, data.tokenizer.vocab_size());
    let config = ModelConfig {
        vocab_size,
        block_size,
        n_layer: 3,
        n_head: 4,
        n_embd: 128,
        ..ModelConfig::default()
    };
    let mut gpt = Gpt::init(config, 1337, &Device::Cpu)?;
    gpt.set_threads(physical_cores());

    let loader = Loader::training(&data.train, batch_size, block_size, 1337)?;
    let mut optimizer = AdamW::new(AdamWConfig::default(), &gpt)?;
    let mut losses = Vec::new();
    for step in 0..n_steps {
        losses.push(train_step(&mut gpt, &mut optimizer, &loader.batch(step)?, 1e-3)?);
        println!("step {step}: loss {:.3}", losses[step as usize]);
    }

    let params = SamplingParams { max_new_tokens: 200, ..SamplingParams::default() };
    let sample = generate(&gpt, &[data.tokenizer.eot_id()], &params)?;
    Ok((data.tokenizer.decode(&sample.tokens)?, losses))
}
