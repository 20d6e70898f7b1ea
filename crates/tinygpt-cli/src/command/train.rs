//! `train`: opens device and data, trains, and ends with a story.

mod conclude;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tinygpt_data::{DataError, Encoding, PrepareRequest, Prepared, Recipe, SourceSpec};
use tinygpt_model::DeviceSpec;
use tinygpt_train::{
    InitFrom, StopFlag, TrainConfig, TrainError, Trainer, check_block_size, checkpoint, model_shape,
};

use self::conclude::conclude;
use super::inside::check_outside;
use super::prepare::closing_summary;
use super::pretrained;
use super::verify_resume::verify_resume;
use crate::exit::Ended;
use crate::layer::{Faults, Layered};
use crate::memory;
use crate::options::TrainOptions;
use crate::pool;
use crate::progress::{PrepareBars, TrainLines};
use crate::signals::Signals;
use crate::terminal::say;
use crate::usage::UsageError;

/// How long a process that has just been killed may take to let go of its directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// Does what `train` was asked to do.
///
/// # Errors
/// Wrong options, data or checkpoints that cannot be used, a device that is not there, numbers
/// that stop being finite.
pub fn train(layered: &Layered<TrainOptions>) -> Result<Ended> {
    let (mut config, program) = layered.resolve()?;
    if !config.eval_only && program.verify_resume.is_none() {
        check_outside("--out-dir", &config.out_dir)?;
    }
    // Before any work, so that nothing is lost if it is not there.
    config.device.open()?;
    let n_threads = pool::start(config.resolved_threads())?;
    if n_threads < config.resolved_threads() {
        config.threads = Some(n_threads);
    }
    let stop = StopFlag::new();
    let signals = Signals::install(&stop).context("cannot listen for signals")?;
    let prepared = open_or_prepare(&config)?;
    let layered = &with_shape_of_model(layered, &mut config)?;
    check_block_size(config.block_size, &prepared).map_err(|error| with_places(layered, error))?;
    if config.device == DeviceSpec::Cpu {
        memory::check_fits(&config, prepared.tokenizer.vocab_size())?;
    }
    for note in layered.notes() {
        say(&format!("note: {note}"));
    }
    if let Some(n) = program.verify_resume {
        signals.ask_first();
        return verify_resume(&config, n, prepared, &stop);
    }
    if !config.eval_only {
        wait_for_lock(&config.out_dir)?;
    }
    let mut report = TrainLines::new(&config, program.log_interval);
    let mut trainer = Trainer::new(config.clone(), prepared)
        .map_err(|error| with_places(layered, error))?;
    trainer.record(layered.program_values());
    signals.ask_first_and(report.answer());
    let outcome = trainer.run(&stop, &mut report);
    signals.end_at_once();
    report.close();
    conclude(&config, &trainer, outcome?, stop.signal())
}

/// The options, with the shape of the model that the run is to start from, if it is.
fn with_shape_of_model(
    layered: &Layered<TrainOptions>,
    config: &mut TrainConfig,
) -> Result<Layered<TrainOptions>> {
    let mut layered = layered.clone();
    let init_from = match &config.init_from {
        InitFrom::Hub { name, .. } => {
            InitFrom::Hub { name: name.clone(), dir: pretrained::fetch(name)? }
        }
        other => other.clone(),
    };
    if let Some(shape) = model_shape(&init_from).map_err(|error| with_places(&layered, error))? {
        layered.prefer_model_shape(&shape, &init_from.to_string());
        layered.note_rate_of_fine_tuning();
        *config = layered.resolve()?.0;
    }
    config.init_from = init_from;
    Ok(layered)
}

