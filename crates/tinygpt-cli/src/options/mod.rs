//! The options of each binary: one struct of `Option`s per binary, filled by flags and by the
//! config file, so that a flag and its key cannot drift apart.
//!
//! The structs only hold what was typed. [`Layered`] puts flags over file over defaults; the
//! `resolve` of each struct then interprets it. Only [`Options::resume`] reads the disk.

mod config_file;
mod layer;
mod prepare;
mod read_config;
mod sample;
mod train;

pub use config_file::ConfigFile;
pub use layer::{Faults, Layered, Origin};
pub use prepare::PrepareOptions;
pub use read_config::{known_keys, owners, quoted};
pub use sample::{
    Export, ExportFormat, Grade, Quantization, SampleOptions, SampleSettings, SamplingFlags,
    ScoreSource, ServeSettings, Start,
};
pub use train::{ProgramConfig, TrainOptions};

use std::error::Error;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::{Serialize, de::DeserializeOwned};

/// The options of one binary: every field is an `Option`, `None` if it is not set here.
pub trait Options: clap::Args + Serialize + DeserializeOwned {
    /// Name of the binary, as typed after `cargo run --bin`.
    const BINARY: &'static str;
    /// What the binary does, for the top of `--help`.
    const ABOUT: &'static str;

    /// Keys whose values `--show-config` does not print.
    const SECRETS: &'static [&'static str] = &[];

    /// The default of every key.
    ///
    /// A key left `None` has no fixed default; its help text describes what happens then.
    fn defaults() -> Self;

    /// Fills in what follows from other options after all layers are merged.
    fn derive(&mut self) {}

    /// Adapts values that were not given on the command line to those that were, with a note.
    fn fit(_layered: &mut Layered<Self>) {}

    /// Puts the configuration stored in a checkpoint under the options, if they ask to resume a
    /// run.
    ///
    /// # Errors
    /// If there is nothing to resume, or it cannot be read.
    fn resume(layered: Layered<Self>) -> anyhow::Result<Layered<Self>> {
        Ok(layered)
    }
}

/// Parses one of `words`, which a library's own `FromStr` knows.
fn word_of<T>(words: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Into<Box<dyn Error + Send + Sync>>> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

/// Parses a flag's number and refuses `NaN` and infinities, which JSON cannot express either.
fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err("expected a finite number".to_owned()),
        Err(_) => Err("expected a number such as 0.1 or 1e-3".to_owned()),
    }
}
