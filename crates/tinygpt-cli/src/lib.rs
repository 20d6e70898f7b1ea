//! The command line of TinyGPT: what the binaries `prepare`, `train` and `sample` share.
//!
//! The only crate that reads flags, prints, draws progress bars and chooses exit codes. It turns the
//! command line into a request to the libraries ([`options`]), shows the progress, and
//! turns the result into a message and an exit code ([`exit`]).

pub mod args;
pub mod command;
pub mod device;
pub mod exit;
pub mod hints;
pub mod hub_environment;
pub mod line;
pub mod memory;
pub mod options;
pub mod pool;
pub mod progress;
pub mod ranks;
pub mod signals;
pub mod terminal;
pub mod usage;
