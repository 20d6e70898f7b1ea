//! Prints what a model directory computes for some token ids, as JSON: the other half of
//! `tests/interop/check_transformers.py`, and a look at a model without any tokenizer.
//!
//! `cargo run -p tinygpt-model --example logits -- DIR 1 2 3` prints `{"ids": […], "logits": [[…]]}`;
//! `… --example logits -- --init DIR` writes small fresh models into `DIR/bias` and `DIR/no_bias`.
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

use candle_core::Device;
use tinygpt_model::hf::{self, SpecialTokens};
use tinygpt_model::{Gpt, ModelConfig, host};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.as_slice() {
        [flag, dir] if flag == "--init" => write_models(Path::new(dir)),
        [dir, ids @ ..] if !ids.is_empty() => print_logits(Path::new(dir), ids),
        _ => Err("expected a model directory and token ids, or --init and a directory".into()),
    }
}

fn print_logits(dir: &Path, ids: &[String]) -> Result<(), Box<dyn Error>> {
    let ids = ids.iter().map(|id| id.parse()).collect::<Result<Vec<u32>, _>>()?;
    let mut gpt = hf::read_dir(dir, &Device::Cpu)?;
    let logits = gpt.logits(&ids, 1, ids.len())?;
    let rows: Vec<&[f32]> = logits.chunks(gpt.config().vocab_size).collect();
    println!("{}", serde_json::json!({ "ids": ids, "logits": rows }));
    Ok(())
}

fn write_models(dir: &Path) -> Result<(), Box<dyn Error>> {
    for (name, bias) in [("bias", true), ("no_bias", false)] {
        let config = ModelConfig {
            vocab_size: 70,
            block_size: 24,
            n_layer: 3,
            n_head: 4,
            n_embd: 48,
            dropout: 0.1,
            bias,
            ..ModelConfig::default()
        };
        let gpt = Gpt::init(config, 7, &Device::Cpu)?;
        // Far from init, so that a bias or a gain that gets lost is seen.
        for (seed, (_, tensor)) in gpt.params().iter().enumerate() {
            host::write(tensor, |w| {
                for (i, w) in w.iter_mut().enumerate() {
                    *w = 4.0 * *w + 0.03 * ((i * i + 31 * seed) as f32).sin();
                }
            })?;
        }
        let out = dir.join(name);
        fs::create_dir_all(&out)?;
        hf::write_dir(&gpt, &out, &SpecialTokens { bos: 69, eos: Some(69) })?;
    }
    Ok(())
}
