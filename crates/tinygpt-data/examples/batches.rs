//! Times the loader: how long windows take from the shards into the arrays of a step.
//!
//! `cargo run -p tinygpt-data --example batches -- DATA_DIR NAME` with a prepared dataset prints,
//! for some shapes, the time of a batch and the tokens a second. Held against a training step it
//! says what share of the step the loader takes.
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use tinygpt_data::{Loader, Prepared};

/// The shapes that are timed: windows in a batch, tokens in a window.
const SHAPES: [(usize, usize); 4] = [(12, 64), (32, 128), (8, 256), (64, 1024)];

/// How many tokens are read for a shape.
const N_TOKENS: usize = 1 << 25;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [data_dir, name] = args.as_slice() else {
        return Err("expected the data directory and the name of a prepared dataset".into());
    };
    let data = Prepared::open(Path::new(data_dir), name, None)?.train;
    println!("{} tokens", data.len());
    for (batch_size, block_size) in SHAPES {
        let loader = Loader::training(&data, batch_size, block_size, 1337)?;
        let n_batches = N_TOKENS / (batch_size * block_size);
        let begin = Instant::now();
        for batch_idx in 0..n_batches {
            black_box(loader.batch(batch_idx as u64)?);
        }
        let seconds = begin.elapsed().as_secs_f64() / n_batches as f64;
        let speed = (batch_size * block_size) as f64 / seconds / 1e6;
        let micros = seconds * 1e6;
        println!("B {batch_size}, T {block_size}: {micros:.1} µs a batch, {speed:.0} M tokens/s");
    }
    Ok(())
}
