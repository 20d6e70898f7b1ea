//! The flags and keys of the sampling parameters, made from their definitions.
//!
//! [`SamplingParams::RANGES`] has name, help and type of each parameter, so a new one needs nothing
//! here.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use tinygpt_model::{ParamRange, SamplingParams};

use super::super::finite;

/// Values of some of the sampling parameters, each of its parameter's type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingFlags(Map<String, Value>);

impl SamplingFlags {
    /// The default of every parameter.
    pub(super) fn defaults() -> Self {
        let all = serde_json::to_value(SamplingParams::default()).unwrap_or_default();
        let values = SamplingParams::RANGES.map(|it| (it.key.to_owned(), all[it.key].clone()));
        Self(values.into_iter().collect())
    }
}

/// Every key, null if it has no value.
impl Serialize for SamplingFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for range in &SamplingParams::RANGES {
            map.serialize_entry(range.key, self.0.get(range.key).unwrap_or(&Value::Null))?;
        }
        map.end()
    }
}

/// Takes what the other options of `sample` left, so a key that is not known here is not known at all.
impl<'de> Deserialize<'de> for SamplingFlags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut values = Map::deserialize(deserializer)?;
        values.retain(|_, value| !value.is_null());
        for (key, value) in &mut values {
            let range = SamplingParams::range(key);
            let range = range.ok_or_else(|| D::Error::custom(format!("unknown key `{key}`")))?;
            *value = typed(range, value).map_err(D::Error::custom)?;
        }
        Ok(Self(values))
    }
}

/// The value of a parameter; 1 and 1.0 are the same number.
fn typed(range: &ParamRange, value: &Value) -> serde_json::Result<Value> {
    Ok(match range.is_integer {
        true => usize::deserialize(value)?.into(),
        false => f64::deserialize(value)?.into(),
    })
}

impl Args for SamplingFlags {
    fn augment_args(command: Command) -> Command {
        SamplingParams::RANGES.iter().fold(command, |command, range| command.arg(flag_of(range)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SamplingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for range in &SamplingParams::RANGES {
            let value = match range.is_integer {
                true => matches.get_one::<usize>(range.key).copied().map(Value::from),
                false => matches.get_one::<f64>(range.key).copied().map(Value::from),
            };
            self.0.extend(value.map(|value| (range.key.to_owned(), value)));
        }
        Ok(())
    }
}

/// The flag of a parameter.
fn flag_of(range: &'static ParamRange) -> Arg {
    let arg = Arg::new(range.key)
        .long(range.key.replace('_', "-"))
        .help(format!("{}; {}", range.help, range.note))
        .help_heading("Text");
    match range.is_integer {
        true => arg.value_name("N").value_parser(value_parser!(usize)),
        false => arg.value_name("X").value_parser(finite),
    }
}
