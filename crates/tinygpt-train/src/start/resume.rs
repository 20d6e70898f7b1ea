//! Resuming a run: the newest good checkpoint, and whether it is the same run at all.
//!
//! A resumed run must be the run that was saved: other data, another tokenizer, another shape or
//! another seed are refused with both values. What may change (a longer run, another learning rate,
//! other threads) is applied and reported. A checkpoint knows the configuration it was made with,
//! so a caller needs only the run's directory ([`recorded`]).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tinygpt_data::{Meta, Prepared};
use tinygpt_model::{ComputeDevice, ModelConfig, hf};

use super::{Changed, Named, Progress, Start, check_tokenizer, instruction_set};
use crate::adamw::AdamW;
use crate::checkpoint::{
    self, BEST, Best, Found, LAST, OPTIMIZER_FILE, PLATEAU, RunConfig, STATE_FILE, State,
};
use crate::config::{InitFrom, TrainConfig};
use crate::error::{Fault, Rejected, TrainError};
use crate::metrics;
use crate::schedule::{LrSchedule, Schedule, learning_rate};

/// The run as its newest checkpoint describes it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The checkpoint.
    pub dir: PathBuf,
    /// Steps made before it.
    pub step: u64,
    /// The configuration of the run, with the shape that the model really has and the encoding of
    /// the data if it can still be found.
    pub config: TrainConfig,
    /// The settings that the training program has stored.
    pub program: Map<String, Value>,
}

/// Reads the description of the run in the newest checkpoint in `out_dir`, without its weights;
/// `None` if there is no checkpoint.
///
/// # Errors
/// [`TrainError::NoGoodCheckpoint`], [`TrainError::NewerFormat`].
pub fn recorded(out_dir: &Path) -> Result<Option<Recorded>, TrainError> {
    checkpoint::newest_described(out_dir)?.map(described).transpose()
}

/// As [`recorded`], of the checkpoint at the end of the plateau of the run in `run_dir`.
///
/// # Errors
/// [`TrainError::Config`] if it has no such checkpoint; [`TrainError::Corrupt`], [`TrainError::NewerFormat`].
pub fn recorded_plateau(run_dir: &Path) -> Result<Recorded, TrainError> {
    described(plateau(run_dir)?)
}

fn described(Found { dir, state, .. }: Found) -> Result<Recorded, TrainError> {
    let shape = hf::read_config(&dir)?;
    let State { step, config: RunConfig { train: mut config, program }, data_fingerprint, .. } =
        state;
    config.take_shape(&shape);
    if config.encoding_type.is_none() {
        let meta = Meta::find(&config.data_dir, &config.dataset_name, &data_fingerprint);
        config.encoding_type = meta.map(|meta| meta.encoding);
    }
    Ok(Recorded { dir, step, config, program })
}

/// The checkpoint at the end of the plateau of the run in `run_dir`.
fn plateau(run_dir: &Path) -> Result<Found, TrainError> {
    if let Some(found) = checkpoint::open_named(run_dir, PLATEAU)? {
        return Ok(found);
    }
    let expected = format!(
        "the directory of a run that has reached the end of its plateau: {} has no checkpoint named \
         {PLATEAU}, which a run with `lr_schedule` wsd saves before its decay",
        run_dir.display()
    );
    let got = InitFrom::Plateau(run_dir.to_path_buf());
    Err(TrainError::Config(vec![Fault::new("init_from", got, expected)]))
}

