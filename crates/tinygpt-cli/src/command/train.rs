//! `train`: opens device and data, trains, and prints a story by the model.

mod budget;
mod conclude;
mod expected;
mod find_lr;
mod horizon;
mod plan;
mod report;
mod results;
mod shape;
mod sweep;
mod watch;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tinygpt_data::{DataError, Encoding, PrepareRequest, Prepared, Recipe, SourceSpec};
use tinygpt_model::ComputeDevice;
use tinygpt_serve::Server;
use tinygpt_train::ranks::{Ranks, RanksError};
use tinygpt_train::{
    InitFrom, Silent, StopFlag, TrainConfig, TrainError, Trainer, check_block_size, checkpoint,
    model_shape,
};

use self::budget::resolve_budget;
use self::conclude::{conclude, resume_command};
use self::find_lr::{check_drawing, find_lr};
use self::horizon::resolve_horizon;
use self::plan::plan;
use self::report::write_report;
use self::results::{print_error, print_results};
use self::shape::choose_shape;
use self::sweep::sweep;
use super::inside::check_outside;
use super::prepare::closing_summary;
use super::pretrained;
use super::verify_resume::verify_resume;
use crate::device;
use crate::exit::{self, Ended};
use crate::memory;
use crate::options::{Faults, Layered, ProgramConfig, TrainOptions};
use crate::pool;
use crate::progress::{PrepareBars, TrainLines};
use crate::ranks;
use crate::signals::Signals;
use crate::terminal::{rank, say};
use crate::usage::UsageError;

/// How long to wait for a killed process to release its directory.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs `train`.
///
/// # Errors
/// Wrong options, data or checkpoints that cannot be used, a missing device, a NaN or infinite loss.
pub fn train(layered: &Layered<TrainOptions>) -> Result<Ended> {
    let started = Instant::now();
    let (mut config, program) = layered.resolve()?;
    let stop = StopFlag::new();
    let mut ranks = ranks::join(&stop)?;
    let prepared = ranks::prepare(&ranks, &mut config, &program);
    ranks.agree(prepared, exit::failure)?;
    if let Some(dirs) = &program.report {
        return write_report(dirs);
    }
    if let Some(path) = &program.sweep {
        return sweep(layered, path);
    }
    program.find_lr.as_deref().map_or(Ok(()), check_drawing)?;
    let is_json = program.json;
    let result = train_with(layered, config, &program, (started, stop, ranks));
    if let Err(error) = &result
        && is_json
        && rank() == 0
    {
        print_error(error)?;
    }
    result
}

fn train_with(
    layered: &Layered<TrainOptions>,
    config: TrainConfig,
    program: &ProgramConfig,
    (started, stop, mut ranks): (Instant, StopFlag, Ranks),
) -> Result<Ended> {
    // Rank 0 prepares data that the others then find.
    let set_up_here = || set_up(layered, config.clone(), program, (started, &stop));
    let first = if ranks.is_first() { set_up_here().map(Some) } else { Ok(None) };
    let first = ranks.agree(first, exit::failure)?;
    let ready = first.map_or_else(set_up_here, Ok);
    let SetUp { layered, config, prepared, device, server, signals } =
        ranks.agree(ready, exit::failure)?;
    let Some(prepared) = prepared else {
        return Ok(Ended::Stopped(stop.signal().unwrap_or_default()));
    };
    let layered = &layered;
    for note in layered.notes() {
        say(&format!("note: {note}"));
    }
    if let Some(n) = program.verify_resume {
        signals.ask_first();
        return verify_resume(&device, &config, n, prepared, &stop);
    }
    if program.plan {
        signals.ask_first();
        return plan(&config, prepared, &device, program.json, &stop);
    }
    if let Some(path) = &program.find_lr {
        signals.ask_first();
        return find_lr(&device, &config, prepared, path, &stop);
    }
    let run_on = RunOn { device: &device, server, started, signals: &signals, stop: &stop, ranks };
    run(layered, &config, prepared, program, run_on)
}

