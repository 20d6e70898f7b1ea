//! The options of `train`: the keys of [`TrainConfig`] and those of the program itself.
//!
//! Each key is defined once, by [`tinygpt_train::config!`]; flags, help, the config file and
//! `--show-config` are made from that definition. Options hold what was typed, not yet checked
//! against its range.

mod model_shape;
mod recorded;
mod schedule;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use tinygpt_train::{Key, Kind, TrainConfig, TrainError, as_typed, config};

use super::layer::{Faults, Layered, Origin};
use super::sample::serve;
use super::{Options, finite};

config! {
    /// Keys of the program that a `Trainer` does not use.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ProgramConfig {
        "Run" {
            /// Steps between two progress lines
            log_interval: u64 = 10, in AtLeastOne, "N";
            /// Instead of training, check in a temporary directory that N steps, a stop and N more
            /// equal 2 N steps without a stop: weights, moments, counters and losses, bit for bit
            /// [default: train; N is 10 if not given]
            verify_resume: Option<u64> = None, in AtLeastOne, "N";
            /// Instead of training, write `report.html` in the current directory: curves, results and
            /// samples of the runs in these directories, and what differs between them [default: train]
            report: Option<Vec<PathBuf>> = None, "DIR";
            /// Length of the run in training tokens [default: none, max_iters counts]
            max_tokens: Option<u64> = None, in AtLeastOne, "N";
            /// Length of the run in passes over the training split [default: none, max_iters counts]
            max_epochs: Option<f64> = None, in Positive, "X";
            /// Instead of training, time 20 steps and print memory and time of the run
            plan: bool = false;
            /// Instead of training, make up to 100 steps with a rising learning rate, draw the loss
            /// into FILE and print a suggestion [default: train; FILE is find-lr.svg if not given]
            find_lr: Option<PathBuf> = None, "FILE";
            /// Make a run for each combination of the values in a JSON file of keys with lists, in
            /// out/NAME-1, out/NAME-2 and so on, and a table of their results [default: train]
            sweep: Option<PathBuf> = None, "FILE";
            /// Print one line of JSON with the results to standard output at the end, and no sample
            json: bool = false;
        }
        "Server" {
            /// While training, serve a page at ADDR with curves, samples, and a box that generates from
            /// the newest checkpoint [default: off; 127.0.0.1:8080 if no ADDR follows]
            serve: Option<String> = None, "ADDR";
        }
        "Optimizer" {
            /// min_lr as a fraction of learning_rate [default: none, min_lr counts]
            final_lr_frac: Option<f64> = None, in UpToOne, "X";
        }
        "Original" {
            /// nanoGPT's switch: false is the same as --lr-schedule constant
            decay_lr: bool = true;
            /// Accepted if false, for the original's configs: the kernels are compiled already
            compile: bool = false;
            /// Accepted if false, for the original's configs: metrics.jsonl holds every step
            wandb_log: bool = false;
            /// Accepted and unused
            wandb_project: String = "tiny-stories".to_owned(), "NAME";
            /// Accepted and unused
            wandb_run_name: String = "tiny-gpt".to_owned(), "NAME";
        }
    }
}

/// All keys of `train`.
fn keys() -> impl Iterator<Item = &'static Key> {
    TrainConfig::KEYS.iter().chain(ProgramConfig::KEYS)
}

/// Values of some of the keys of `train`, each of its key's type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainOptions(Map<String, Value>);

impl TrainOptions {
    /// The value of `key`; `None` if it has none, or one of another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.0.get(key).and_then(|value| T::deserialize(value).ok())
    }
}

/// Every key, null if it has no value.
impl Serialize for TrainOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for key in keys() {
            map.serialize_entry(key.name, self.0.get(key.name).unwrap_or(&Value::Null))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for TrainOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut values = Map::deserialize(deserializer)?;
        values.retain(|_, value| !value.is_null());
        for (name, value) in &mut values {
            let key = keys().find(|key| key.name == name);
            let key = key.ok_or_else(|| D::Error::custom(format!("unknown key `{name}`")))?;
            key.kind.check(value).map_err(D::Error::custom)?;
            if let (Kind::Number, Some(number)) = (key.kind, value.as_f64()) {
                // 1 and 1.0 are the same.
                *value = number.into();
            }
        }
        Ok(Self(values))
    }
}

