//! Finds the checkpoint that `sample` uses, or suggests how to get one.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tinygpt_data::{read_regular, shell_word};
use tinygpt_model::hf;
use tinygpt_train::TrainError;
use tinygpt_train::checkpoint::{self, BEST, DIR_NAME, LAST, Which};

use super::super::pretrained;
use crate::options::SampleSettings;
use crate::usage::UsageError;

/// Accepts a checkpoint as `out_dir`: `RUN/best`, `RUN/last`, one in `RUN/checkpoints`, or the
/// directory of any model. Changes nothing if `checkpoint` is set to something else.
pub(super) fn name_run(settings: &mut SampleSettings) {
    let dir = settings.out_dir.clone();
    if settings.checkpoint != BEST || is_run(&dir) {
        return;
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { return };
    if [BEST, LAST].contains(&name) && is_run(parent) {
        (settings.out_dir, settings.checkpoint) = (parent.to_owned(), name.to_owned());
    } else if let Some(path) = dir.to_str().filter(|_| dir.join(hf::CONFIG).is_file()) {
        settings.checkpoint = path.to_owned();
        let run = parent.parent().filter(|_| parent.ends_with(DIR_NAME));
        settings.out_dir = run.map_or(dir.clone(), Path::to_owned);
    }
}

/// Whether a directory looks like a run that has saved something.
fn is_run(dir: &Path) -> bool {
    [BEST, LAST, DIR_NAME].iter().any(|name| dir.join(name).exists())
}

/// The directory of the checkpoint.
///
/// # Errors
/// [`UsageError`] without a checkpoint, with the command that trains one.
pub(super) fn find(settings: &SampleSettings) -> Result<PathBuf> {
    if pretrained::is_on_hub(&settings.checkpoint) {
        return pretrained::fetch(&settings.checkpoint);
    }
    let which = match settings.checkpoint.parse::<Which>() {
        Ok(Which::Dir(dir)) if !dir.join("config.json").is_file() => {
            return Err(no_model(&dir).into());
        }
        Ok(which) => which,
        Err(expected) => {
            return Err(UsageError::new(format!("`checkpoint` is empty, {expected}")).into());
        }
    };
    let out_dir = &settings.out_dir;
    if !matches!(which, Which::Dir(_)) && !out_dir.is_dir() {
        let message = format!("`out_dir` {} does not exist", out_dir.display());
        return Err(UsageError::new(message).hint(other_runs(out_dir)).into());
    }
    checkpoint::locate(out_dir, &which).map_err(|error| match error {
        TrainError::NothingToResume(_) => {
            let shown = out_dir.display();
            let error = UsageError::new(format!("`out_dir` {shown} holds no checkpoint yet"));
            let hint = match out_dir.join(hf::CONFIG).is_file() {
                true => format!("{shown} is a checkpoint itself: use it without --checkpoint"),
                false => other_runs(out_dir),
            };
            error.hint(hint).into()
        }
        other => other.into(),
    })
}

/// The error for a `checkpoint` that is not a model, perhaps the directory of a run.
fn no_model(dir: &Path) -> UsageError {
    let shown = dir.display();
    let expected = "expected best, last, hub:owner/name, or a directory with config.json, \
                    model.safetensors and tokenizer.json";
    let error = UsageError::new(format!("`checkpoint` is {shown}, {expected}"));
    if [BEST, LAST].iter().any(|name| dir.join(name).exists()) {
        let word = shell_word(&dir.to_string_lossy()).into_owned();
        return error.hint(format!("{shown} is the directory of a run: use --out-dir {word}"));
    }
    error
}

/// The most runs that a hint lists.
const MAX_RUNS: usize = 3;

/// A hint with the runs in the current directory, newest first, and the command that trains `out_dir`.
fn other_runs(out_dir: &Path) -> String {
    let entries = std::fs::read_dir(".").into_iter().flatten().flatten();
    let dirs = entries.map(|entry| entry.path()).filter(|path| is_run(path));
    let mut runs: Vec<(_, String)> = dirs
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            let at = [BEST, LAST, DIR_NAME].iter().find_map(|it| path.join(it).metadata().ok())?;
            Some((at.modified().ok(), name))
        })
        .collect();
    runs.sort_by(|a, b| b.cmp(a));
    let mut flags: Vec<String> = runs
        .into_iter()
        .take(MAX_RUNS)
        .map(|(_, name)| format!("--out-dir {}", shell_word(&name)))
        .collect();
    let train = how_to_train(out_dir);
    match flags.pop() {
        None => train,
        Some(only) if flags.is_empty() => format!("there is a run here: use {only}; or {train}"),
        Some(last) => {
            format!("there are runs here: use {} or {last}; or {train}", flags.join(", "))
        }
    }
}

/// The largest config file that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The training command for `out_dir`, with the config in `config/` that names it.
fn how_to_train(out_dir: &Path) -> String {
    let wanted = out_dir.to_string_lossy();
    let configs = std::fs::read_dir("config").into_iter().flatten().flatten();
    let made_by = configs.map(|entry| entry.path()).find(|path| {
        let text = read_regular(path, MAX_CONFIG_BYTES).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        value.get("out_dir").and_then(serde_json::Value::as_str) == Some(wanted.as_ref())
    });
    match made_by {
        Some(config) => {
            let config = config.to_string_lossy();
            format!(
                "train it first: cargo run --bin train -- --config-file {}",
                shell_word(&config)
            )
        }
        None => format!(
            "train it first: cargo run --bin train -- --out-dir {} (or name another run with \
             --out-dir)",
            shell_word(&wanted)
        ),
    }
}
