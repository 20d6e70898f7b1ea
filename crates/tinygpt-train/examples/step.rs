//! Times full training steps of one shape on random ids: the TinyGPT half of `bench/steps.py`, also
//! usable by hand
//!
//! ```text
//! echo 20 | cargo run --release --example step -- '{"n_layer":6,"n_head":6,"n_embd":384,
//!     "block_size":256,"batch_size":8,"vocab_size":258,"dropout":0.0,"threads":2}'
//! ```
//!
//! `"device":"cuda"` with `"dtype":"bfloat16"`, `"tf32"` or `"float32"` times a GPU; `"profile":true` adds the
//! time of each kernel and what the GPU reaches at best.
//!
//! A step is zeroed gradients, forward, backward, clipping by the global norm and AdamW. Every line
//! of standard input is a number of steps to make; the answer is a line of JSON with the seconds of
//! each and the last loss. So a driver can run two programs alternately without starting them
//! again. `TINYGPT_SIMD=avx2` or `portable` limits the kernels to that instruction set.
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::env;
use std::error::Error;
use std::io::stdin;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use tinygpt_kernels::simd;
use tinygpt_model::{
    ComputeDevice, ComputeType, DeviceSpec, DropoutKey, Gpt, Grads, KernelTime, ModelConfig, Store,
    TokenBatch,
};
use tinygpt_train::{AdamW, AdamWConfig, clip_factor};

/// What is measured, named as in a run's config.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    n_layer: usize,
    n_head: usize,
    n_embd: usize,
    block_size: usize,
    batch_size: usize,
    vocab_size: usize,
    dropout: f32,
    threads: usize,
    #[serde(default)]
    device: DeviceSpec,
    #[serde(default = "float32")]
    dtype: ComputeType,
    #[serde(default)]
    profile: bool,
}

fn float32() -> ComputeType {
    ComputeType::Float32
}

/// A model in training; every batch is the same.
struct Bench {
    device: ComputeDevice,
    gpt: Gpt,
    grads: Grads,
    optimizer: AdamW,
    ids: Vec<u32>,
    shape: Shape,
}

impl Bench {
    fn new(shape: Shape) -> Result<Self, Box<dyn Error>> {
        let config = ModelConfig {
            vocab_size: shape.vocab_size,
            block_size: shape.block_size,
            n_layer: shape.n_layer,
            n_head: shape.n_head,
            n_embd: shape.n_embd,
            dropout: shape.dropout,
            ..ModelConfig::default()
        };
        let device = ComputeDevice::open(shape.device)?;
        let mut gpt = Gpt::init(config, 1337, &device.tensors())?;
        gpt.set_threads(shape.threads);
        device.place(&mut gpt, shape.dtype)?;
        let optimizer = AdamW::new(AdamWConfig::default(), &gpt);
        // Spread over the vocabulary without a pattern that would favour a cache.
        let id = |i: usize| (((i as u64 * 2_654_435_761) >> 7) % shape.vocab_size as u64) as u32;
        let ids = (0..=shape.batch_size * shape.block_size).map(id).collect();
        Ok(Self { grads: gpt.new_grads()?, optimizer: optimizer?, device, gpt, ids, shape })
    }

    fn step(&mut self) -> Result<f64, Box<dyn Error>> {
        let Self { gpt, grads, optimizer, ids, shape, .. } = self;
        let (batch_size, seq_len) = (shape.batch_size, shape.block_size);
        let (inputs, targets) = (&ids[..batch_size * seq_len], &ids[1..]);
        let batch = TokenBatch { inputs, targets, document_starts: None, batch_size, seq_len };
        let dropout = DropoutKey { seed: 1337, step: optimizer.n_steps(), micro_batch: 0 };
        gpt.accumulate(&batch, Some(dropout), 1.0, Store::Overwrite, grads)?;
        let summary = gpt.summary(grads)?;
        optimizer.step(gpt, grads, 1e-4, clip_factor(summary.norm, 1.0))?;
        Ok(summary.loss)
    }
}

/// The kernels' times and work, and the ceilings of the GPU.
fn profile(device: &ComputeDevice, dtype: ComputeType) -> Result<Value, Box<dyn Error>> {
    let ComputeDevice::Cuda(gpu) = device else { return Ok(Value::Null) };
    let kernel = |time: KernelTime| {
        json!({ "name": time.name, "launches": time.launches, "seconds": time.seconds,
            "bytes": time.work.bytes, "flops": time.work.flops })
    };
    let kernels: Vec<Value> = gpu.kernel_times().into_iter().map(kernel).collect();
    let (bytes_per_second, flops_per_second) = (gpu.copy_ceiling()?, device.peak_flops(1, dtype)?);
    Ok(
        json!({ "kernels": kernels, "bytes_per_second": bytes_per_second, "flops_per_second": flops_per_second }),
    )
}

/// Limits the kernels to the instruction set named in the environment.
fn limit_simd() -> Result<(), Box<dyn Error>> {
    let Ok(wanted) = env::var("TINYGPT_SIMD") else { return Ok(()) };
    let mut known = simd::Level::available();
    let level = known.find(|level| level.name() == wanted);
    simd::limit(
        level.ok_or_else(|| format!("TINYGPT_SIMD is {wanted}, which this machine lacks"))?,
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    limit_simd()?;
    let shape = env::args().nth(1).ok_or("expected a shape as JSON")?;
    let mut bench = Bench::new(serde_json::from_str(&shape)?)?;
    for line in stdin().lines() {
        let n_steps: usize = line?.trim().parse()?;
        let (mut seconds, mut loss) = (Vec::with_capacity(n_steps), f64::NAN);
        let profiled = bench.device.clone();
        if let (ComputeDevice::Cuda(gpu), true) = (&profiled, bench.shape.profile) {
            gpu.profile(true)?;
        }
        for _ in 0..n_steps {
            let start = Instant::now();
            loss = bench.step()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        let mut line = json!({ "seconds": seconds, "loss": loss });
        if let (ComputeDevice::Cuda(gpu), true) = (&profiled, bench.shape.profile) {
            gpu.profile(false)?;
            line["profile"] = profile(&profiled, bench.shape.dtype)?;
        }
        println!("{line}");
    }
    Ok(())
}
