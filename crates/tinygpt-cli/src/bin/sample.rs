//! `sample`: generates text with a trained model. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tinygpt_cli::exit::run(tinygpt_cli::command::sample)
}
