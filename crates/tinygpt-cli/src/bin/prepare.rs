//! `prepare`: turns text into a tokenizer and shards of token ids. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tinygpt_cli::exit::run(tinygpt_cli::command::prepare)
}