/// What `train` works with.
struct SetUp {
    layered: Layered<TrainOptions>,
    config: TrainConfig,
    /// `None` if a signal has come meanwhile.
    prepared: Option<Prepared>,
    device: ComputeDevice,
    server: Option<Server>,
    signals: Signals,
}

/// Opens device and data, and completes the options.
fn set_up(
    layered: &Layered<TrainOptions>,
    mut config: TrainConfig,
    program: &ProgramConfig,
    (started, stop): (Instant, &StopFlag),
) -> Result<SetUp> {
    if !program.plan && !config.eval_only && program.verify_resume.is_none() {
        check_outside("--out-dir", &config.out_dir)?;
    }
    let server = if rank() == 0 { watch::listen_for(program)? } else { None };
    // Before any work, so that nothing is lost if it is missing.
    let device = device::open(config.device, "train")?;
    let n_threads = pool::start(config.resolved_threads())?;
    if n_threads < config.resolved_threads() {
        config.threads = Some(n_threads);
    }
    let signals = Signals::install(stop).context("cannot listen for signals")?;
    // Nothing that a plan prepares is kept.
    let aside = if program.plan {
        Some(tempfile::tempdir().context("cannot prepare aside")?)
    } else {
        None
    };
    let into = aside.as_ref().map_or(config.data_dir.as_path(), |dir| dir.path());
    let prepared = open_or_prepare(&config, into)?;
    let mut layered = with_shape_of_model(layered, &mut config)?;
    choose_shape(&device, &mut layered, &mut config, &prepared)?;
    check_block_size(config.block_size, &prepared).map_err(|error| with_places(&layered, error))?;
    resolve_horizon(&mut layered, &mut config, program, &prepared)?;
    if device.is_cpu() {
        memory::check_fits(&config, prepared.tokenizer.vocab_size())?;
    }
    if config.eval_only || program.verify_resume.is_some() {
        config.budget = None;
    }
    let prepared = resolve_budget(&device, &mut layered, &mut config, prepared, (started, stop))?;
    Ok(SetUp { layered, config, prepared, device, server, signals })
}

/// What a run needs in addition to its configuration.
struct RunOn<'a> {
    device: &'a ComputeDevice,
    server: Option<Server>,
    started: Instant,
    signals: &'a Signals,
    stop: &'a StopFlag,
    ranks: Ranks,
}

/// Trains.
fn run(
    layered: &Layered<TrainOptions>,
    config: &TrainConfig,
    prepared: Prepared,
    program: &ProgramConfig,
    run_on: RunOn<'_>,
) -> Result<Ended> {
    let RunOn { device, server, started, signals, stop, ranks } = run_on;
    if ranks.is_first() && !config.eval_only {
        wait_for_lock(&config.out_dir)?;
    }
    let is_first = ranks.is_first();
    let mut trainer = Trainer::on_ranks(device, config.clone(), prepared, ranks)
        .map_err(|error| with_places(layered, error))?;
    if !is_first {
        signals.ask_first();
        // Rank 0 ends with the exit code of the run.
        trainer.run(stop, &mut Silent)?;
        return Ok(Ended::Done);
    }
    let mut report = TrainLines::new(config, program.log_interval);
    trainer.count_from(started);
    trainer.record(layered.program_values());
    signals.ask_first_and(report.answer());
    let outcome = watch::run((&mut trainer, config), server, stop, &mut report)?;
    signals.end_at_once();
    report.close();
    if let Err(TrainError::Ranks(RanksError::Lost { .. })) = &outcome {
        say(&format!("to resume: {}", resume_command(config)));
    }
    let outcome = outcome?;
    let config = trainer.config();
    let ended = conclude(config, &trainer, outcome, stop.signal().is_none() && !program.json)?;
    if program.json {
        print_results(config, &trainer, outcome, ended)?;
    }
    Ok(ended)
}

