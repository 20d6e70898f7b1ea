//! The command line of TinyGPT: what the binaries `prepare`, `train` and `sample` share.
//!
//! The only crate that reads flags, prints, draws progress bars and decides exit codes. It trains
//! nothing and knows no tensor: it turns what was typed into a request to the libraries
//! ([`options`], [`layer`]), shows how it goes, and turns the end into a message ([`exit`]).

pub mod args;
pub mod command;
pub mod config_file;
pub mod exit;
pub mod hints;
pub mod hub_environment;
pub mod layer;
pub mod line;
pub mod memory;
pub mod options;
pub mod pool;
pub mod progress;
pub mod signals;
pub mod terminal;
pub mod usage;
