//! The command line of a binary: its options struct as flags, in the same form for all three.
//!
//! Every flag is `--kebab-case`, also accepts `--snake_case`, and shows its default in `--help`.
//! Booleans are `--flag`, `--flag true` or `--flag=false`, so that a flag can undo the file.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser};
use serde_json::Value;
use tinygpt_data::{MAX_QUOTED, excerpt};

use crate::options::{ConfigFile, Layered, Options};
use crate::usage::UsageError;

/// The flags of a binary and the two that all binaries share.
#[derive(Debug, Parser)]
#[command(version)]
pub struct CommandLine<O: Args> {
    /// The binary's own flags.
    #[command(flatten)]
    pub flags: O,
    /// JSON file of the same keys in snake_case; flags overrule it
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub config_file: Option<PathBuf>,
    /// Print every value and whether it comes from default, file or flag, and do nothing else
    #[arg(long, help_heading = "Configuration")]
    pub show_config: bool,
}

/// The clap command of the binary of `O`.
pub fn command<O: Options>() -> clap::Command {
    let defaults = serde_json::to_value(O::defaults()).unwrap_or_default();
    CommandLine::<O>::command()
        .name(O::BINARY)
        .bin_name(O::BINARY)
        .about(O::ABOUT)
        .max_term_width(100)
        // The last of two equal flags counts, so that flags can be appended to a command.
        .args_override_self(true)
        .mut_args(|arg| complete(arg, &defaults))
}

/// Adds the default to the help, the snake_case alias, and the optional value of booleans.
fn complete(arg: Arg, defaults: &Value) -> Arg {
    let Some(flag) = arg.get_long().map(str::to_owned) else { return arg };
    let key = flag.replace('-', "_");
    let is_bool = arg.get_value_parser().type_id() == TypeId::of::<bool>();
    let mut arg = arg.hide_possible_values(is_bool);
    if let Some(default) = defaults.get(&key).filter(|value| !value.is_null()) {
        let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        let help = arg.get_help().map(StyledStr::to_string).unwrap_or_default();
        arg = arg.help(format!("{help} [default: {default}]"));
    }
    if is_bool && arg.get_action().takes_values() {
        arg = arg.value_name("BOOL").num_args(0..=1).default_missing_value("true");
    }
    let snake_case = arg.get_id().clone();
    let arg = arg.allow_negative_numbers(true);
    if snake_case.as_str() == flag { arg } else { arg.alias(snake_case) }
}

/// What to do.
#[derive(Debug)]
pub enum Invocation<O> {
    /// Run with these options.
    Run(Layered<O>),
    /// Print the configuration and stop.
    ShowConfig(Layered<O>),
}

/// Why the program ends after parsing.
#[derive(Debug)]
pub enum NoRun {
    /// `--help`, `--version`, or flags that clap refuses; clap prints the message.
    Clap(clap::Error),
    /// A config file that cannot be used.
    Usage(UsageError),
}

/// Parses a whole command line, the binary's name first, and reads its config file.
///
/// # Errors
/// [`NoRun`] if the flags or the file are wrong, or for `--help` and `--version`.
pub fn parse<O, I>(args: I) -> Result<Invocation<O>, NoRun>
where
    O: Options,
    I: IntoIterator<Item = OsString>,
{
    let mut command = command::<O>();
    let matches = command.try_get_matches_from_mut(args);
    let matches = matches.map_err(|error| NoRun::Clap(shortened(error)))?;
    let line = CommandLine::<O>::from_arg_matches(&matches)
        .map_err(|error| NoRun::Clap(shortened(error.format(&mut command))))?;
    let file = line.config_file.as_deref().map(ConfigFile::read::<O>).transpose();
    let layered = file.and_then(|file| Layered::new(&line.flags, file)).map_err(NoRun::Usage)?;
    Ok(if line.show_config { Invocation::ShowConfig(layered) } else { Invocation::Run(layered) })
}

/// The same error with long flags and values shortened.
fn shortened(mut error: clap::Error) -> clap::Error {
    let long: Vec<(ContextKind, String)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) if text.chars().nth(MAX_QUOTED).is_some() => {
                Some((kind, excerpt(text).into_owned()))
            }
            _ => None,
        })
        .collect();
    for (kind, text) in long {
        error.insert(kind, ContextValue::String(text));
    }
    error
}