/// Loads the newest good checkpoint of `config.out_dir`, or copies the one at the end of another
/// run's plateau and loads that.
///
/// # Errors
/// [`TrainError::NothingToResume`], [`TrainError::NoGoodCheckpoint`], [`TrainError::Mismatch`] if
/// it belongs to another run.
pub(crate) fn resume(
    config: &TrainConfig,
    prepared: &Prepared,
    device: &ComputeDevice,
    n_ranks: usize,
) -> Result<Start, TrainError> {
    let found = match &config.init_from {
        InitFrom::Plateau(run_dir) => plateau(run_dir)?,
        _ => checkpoint::newest_good(&config.out_dir)?
            .ok_or_else(|| TrainError::NothingToResume(config.out_dir.clone()))?,
    };
    let Found { dir, state, rejected } = found;
    let shape = hf::read_config(&dir)?;
    check_same_run(config, &shape, &dir, &state)?;
    check_same_data(config, prepared, &dir, &state)?;
    let mut gpt = hf::read_dir(&dir, &device.tensors())?;
    gpt.set_dropout(config.dropout as f32)?;
    device.place(&mut gpt, config.dtype)?;
    let moments = checkpoint::read_moments(&dir.join(OPTIMIZER_FILE), &gpt)?;
    let optimizer = AdamW::restore(config.adamw(), state.optimizer_steps, moments);
    let mut notices: Vec<String> = rejected.iter().map(|r| skipped_notice(r, &state)).collect();
    notices.extend(changed_machine(config.resolved_threads(), device, &state));
    let mut changed = changed_settings(config, &state.config);
    if state.ranks != n_ranks {
        changed.insert("ranks".to_owned(), [state.ranks.into(), n_ranks.into()]);
    }
    notices.extend(changed_notice(&changed));
    notices.extend(changed_learning_rate(config, &state));
    let from_plateau = matches!(config.init_from, InitFrom::Plateau(_));
    let best = match from_plateau {
        true => state.best.filter(|best| best.step == state.step),
        false => usable_best(&config.out_dir, &state, &mut notices),
    };
    let progress = Progress {
        step: state.step,
        window_cursor: state.window_cursor,
        last_eval_iter: state.last_eval_iter,
        best,
        skipped: state.skipped,
        evals_without_improvement: state.evals_without_improvement,
        seconds_before: state.seconds,
        last_saved: Some(state.step),
    };
    if !config.eval_only
        && let InitFrom::Plateau(run_dir) = &config.init_from
    {
        checkpoint::copy(&dir, state.step, &config.out_dir)?;
        metrics::copy(run_dir, &config.out_dir)?;
    }
    if !config.eval_only {
        // A crash may have come between a checkpoint and its links.
        checkpoint::point(&config.out_dir, LAST, state.step)?;
        if let Some(best) = best {
            checkpoint::point(&config.out_dir, BEST, best.step)?;
        }
    }
    let from = format!("the checkpoint {}", dir.display());
    let origin = state.config.train.init_from;
    Ok(Start { gpt, optimizer, progress, from, origin, changed, notices })
}

/// Refuses to continue if the numbers could not be those of the saved run.
fn check_same_run(
    config: &TrainConfig,
    model: &ModelConfig,
    dir: &Path,
    state: &State,
) -> Result<(), TrainError> {
    let vocab_size = config.vocab_size.unwrap_or(model.vocab_size);
    let shapes = model.shape().into_iter().zip(config.model_config(vocab_size).shape());
    let shapes = shapes.map(|((key, saved), (_, now))| (key, saved, now));
    let seeds = [("seed", state.seed.into(), config.seed.into())];
    for (key, saved, now) in shapes.chain(seeds) {
        if saved != now {
            let (saved, now) = (saved.to_string(), now.to_string());
            let hint = format!(
                "leave `{key}` out or set it to {saved}, or start a new run with another `out_dir`"
            );
            let checkpoint = dir.to_path_buf();
            return Err(TrainError::Mismatch { checkpoint, key, saved, now, hint });
        }
    }
    Ok(())
}

/// Refuses data other than that of the saved run, whatever its name is now.
fn check_same_data(
    config: &TrainConfig,
    prepared: &Prepared,
    dir: &Path,
    state: &State,
) -> Result<(), TrainError> {
    if state.data_fingerprint == prepared.meta.fingerprint() {
        return Ok(());
    }
    let (theirs, ours) = (&state.config.dataset_name, &config.dataset_name);
    let (what, hint) = if theirs != ours {
        (
            format!("that run trains on `{theirs}`, and this one is to train on `{ours}`"),
            format!(
                "choose another `out_dir` for a run on `{ours}`; to continue the run on \
                 `{theirs}`, leave `dataset_name` out"
            ),
        )
    } else {
        check_tokenizer(&Named { dir, name: dir }, &state.tokenizer_sha256, prepared)?;
        (
            format!("`{ours}` was prepared again since, from another text or with other settings"),
            format!(
                "prepare it as it was, or start a new run from the checkpoint, with `init_from` {} \
                 and another `out_dir`",
                dir.display()
            ),
        )
    };
    Err(TrainError::OtherData { checkpoint: dir.to_path_buf(), what, hint })
}

