//! Encoding and training of tokenizers on a text in memory, timed: our half of `bench/data.py`
//!
//! ```text
//! echo 3 | cargo run --example text_speed -- '{"task":"encode","tokenizer":"tokenizer.json",
//!     "text":"stories.txt","threads":1}'
//! ```
//!
//! `task` is `encode` or, with `encoding` and `vocab_size`, `learn`. Documents end with a line
//! `<|endoftext|>`. Every line of standard input is how often to do it; the answer is a line of
//! JSON with the seconds of each, and how many ids there are or the SHA-256 of the merges. With
//! `{"task":"tales","n":N}` it prints N stories of the embedded dataset and ends.
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufWriter, Write, stdin, stdout};
use std::path::PathBuf;
use std::time::Instant;

use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tinygpt_data::tales::Tales;
use tinygpt_data::{END_OF_TEXT, Encoding, Tokenizer};

/// What is measured.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase", tag = "task")]
enum Task {
    Encode {
        tokenizer: PathBuf,
        text: PathBuf,
        threads: usize,
    },
    Learn {
        encoding: Encoding,
        vocab_size: usize,
        text: PathBuf,
        threads: usize,
        /// A folder for the tokenizer.
        save: Option<PathBuf>,
    },
    Tales {
        n: usize,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let given = env::args().nth(1).ok_or("expected a task as JSON, see the top of this file")?;
    match serde_json::from_str(&given)? {
        Task::Encode { tokenizer, text, threads } => {
            let tokenizer = Tokenizer::from_path(tokenizer)?;
            if let Some(reason) = tokenizer.slow_because() {
                return Err(format!("not our own encoder: {reason}").into());
            }
            take_turns(text, threads, |documents| Ok(json!(encode(&tokenizer, documents)?)))
        }
        Task::Learn { encoding, vocab_size, text, threads, save } => {
            take_turns(text, threads, |texts| {
                let tokenizer = Tokenizer::train(encoding, texts, vocab_size)?;
                if let Some(dir) = &save {
                    fs::create_dir_all(dir)?;
                    tokenizer.save(dir)?;
                }
                Ok(json!(merges_sha256(&tokenizer)?))
            })
        }
        Task::Tales { n } => {
            let mut out = BufWriter::new(stdout().lock());
            for tale in Tales::new(1337).train(n) {
                write!(out, "{tale}\n{END_OF_TEXT}\n")?;
            }
            Ok(out.flush()?)
        }
    }
}

/// Does the work as often as each line of standard input says.
fn take_turns(
    text: PathBuf,
    threads: usize,
    work: impl Fn(&[&str]) -> Result<Value, Box<dyn Error + Send + Sync>> + Sync,
) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(text)?;
    let separator = format!("\n{END_OF_TEXT}\n");
    let documents: Vec<&str> = text.split(&separator).filter(|text| !text.is_empty()).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    for line in stdin().lines() {
        let (mut seconds, mut result) = (Vec::new(), Value::Null);
        for _ in 0..line?.trim().parse::<usize>()? {
            let start = Instant::now();
            result = pool.install(|| work(&documents)).map_err(|error| error.to_string())?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        println!("{}", json!({ "seconds": seconds, "result": result }));
    }
    Ok(())
}

/// Encodes all documents and returns the number of ids.
fn encode(
    tokenizer: &Tokenizer,
    documents: &[&str],
) -> Result<usize, Box<dyn Error + Send + Sync>> {
    let groups: Result<Vec<usize>, _> = documents
        .par_chunks(256)
        .map(|group| -> Result<usize, tinygpt_data::DataError> {
            let (mut encoder, mut ids, mut n_ids) = (tokenizer.encoder(), Vec::new(), 0);
            for text in group {
                ids.clear();
                encoder.encode_into(text, &mut ids)?;
                n_ids += ids.len();
            }
            Ok(n_ids)
        })
        .collect();
    Ok(groups?.into_iter().sum())
}

/// The SHA-256 of the merges, each as two tokens, a space between and a new line after them.
fn merges_sha256(tokenizer: &Tokenizer) -> Result<String, Box<dyn Error + Send + Sync>> {
    let json: Value = serde_json::from_str(tokenizer.json())?;
    let mut hash = Sha256::new();
    for merge in json["model"]["merges"].as_array().into_iter().flatten() {
        let token = |at: usize| merge[at].as_str().unwrap_or_default();
        hash.update(format!("{} {}\n", token(0), token(1)));
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
