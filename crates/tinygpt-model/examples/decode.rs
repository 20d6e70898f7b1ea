//! Decoding with a checkpoint, timed: our half of `bench/decode.py`, and by hand
//!
//! ```text
//! echo 100 | cargo run --release --example decode -- '{"prompt":[1,2,3],"samples":1,"threads":2}' DIR
//! ```
//!
//! Every line of standard input is a number of tokens to make after the prompt. One sample is
//! greedy; the answer is a line of JSON with its ids, the seconds of each token but the first and
//! the gaps between the two best logits. Several are drawn at temperature 0.8 and top-k 200; the answer has the
//! seconds that one token of all samples took, with the prompt's share.
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::env;
use std::error::Error;
use std::io::stdin;
use std::path::Path;
use std::time::Instant;

use candle_core::Device;
use serde::Deserialize;
use serde_json::{Value, json};
use tinygpt_model::{Model, Sampler, SamplingParams, generate_samples, hf};

/// What is measured.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    prompt: Vec<u32>,
    samples: u64,
    threads: usize,
    /// Whether the weights are rounded to 8 bits.
    #[serde(default)]
    quantize: bool,
}

/// One greedy sample, through the decoder itself, for the logits.
fn one(model: &dyn Model, given: &Given, params: &SamplingParams) -> Result<Value, Box<dyn Error>> {
    let mut decoder = model.decoder(1)?;
    let mut sampler = Sampler::new(params, 0);
    decoder.prefill(&[0], &given.prompt)?;
    let (mut seconds, mut ids, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    for position in 0..params.max_new_tokens {
        let start = Instant::now();
        if let Some(id) = ids.last() {
            decoder.decode(&[(0, *id)])?;
        }
        ids.extend(sampler.choose(decoder.logits(0), position as u64)?);
        if position > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
        gaps.push(gap(decoder.logits(0)));
    }
    Ok(json!({ "seconds": seconds, "ids": ids, "gaps": gaps }))
}

/// How far the largest logit is above the next.
fn gap(logits: &[f32]) -> f32 {
    let two = logits.iter().fold([f32::NEG_INFINITY; 2], |[first, second], &logit| {
        if logit > first { [logit, first] } else { [first, second.max(logit)] }
    });
    two[0] - two[1]
}

fn several(
    model: &dyn Model,
    given: &Given,
    params: &SamplingParams,
) -> Result<Value, Box<dyn Error>> {
    let params = SamplingParams { temperature: 0.8, top_k: 200, ..params.clone() };
    let start = Instant::now();
    generate_samples(model, &given.prompt, &params, 0..given.samples)?;
    Ok(json!({ "seconds": [start.elapsed().as_secs_f64() / params.max_new_tokens as f64] }))
}

fn open(dir: &Path, given: &Given) -> Result<Box<dyn Model>, Box<dyn Error>> {
    if given.quantize {
        let mut model = hf::read_quantized(dir)?;
        model.set_decode_threads(given.threads);
        return Ok(Box::new(model));
    }
    let mut model = hf::read_dir(dir, &Device::Cpu)?;
    model.set_decode_threads(given.threads);
    Ok(Box::new(model))
}

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "expected what to do as JSON, then the checkpoint's directory";
    let given: Given = serde_json::from_str(&env::args().nth(1).ok_or(usage)?)?;
    let dir = env::args().nth(2).ok_or(usage)?;
    let model = open(Path::new(&dir), &given)?;
    for line in stdin().lines() {
        let params = SamplingParams {
            temperature: 0.0,
            max_new_tokens: line?.trim().parse()?,
            ..SamplingParams::unfiltered()
        };
        let work = if given.samples == 1 { one } else { several };
        println!("{}", work(&*model, &given, &params)?);
    }
    Ok(())
}