/// The options, with the shape of the model that the run starts from, if there is one.
fn with_shape_of_model(
    layered: &Layered<TrainOptions>,
    config: &mut TrainConfig,
) -> Result<Layered<TrainOptions>> {
    let mut layered = layered.clone();
    let init_from = match &config.init_from {
        InitFrom::Hub { name, .. } => {
            InitFrom::Hub { name: name.clone(), dir: Some(pretrained::fetch(name)?) }
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

/// Waits a moment for another process that trains in `out_dir`: a killed process holds the lock until
/// its memory is freed, and a supervisor starts the next at once.
fn wait_for_lock(out_dir: &Path) -> Result<()> {
    if !checkpoint::is_locked(out_dir)? {
        return Ok(());
    }
    let seconds = LOCK_TIMEOUT.as_secs();
    say(&format!("{} is in use: waiting up to {seconds} s", out_dir.display()));
    let begin = Instant::now();
    while begin.elapsed() < LOCK_TIMEOUT && checkpoint::is_locked(out_dir)? {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Opens the shards; prepares them in the directory `into` if they are missing and need no download.
fn open_or_prepare(config: &TrainConfig, into: &Path) -> Result<Prepared> {
    match open(config) {
        Ok(prepared) => return Ok(prepared),
        Err(DataError::NotPrepared { .. }) => {}
        Err(error) => {
            return Err(error).with_context(|| {
                let again = format!("prepare --dataset-name {} --force", config.dataset_name);
                format!("the prepared dataset cannot be used (`{again}` prepares it again)")
            });
        }
    }
    let name = &config.dataset_name;
    if let Some(error) = prepared_otherwise(config) {
        return Err(error.into());
    }
    // A dataset of `--source` that has another encoding has a directory, but no recipe.
    let has_recipe = Recipe::names(&config.data_dir).contains(name);
    if !has_recipe && config.data_dir.join(name).is_dir() {
        return Err(not_prepared(config, " --source PATH", "is not stored in it").into());
    }
    match Recipe::find(name, &config.data_dir)?.source {
        SourceSpec::Files(_) | SourceSpec::BuiltIn(_) => {}
        SourceSpec::Hub(_) => return Err(not_prepared(config, "", "has to be downloaded").into()),
        _ => return Err(not_prepared(config, " --source PATH", "has to be given").into()),
    }
    check_outside("--data-dir", &into.join(name))?;
    say(&format!("{name} is not prepared yet: preparing it now"));
    let defaults = PrepareRequest::default();
    let request = PrepareRequest {
        dataset_name: name.clone(),
        data_dir: into.to_path_buf(),
        encoding_type: config.encoding_type,
        vocab_size: config.vocab_size.unwrap_or(defaults.vocab_size),
        ..defaults
    };
    let summary = tinygpt_data::prepare(&request, &PrepareBars::default())
        .with_context(|| format!("cannot prepare `{name}`"))?;
    say(closing_summary(&summary).trim_end());
    Ok(Prepared::open(into, name, config.encoding_type)?)
}

fn open(config: &TrainConfig) -> Result<Prepared, DataError> {
    Prepared::open(&config.data_dir, &config.dataset_name, config.encoding_type)
}

/// The error for data that is prepared in the other encoding only and needs its text again.
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
        "use --encoding-type {there}, or prepare it as {wanted} too: {}",
        prepare_command(config, source)
    )))
}

/// The error for missing data, with the command that prepares it and a run that needs no download.
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
    // Named where the recipe has another one: a named encoding asks for a new tokenizer.
    let of_recipe = Recipe::find(name, &config.data_dir).ok().map(|recipe| recipe.encoding);
    if let Some(encoding) = config.encoding_type.filter(|it| Some(*it) != of_recipe) {
        command.push_str(&format!(" --encoding-type {encoding}"));
    }
    if config.data_dir != PrepareRequest::default().data_dir {
        command.push_str(&format!(" --data-dir {}", config.data_dir.display()));
    }
    command
}

/// Adds the origin of each value to configuration errors that are found together with the data.
fn with_places(layered: &Layered<TrainOptions>, error: TrainError) -> anyhow::Error {
    let TrainError::Config(found) = &error else { return error.into() };
    let mut faults = Faults::of(layered);
    faults.extend(found);
    faults.into_result().err().unwrap_or_else(|| error.into())
}