impl Args for TrainOptions {
    fn augment_args(command: Command) -> Command {
        keys().fold(command, |command, key| command.arg(flag_of(key)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TrainOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut options = Self::default();
        options.update_from_arg_matches(matches)?;
        Ok(options)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in keys() {
            if matches.value_source(key.name) == Some(ValueSource::CommandLine) {
                self.0.insert(key.name.to_owned(), typed_value(key, matches)?);
            }
        }
        Ok(())
    }
}

/// The flag of a key.
fn flag_of(key: &'static Key) -> Arg {
    let help: Vec<&str> = key.help.iter().map(|line| line.trim()).collect();
    let name = match key.value_name {
        "" => key.name.to_uppercase(),
        name => name.to_owned(),
    };
    let arg = Arg::new(key.name)
        .long(key.name.replace('_', "-"))
        .help(help.join(" "))
        .help_heading(key.heading)
        .value_name(name);
    let arg = match key.kind {
        Kind::Bool => arg.value_parser(value_parser!(bool)),
        Kind::Count => arg.value_parser(value_parser!(u64)),
        Kind::Number => arg.value_parser(finite),
        Kind::Text | Kind::Path => arg.value_parser(value_parser!(String)),
        Kind::Paths => arg.value_parser(value_parser!(String)).num_args(1..),
        Kind::Choice { words, refused } => {
            let hidden = refused.map(|(word, _)| PossibleValue::new(word).hide(true));
            let words = words.iter().copied().map(PossibleValue::new);
            arg.value_parser(PossibleValuesParser::new(words.chain(hidden)))
        }
    };
    match key.name {
        "verify_resume" => arg.num_args(0..=1).default_missing_value("10"),
        "serve" => arg.num_args(0..=1).default_missing_value(serve::DEFAULT_ADDRESS),
        "find_lr" => arg.num_args(0..=1).default_missing_value("find-lr.svg"),
        _ => arg,
    }
}

/// The value that was typed for a key.
fn typed_value(key: &Key, matches: &ArgMatches) -> Result<Value, clap::Error> {
    let value = match key.kind {
        Kind::Bool => matches.get_one::<bool>(key.name).copied().map(Value::from),
        Kind::Count => matches.get_one::<u64>(key.name).copied().map(Value::from),
        Kind::Number => matches.get_one::<f64>(key.name).copied().map(Value::from),
        Kind::Paths => {
            let paths = matches.get_many::<String>(key.name);
            paths.map(|paths| paths.cloned().map(Value::from).collect())
        }
        Kind::Text | Kind::Path | Kind::Choice { .. } => {
            matches.get_one::<String>(key.name).cloned().map(Value::from)
        }
    };
    value.ok_or_else(|| clap::Error::new(ErrorKind::MissingRequiredArgument))
}

impl Options for TrainOptions {
    const BINARY: &'static str = "train";
    const ABOUT: &'static str = "Train a GPT-2 on a prepared dataset.\n\n\
        Without arguments it trains the original's model: tiny_stories, 6 layers, 6 heads, width 384. \
        For stories in three minutes: train --config-file config/quickstart.json\n\
        To fine-tune GPT-2 (124 million parameters, 2.5 GB of memory) on your prepared text: \
        train --config-file config/finetune_gpt2.json --dataset-name NAME";

    /// The defaults of the keys' definitions; only the warm-up and the decay follow `max_iters`.
    fn defaults() -> Self {
        let train = serde_json::to_value(TrainConfig::default()).unwrap_or_default();
        let program = serde_json::to_value(ProgramConfig::default()).unwrap_or_default();
        let all = [train, program].into_iter().filter_map(|value| value.as_object().cloned());
        let is_fixed = |name: &str| !["warmup_iters", "lr_decay_iters"].contains(&name);
        Self(all.flatten().filter(|(name, value)| is_fixed(name) && !value.is_null()).collect())
    }

    fn derive(&mut self) {
        if let Some(max_iters) = self.0.get("max_iters").cloned() {
            self.0.entry("lr_decay_iters").or_insert(max_iters);
        }
        let warmup_iters = TrainConfig::default().warmup_iters;
        self.0.entry("warmup_iters").or_insert_with(|| warmup_iters.into());
    }

    fn fit(layered: &mut Layered<Self>) {
        schedule::fit_shape(layered);
        schedule::fit_horizon(layered);
        fit_warmup(layered);
        fit_min_lr(layered);
        schedule::fit_final_lr(layered);
    }

    fn resume(layered: Layered<Self>) -> anyhow::Result<Layered<Self>> {
        recorded::put_under(layered)
    }
}

/// A warm-up that was not given on the command line is at most as long as a run that was.
fn fit_warmup(layered: &mut Layered<TrainOptions>) {
    let count = |key| layered.options.get::<u64>(key);
    let (Some(max_iters), Some(lr_decay_iters), Some(warmup_iters)) =
        (count("max_iters"), count("lr_decay_iters"), count("warmup_iters"))
    else {
        return;
    };
    let is_flag = |key| layered.origin(key) == Origin::Flag;
    let end = match (is_flag("lr_decay_iters"), is_flag("max_iters")) {
        (false, true) => lr_decay_iters.min(max_iters),
        _ => lr_decay_iters,
    };
    let is_asked = is_flag("lr_decay_iters") || is_flag("max_iters");
    let may_change = match layered.origin("warmup_iters") {
        Origin::Flag | Origin::Checkpoint => false,
        Origin::File => is_asked,
        Origin::Default => true,
    };
    if may_change && warmup_iters > end {
        let place = layered.place("warmup_iters");
        layered.note(format!(
            "warmup_iters is {end} instead of {warmup_iters} ({place}), as the run has only {end} \
             steps"
        ));
        layered.fit("warmup_iters", end.into());
    }
}

/// Lowers `min_lr` if a learning rate below it was given on the command line.
fn fit_min_lr(layered: &mut Layered<TrainOptions>) {
    let number = |key| layered.options.get::<f64>(key);
    let (Some(learning_rate), Some(min_lr)) = (number("learning_rate"), number("min_lr")) else {
        return;
    };
    let is_flag = |key| layered.origin(key) == Origin::Flag;
    let is_below = learning_rate > 0.0 && learning_rate < min_lr;
    if is_below && is_flag("learning_rate") && !is_flag("min_lr") {
        let (tenth, place) = (learning_rate / 10.0, layered.place("min_lr"));
        // Rounded, so that it prints as 3e-6, not 3.0000000000000001e-6.
        let tenth = format!("{tenth:.3e}").parse().unwrap_or(tenth);
        layered.note(format!(
            "min_lr is {} instead of {} ({place}), a tenth of learning_rate",
            as_typed(tenth),
            as_typed(min_lr)
        ));
        layered.fit("min_lr", tenth.into());
    }
}

/// What `train` can do instead of training is done alone, and nothing is served meanwhile.
fn check_instead(
    faults: &mut Faults<'_, TrainOptions>,
    config: &TrainConfig,
    program: &ProgramConfig,
) {
    let asked: Vec<&str> = [
        ("eval_only", config.eval_only),
        ("verify_resume", program.verify_resume.is_some()),
        ("plan", program.plan),
        ("find_lr", program.find_lr.is_some()),
        ("sweep", program.sweep.is_some()),
        ("report", program.report.is_some()),
    ]
    .into_iter()
    .filter_map(|(key, is_asked)| is_asked.then_some(key))
    .collect();
    let Some(first) = asked.first() else { return };
    let flag = format!("--{}", first.replace('_', "-"));
    for key in &asked[1..] {
        faults.conflict(key, &flag, "each is done instead of training");
    }
    if program.serve.is_some() {
        faults.conflict("serve", &flag, "only a run that trains is served");
    }
}

fn check_values(faults: &mut Faults<'_, TrainOptions>, program: &ProgramConfig) {
    if let Some(dirs) = &program.report {
        let is_empty = dirs.is_empty() || dirs.iter().any(|dir| dir.as_os_str().is_empty());
        faults.unless(!is_empty, "report", "the directories of one or more runs");
    }
    if let Some(address) = &program.serve {
        faults.unless(serve::address(address).is_some(), "serve", serve::EXPECTED);
    }
}

impl ProgramConfig {
    /// Where to serve the run, if it is to be served.
    pub fn serve_address(&self) -> Option<SocketAddr> {
        serve::address(self.serve.as_deref()?)
    }
}

impl Layered<TrainOptions> {
    /// The options of the trainer and those of the program.
    ///
    /// # Errors
    /// All faults that can be found without the data, at once, as a
    /// [`UsageError`](crate::usage::UsageError).
    pub fn resolve(&self) -> anyhow::Result<(TrainConfig, ProgramConfig)> {
        let mut faults = Faults::of(self);
        let config: TrainConfig = self.part(TrainConfig::KEYS, &mut faults);
        let program: ProgramConfig = self.part(ProgramConfig::KEYS, &mut faults);
        faults.threads(config.threads);
        match config.validate() {
            Err(TrainError::Config(found)) => faults.extend(&found),
            other => other?,
        }
        faults.extend(&program.out_of_range());
        check_values(&mut faults, &program);
        check_instead(&mut faults, &config, &program);
        faults.unless(!program.compile, "compile", "false: the kernels are compiled already");
        let expected = "false: the curves are in `out_dir`, as metrics.jsonl and loss.svg";
        faults.unless(!program.wandb_log, "wandb_log", expected);
        schedule::check(self, &mut faults);
        faults.into_result()?;
        Ok((config, program))
    }

    /// The configuration with these `keys`. A text that cannot be parsed is a fault, and the key
    /// keeps its default.
    fn part<C: DeserializeOwned + Default>(
        &self,
        keys: &[Key],
        faults: &mut Faults<'_, TrainOptions>,
    ) -> C {
        let mut values = Map::new();
        for key in keys {
            let Some(value) = self.options.0.get(key.name) else { continue };
            let alone = Map::from_iter([(key.name.to_owned(), value.clone())]);
            match serde_json::from_value::<C>(alone.into()) {
                Ok(_) => _ = values.insert(key.name.to_owned(), value.clone()),
                Err(error) => {
                    let choices = key.kind.instead_of(value);
                    faults.add(key.name, &choices.unwrap_or_else(|| error.to_string()));
                }
            }
        }
        // Each key was accepted alone.
        serde_json::from_value(values.into()).unwrap_or_default()
    }

    /// The program's own keys with their values, for checkpoints.
    pub fn program_values(&self) -> Map<String, Value> {
        let names = ProgramConfig::KEYS.iter().map(|key| key.name);
        names
            .filter(|name| !recorded::NOT_RECORDED.contains(name))
            .filter_map(|name| Some((name.to_owned(), self.options.0.get(name)?.clone())))
            .collect()
    }
}