/// Gives a process that trains in `out_dir` a moment to end: one that was killed holds the lock until
/// its memory is given back, and a supervisor starts the next at once.
fn wait_for_lock(out_dir: &Path) -> Result<()> {
    if !checkpoint::is_locked(out_dir)? {
        return Ok(());
    }
    let seconds = LOCK_PATIENCE.as_secs();
    say(&format!("{} is in use: waiting up to {seconds} s for it", out_dir.display()));
    let begin = Instant::now();
    while begin.elapsed() < LOCK_PATIENCE && checkpoint::is_locked(out_dir)? {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The shards, made now if they are not there and no download is needed.
fn open_or_prepare(config: &TrainConfig) -> Result<Prepared> {
    match open(config) {
        Ok(prepared) => return Ok(prepared),
        Err(DataError::NotPrepared { .. }) => {}
        Err(error) => {
            return Err(error).with_context(|| {
                let again = format!("prepare --dataset-name {} --force", config.dataset_name);
                format!("the prepared dataset cannot be used (`{again}` makes it again)")
            });
        }
    }
    let name = &config.dataset_name;
    if let Some(error) = prepared_otherwise(config) {
        return Err(error.into());
    }
    // A dataset that `--source` has made in another encoding has a directory, but no recipe.
    let has_recipe = Recipe::names(&config.data_dir).contains(name);
    if !has_recipe && config.data_dir.join(name).is_dir() {
        return Err(not_prepared(config, " --source PATH", "is where --source said").into());
    }
    match Recipe::find(name, &config.data_dir)?.source {
        SourceSpec::Files(_) | SourceSpec::BuiltIn(_) => {}
        SourceSpec::Hub(_) => return Err(not_prepared(config, "", "has to be downloaded").into()),
        _ => return Err(not_prepared(config, " --source PATH", "has to be given").into()),
    }
    check_outside("--data-dir", &config.data_dir.join(name))?;
    say(&format!("{name} is not prepared yet: preparing it now"));
    let unsaid = PrepareRequest::default();
    let request = PrepareRequest {
        dataset_name: name.clone(),
        data_dir: config.data_dir.clone(),
        encoding_type: config.encoding_type,
        vocab_size: config.vocab_size.unwrap_or(unsaid.vocab_size),
        ..unsaid
    };
    let summary = tinygpt_data::prepare(&request, &PrepareBars::default())
        .with_context(|| format!("cannot prepare `{name}`"))?;
    say(closing_summary(&summary).trim_end());
    Ok(open(config)?)
}

fn open(config: &TrainConfig) -> Result<Prepared, DataError> {
    Prepared::open(&config.data_dir, &config.dataset_name, config.encoding_type)
}

/// The refusal of data that is there in the other encoding, if its text has to be given again.
fn prepared_otherwise(config: &TrainConfig) -> Option<UsageError> {
    let (name, wanted) = (&config.dataset_name, config.encoding_type?);
    let is_there = |encoding: &Encoding| {
        *encoding != wanted && config.data_dir.join(name).join(encoding.as_str()).is_dir()
    };
    let there = Encoding::ALL.into_iter().find(is_there)?;
    let source = match Recipe::find(name, &config.data_dir).map(|recipe| recipe.source) {
        Ok(SourceSpec::Files(_) | SourceSpec::BuiltIn(_)) => return None,
        Ok(SourceSpec::Hub(_)) => "",
        Ok(_) | Err(_) => " --source PATH",
    };
    let error =
        UsageError::new(format!("dataset `{name}` is prepared as {there}, not as {wanted}"));
    Some(error.hint(format!(
        "train on what is there with --encoding-type {there}, or prepare it as {wanted} too: {}",
        prepare_command(config, source)
    )))
}

/// Names both ways on: the command that prepares the data, and the run that needs none.
fn not_prepared(config: &TrainConfig, source: &str, why: &str) -> UsageError {
    let (name, command) = (&config.dataset_name, prepare_command(config, source));
    let data_dir = config.data_dir.display();
    UsageError::new(format!("dataset `{name}` is not prepared in {data_dir}, and its text {why}"))
        .hint(format!(
            "prepare it: {command}\n      or train in minutes on stories that need no download: \
         cargo run --bin train -- --config-file config/quickstart.json"
        ))
}

/// The command that prepares the dataset of a run.
fn prepare_command(config: &TrainConfig, source: &str) -> String {
    let name = &config.dataset_name;
    let mut command = format!("cargo run --bin prepare -- --dataset-name {name}{source}");
    if let Some(encoding) = config.encoding_type {
        command.push_str(&format!(" --encoding-type {encoding}"));
    }
    if config.data_dir != PrepareRequest::default().data_dir {
        command.push_str(&format!(" --data-dir {}", config.data_dir.display()));
    }
    command
}

/// Adds to the faults that show only beside the data where each value came from.
fn with_places(layered: &Layered<TrainOptions>, error: TrainError) -> anyhow::Error {
    let TrainError::Config(found) = &error else { return error.into() };
    let mut faults = Faults::of(layered);
    faults.extend(found);
    faults.into_result().err().unwrap_or_else(|| error.into())
}
