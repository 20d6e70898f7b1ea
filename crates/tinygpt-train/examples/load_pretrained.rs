//! Continues a prompt with a GPT-2 in a Hugging Face directory: weights, `config.json`, tokenizer.
//!
//! ```text
//! cargo run --release -p tinygpt-train --example load_pretrained -- MODEL_DIR "Once upon a time"
//! ```
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::env;
use std::error::Error;
use std::path::Path;

use tinygpt_data::Tokenizer;
use tinygpt_model::{Device, SamplingParams, generate, hf};
use tinygpt_train::physical_cores;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(model), Some(prompt)) = (args.next(), args.next()) else {
        return Err("expected the directory of a model and a prompt".into());
    };
    println!("{prompt}{}", continue_prompt(model.as_ref(), &prompt, 100)?);
    Ok(())
}

/// At most `max_new_tokens` that the model in `model_dir` writes after `prompt`.
pub(crate) fn continue_prompt(
    model_dir: &Path,
    prompt: &str,
    max_new_tokens: usize,
) -> Result<String, Box<dyn Error>> {
    let tokenizer = Tokenizer::from_path(model_dir)?;
    let mut gpt = hf::read_dir(model_dir, &Device::Cpu)?;
    gpt.set_threads(physical_cores());
    let params = SamplingParams {
        max_new_tokens,
        eos: hf::read_special_tokens(model_dir)?.and_then(|special| special.eos),
        vocab_size: Some(tokenizer.vocab_size()),
        ..SamplingParams::default()
    };
    let sample = generate(&gpt, &tokenizer.encode(prompt)?, &params)?;
    Ok(tokenizer.decode(&sample.tokens)?)
}
