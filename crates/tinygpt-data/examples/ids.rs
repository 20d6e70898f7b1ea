//! Prints the token ids of a text, as JSON: a look at what a tokenizer does, and the tokenizer's
//! half of the check against `transformers` in `tinygpt-model/tests/interop`.
//!
//! `cargo run -p tinygpt-data --example ids -- DIR "Once upon a time"` prints `[…]`, where DIR holds
//! a `tokenizer.json`.
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::env;
use std::error::Error;

use tinygpt_data::Tokenizer;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [dir, text] = args.as_slice() else {
        return Err("expected a directory with a tokenizer.json and a text".into());
    };
    let ids = Tokenizer::from_dir(dir)?.encode(text)?;
    println!("{}", serde_json::json!(ids));
    Ok(())
}
