//! `train`: trains a GPT-2 on a prepared dataset. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tinygpt_cli::exit::run(tinygpt_cli::command::train)
}
