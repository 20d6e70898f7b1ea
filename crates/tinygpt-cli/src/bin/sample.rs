//! `sample`: lets a trained model write. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tinygpt_cli::exit::run(tinygpt_cli::command::sample)
}
