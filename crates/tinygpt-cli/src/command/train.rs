//! `train`: opens device and data, trains, and ends with a story.

use anyhow::{Context as _, Result};
use candle_core::{DType, Device};
use tinygpt_data::{DataError, Encoding, PrepareRequest, Prepared, Recipe, SourceSpec};
use tinygpt_train::checkpoint::BEST;
use tinygpt_train::{
    InitFrom, Outcome, Report, Silent, StopFlag, TrainConfig, TrainError, Trainer,
};

use super::prepare::closing_summary;
use super::pretrained;
use super::rendering::Form;
use super::story::Storyteller;
use super::verify_resume::verify_resume;
use crate::exit::Ended;
use crate::layer::{Faults, Layered};
use crate::memory;
use crate::options::{Dtype, Options as _, SampleOptions, TrainOptions};
use crate::progress::{PrepareBars, TrainLines};
use crate::signals::Signals;
use crate::terminal::{Output, grouped, say};
use crate::usage::UsageError;

/// Does what `train` was asked to do.
///
/// # Errors
/// Wrong options, data or checkpoints that cannot be used, a device that is not there, numbers
/// that stop being finite.
pub fn train(layered: &Layered<TrainOptions>) -> Result<Ended> {
    let (mut config, device) = layered.resolve()?;
    let device = device.open(TrainOptions::BINARY)?;
    use_threads(&config)?;
    let stop = StopFlag::new();
    let signals = Signals::install(&stop).context("cannot listen for signals")?;
    let prepared = open_or_prepare(&config)?;
    // Before the memory is looked at: the model brings its own shape.
    if let InitFrom::Hub { name, dir } = &mut config.init_from {
        *dir = pretrained::fetch(name)?;
    }
    if device.is_cpu() {
        memory::check_fits(&config, prepared.tokenizer.vocab_size())?;
    }
    if let Some(n) = config.verify_resume {
        let set_up = |trainer: &mut Trainer| set_dtype(layered, trainer, &device, &mut Silent);
        signals.ask_first();
        return verify_resume(&config, n, prepared, &device, &set_up, &stop);
    }
    let mut report = TrainLines::new(config.log_interval);
    let mut trainer = Trainer::new(config.clone(), prepared, &device)
        .map_err(|error| with_places(layered, error))?;
    set_dtype(layered, &mut trainer, &device, &mut report)?;
    signals.ask_first();
    let outcome = trainer.run(&stop, &mut report);
    signals.end_at_once();
    report.close();
    conclude(&config, &trainer, outcome?)
}

/// The pool that the kernels and `gemm` share.
fn use_threads(config: &TrainConfig) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(config.resolved_threads())
        .build_global()
        .context("cannot start the threads: lower --threads")
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

/// Passes the number type on to an accelerator; a CPU says what it does instead.
fn set_dtype(
    layered: &Layered<TrainOptions>,
    trainer: &mut Trainer,
    device: &Device,
    report: &mut dyn Report,
) -> Result<(), TrainError> {
    let is_bfloat16 = layered.options.dtype == Some(Dtype::Bfloat16);
    if device.is_cpu() {
        if is_bfloat16 {
            report.notice("dtype is bfloat16: on a CPU everything is computed in float32");
        }
        return Ok(());
    }
    let dtype = if is_bfloat16 { DType::BF16 } else { DType::F32 };
    Ok(trainer.gpt_mut().set_compute_dtype(dtype)?)
}

/// Says how the run ended and how to go on, and lets the model tell a story.
fn conclude(config: &TrainConfig, trainer: &Trainer, outcome: Outcome) -> Result<Ended> {
    let out_dir = config.out_dir.display();
    match outcome {
        Outcome::Stopped(signal) => {
            say(&format!("stopped; all updates are saved in {out_dir}"));
            say(&format!("go on: {}", resume_command()));
            return Ok(Ended::Stopped(signal));
        }
        Outcome::TimeUp(_) if config.eval_only => {
            say("the time is up, and the evaluation is not finished: raise --max-seconds");
            return Ok(Ended::Done);
        }
        Outcome::TimeUp(step) => {
            let (made, all) = (grouped(step), grouped(config.max_iters));
            say(&format!(
                "the time is up: {made} of {all} updates are made and saved in {out_dir}"
            ));
            say(&format!("go on: {}", resume_command()));
            return Ok(Ended::Done);
        }
        Outcome::Evaluated => return Ok(Ended::Done),
        Outcome::AlreadyFinished => say(&format!(
            "{out_dir} has made its {} updates already; raise --max-iters to train further, \
             or start over with --init-from scratch --overwrite",
            config.max_iters
        )),
        _ => say(&format!("done: {} updates are made", grouped(config.max_iters))),
    }
    if let Some(best) = trainer.best() {
        let dir = config.out_dir.join(BEST);
        say(&format!("best: val loss {:.4} at {}, in {}", best.val_loss, best.step, dir.display()));
    }
    let tokenizer = &trainer.prepared().tokenizer;
    let special = trainer.special_tokens();
    let teller = Storyteller::from_scratch(trainer.gpt(), tokenizer, special.bos);
    say(if special.eos.is_some() { "a story by the model:\n" } else { "a text by the model:\n" });
    let flags = SampleOptions { seed: Some(config.seed), ..SampleOptions::default() };
    let settings = Layered::new(&flags, None)?.resolve()?;
    let params = settings.params(tokenizer, special.eos);
    teller.tell(&params, 1, (Form::Text, &[]), &mut Output::lock())?;
    say(&format!("\nmore of them: cargo run --bin sample -- --out-dir {out_dir}"));
    Ok(Ended::Done)
}

/// Whether a flag with its value says how to start, which resuming says in its place.
fn starts_anew(arg: &str) -> bool {
    ["--overwrite=", "--init-from=", "--init_from="].iter().any(|flag| arg.starts_with(flag))
}

/// The command that was typed, with `--init-from resume`.
fn resume_command() -> String {
    let mut typed = std::env::args().skip(1).peekable();
    let mut command = "cargo run --bin train --".to_owned();
    while let Some(arg) = typed.next() {
        if arg == "--overwrite" || arg == "--init-from" || arg == "--init_from" {
            typed.next_if(|value| !value.starts_with('-'));
        } else if arg.contains([' ', '\'', '"']) {
            command.push_str(&format!(" {arg:?}"));
        } else if !starts_anew(&arg) {
            command.push_str(&format!(" {arg}"));
        }
    }
    command + " --init-from resume"
}