fn skipped_notice(rejected: &Rejected, state: &State) -> String {
    let (dir, reason, from) = (rejected.dir.display(), &rejected.reason, state.step);
    let named = step_of(&rejected.dir).unwrap_or_default();
    let holds = State::read(&rejected.dir.join(STATE_FILE)).map(|theirs| theirs.step);
    if holds.is_ok_and(|holds| holds != named) {
        return format!(
            "CHECKPOINT SKIPPED: {dir} cannot be used ({reason}). Continuing from step {from}; \
             remove that directory or give it its own name again"
        );
    }
    // A directory can have any name; no more steps than the run has can be lost.
    let lost = match named.saturating_sub(from) {
        lost if named <= state.config.max_iters => format!("{lost} steps"),
        _ => "the steps after it".to_string(),
    };
    format!(
        "CHECKPOINT DAMAGED: {dir} cannot be used ({reason}). Continuing from step {from} instead: \
         {lost} are lost and will be trained again"
    )
}

fn step_of(dir: &Path) -> Option<u64> {
    checkpoint::step_of(dir.file_name()?.to_str()?)
}

fn changed_machine(threads: usize, device: &ComputeDevice, state: &State) -> Option<String> {
    let saved = format!("{} {} {} threads", state.device, state.instruction_set, state.threads);
    let now = format!("{} {} {threads} threads", device.name(), instruction_set());
    (saved != now).then(|| {
        format!(
            "saved on {saved}, continuing with {now}: the results will differ in the last bits \
             from \
             those of an uninterrupted run"
        )
    })
}

/// Keys that only decide how and where to start and what to save and print.
const NOT_THE_RUN: [&str; 18] = [
    "init_from",
    "overwrite",
    "out_dir",
    "data_dir",
    "encoding_type",
    "device",
    "cuda_graph",
    "recompute",
    "threads",
    "check_ranks",
    "rank_timeout",
    "eval_only",
    "profile",
    "checkpoint_interval",
    "checkpoint_minutes",
    "keep_checkpoints",
    "max_seconds",
    "tensorboard",
];

/// The keys that differ from what was saved, with both values.
fn changed_settings(config: &TrainConfig, saved: &TrainConfig) -> Changed {
    let as_map = |config: &TrainConfig| match serde_json::to_value(config) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (mut saved, now) = (as_map(saved), as_map(config));
    // The shape is compared with the model's.
    let shape = ModelConfig::default().shape().map(|(key, _)| key);
    now.into_iter()
        .filter(|(key, _)| !NOT_THE_RUN.contains(&key.as_str()) && !shape.contains(&key.as_str()))
        .filter_map(|(key, now)| {
            let saved = saved.remove(&key)?;
            (saved != now).then_some((key, [saved, now]))
        })
        .collect()
}

fn changed_notice(changed: &Changed) -> Option<String> {
    let each: Vec<String> =
        changed.iter().map(|(key, [saved, now])| format!("{key} {saved} → {now}")).collect();
    (!each.is_empty()).then(|| format!("resuming with changed settings: {}", each.join(", ")))
}

/// A notice if a changed schedule makes the learning rate jump or stay at its minimum.
fn changed_learning_rate(config: &TrainConfig, state: &State) -> Option<String> {
    let (schedule, saved) = (config.schedule(), state.config.schedule());
    let last = learning_rate(state.step.checked_sub(1)?, &saved);
    let next = learning_rate(state.step, &schedule);
    let [last_typed, next_typed] = [last, next].map(|rate| format!("{rate:.1e}"));
    if schedule != saved && next > 1.2 * last {
        return Some(format!(
            "the learning rate jumps from {last_typed} to {next_typed} here, as the changed \
             schedule says: the loss may rise before it falls"
        ));
    }
    let end = schedule.lr_decay_iters;
    let is_longer = config.max_iters > state.config.max_iters.max(end);
    (is_longer && schedule.lr_schedule != LrSchedule::Constant).then(|| {
        format!(
            "from step {end} on the learning rate stays at min_lr ({}): `lr_decay_iters` {} \
             spreads the decay over the longer run, which raises the rate to {:.1e} now",
            format_args!("{:.1e}", schedule.min_lr),
            config.max_iters,
            learning_rate(state.step, &Schedule { lr_decay_iters: config.max_iters, ..schedule })
        )
    })
}

/// The best checkpoint, if it is still good; without its file its loss must not be kept.
fn usable_best(out_dir: &Path, state: &State, notices: &mut Vec<String>) -> Option<Best> {
    let best = state.best?;
    if best.step == state.step {
        return Some(best);
    }
    let dir = checkpoint::dir_of(out_dir, best.step);
    match checkpoint::open(&dir) {
        Ok(_) => Some(best),
        Err(error) => {
            notices.push(format!(
                "CHECKPOINT DAMAGED: the best one, {}, cannot be used ({}). The next evaluation \
                 chooses a new one",
                dir.display(),
                checkpoint::why(&error)
            ));
            None
        }
    }
}
