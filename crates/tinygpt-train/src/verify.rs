//! Checks, on a user's own configuration, that a resumed run equals the run that was never stopped.
//!
//! Two runs in a temporary directory: 2 N steps in one go, and N steps, a stop, and N more by a
//! trainer that reads only the checkpoint. Weights, moments, counters and metrics must agree in
//! every bit. `out_dir` is not used.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use tinygpt_data::Prepared;
use tinygpt_model::ComputeDevice;

use crate::checkpoint::{
    self, Best, OPTIMIZER_FILE, OutDirLock, STATE_FILE, Skipped, State, WEIGHTS_FILE,
};
use crate::config::{InitFrom, TrainConfig};
use crate::error::TrainError;
use crate::metrics::{self, Line};
use crate::report::{Report, SkipRecord, StepRecord};
use crate::stop::StopFlag;
use crate::trainer::Trainer;

/// Prefix of the temporary directories.
const PREFIX: &str = "tinygpt-verify-";

/// The signal that stops the second run.
const SIGINT: usize = 2;

/// One thing that is compared between the two runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Its name.
    pub what: &'static str,
    /// Its size.
    pub extent: String,
    /// The difference, if there is one.
    pub difference: Option<String>,
}

/// Trains 2 `n` steps of `config` on `device` twice, the second time with a stop after `n`, and compares.
///
/// Evaluations are cut down to one batch, samples are left out, and a run that would resume starts
/// from random weights; everything else is as configured. `None` if `stop` was raised meanwhile.
/// Nothing is left on the disk.
///
/// # Errors
/// The errors of either run; [`TrainError::Io`] if there is no space for temporary files.
pub fn verify_resume(
    device: &ComputeDevice,
    config: &TrainConfig,
    n: u64,
    prepared: Prepared,
    stop: &StopFlag,
) -> Result<Option<Vec<Compared>>, TrainError> {
    remove_leftovers(&std::env::temp_dir());
    let root = tempfile::Builder::new().prefix(PREFIX).tempdir();
    let root = root.map_err(TrainError::io("create a directory in", &std::env::temp_dir()))?;
    let _lock = OutDirLock::take(root.path())?.keep();
    let (whole, halves) = (root.path().join("whole"), root.path().join("halves"));
    let mut prepared = prepared;
    for (out_dir, is_resumed, stop_after) in
        [(&whole, false, None), (&halves, false, Some(n)), (&halves, true, None)]
    {
        let config = short(config, n, out_dir, is_resumed);
        let mut trainer = Trainer::on(device, config, prepared)?;
        let mut listener = StopAfter { asked: stop.clone(), stop: StopFlag::new(), stop_after };
        trainer.run(&listener.stop.clone(), &mut listener)?;
        if stop.signal().is_some() {
            return Ok(None);
        }
        prepared = trainer.into_prepared();
    }
    compare_runs(&whole, &halves, 2 * n).map(Some)
}

/// Removes the directories of earlier checks that were killed: those without a held lock.
fn remove_leftovers(temp_dir: &Path) {
    let entries = std::fs::read_dir(temp_dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_ours && checkpoint::is_abandoned(&entry.path()) {
            // Another user's cannot be removed, and need not be.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// `config`, reduced to what decides the numbers of 2 `n` steps.
fn short(config: &TrainConfig, n: u64, out_dir: &Path, is_resumed: bool) -> TrainConfig {
    let init_from = match &config.init_from {
        _ if is_resumed => InitFrom::Resume,
        model if model.is_model() => model.clone(),
        _ => InitFrom::Scratch,
    };
    TrainConfig {
        out_dir: out_dir.to_path_buf(),
        init_from,
        overwrite: false,
        max_iters: 2 * n,
        eval_interval: config.eval_interval.min(n),
        eval_iters: 1,
        eval_only: false,
        sample_at_eval: false,
        checkpoint_minutes: 0.0,
        max_seconds: None,
        early_stopping_patience: None,
        budget: None,
        ..config.clone()
    }
}

/// Raises `stop` after this many steps, or when a signal asks for it.
struct StopAfter {
    asked: StopFlag,
    stop: StopFlag,
    stop_after: Option<u64>,
}

impl StopAfter {
    fn raise_if_due(&self, n_made: Option<u64>) {
        let is_half = n_made.is_some() && n_made == self.stop_after;
        if let Some(signal) = self.asked.signal().or(is_half.then_some(SIGINT)) {
            self.stop.raise(signal);
        }
    }
}

impl Report for StopAfter {
    fn step(&mut self, record: &StepRecord) {
        self.raise_if_due(Some(record.iter + 1));
    }

    fn skip(&mut self, record: &SkipRecord) {
        self.raise_if_due(Some(record.iter + 1));
    }

    fn evaluating(&mut self, _done: usize, _total: usize) {
        self.raise_if_due(None);
    }
}

/// Compares the runs in two directories after `step` steps, bit for bit.
///
/// # Errors
/// [`TrainError::Io`], [`TrainError::Corrupt`] if either has no such checkpoint or it is damaged.
pub fn compare_runs(left: &Path, right: &Path, step: u64) -> Result<Vec<Compared>, TrainError> {
    let [left_dir, right_dir] = [left, right].map(|run| checkpoint::dir_of(run, step));
    let files = |name: &str| [left_dir.join(name), right_dir.join(name)];
    Ok(vec![
        compare_tensors("weights", &files(WEIGHTS_FILE))?,
        compare_tensors("moments", &files(OPTIMIZER_FILE))?,
        compare_counters(&files(STATE_FILE))?,
        compare_metrics(&[left, right].map(|run| run.join(metrics::FILE_NAME)))?,
    ])
}

fn compare_tensors(what: &'static str, paths: &[PathBuf; 2]) -> Result<Compared, TrainError> {
    let read = |path: &Path| std::fs::read(path).map_err(TrainError::io("read", path));
    let (left, right) = (read(&paths[0])?, read(&paths[1])?);
    let parse = |path: &Path, bytes| {
        let bad = |error| TrainError::corrupt(path, format!("is not a safetensors file ({error})"));
        SafeTensors::deserialize(bytes).map_err(bad)
    };
    let (left, right) = (parse(&paths[0], &left)?, parse(&paths[1], &right)?);
    let mut different = Vec::new();
    let mut n_bytes = 0;
    for (name, tensor) in left.iter() {
        n_bytes += tensor.data().len();
        if !right.tensor(name).is_ok_and(|other| other == tensor) {
            different.push(name);
        }
    }
    different.sort_unstable();
    let n_tensors = left.len();
    let difference = match different.first() {
        _ if right.len() != n_tensors => Some(format!("{n_tensors} against {}", right.len())),
        Some(first) => Some(format!("{} of them, first `{first}`", different.len())),
        None => None,
    };
    let extent = format!("{n_tensors} tensors, {} values", n_bytes / size_of::<f32>());
    Ok(Compared { what, extent, difference })
}

/// The part of [`State`] that is the progress of a run.
#[derive(Debug, PartialEq)]
struct Counters {
    step: u64,
    optimizer_steps: u64,
    window_cursor: u64,
    last_eval_iter: Option<u64>,
    best: Option<Best>,
    skipped: Skipped,
    evals_without_improvement: u64,
}

fn compare_counters(paths: &[PathBuf; 2]) -> Result<Compared, TrainError> {
    let read = |path: &Path| -> Result<Counters, TrainError> {
        let state = State::read(path)?;
        Ok(Counters {
            step: state.step,
            optimizer_steps: state.optimizer_steps,
            window_cursor: state.window_cursor,
            last_eval_iter: state.last_eval_iter,
            best: state.best,
            skipped: state.skipped,
            evals_without_improvement: state.evals_without_improvement,
        })
    };
    let (left, right) = (read(&paths[0])?, read(&paths[1])?);
    let extent = format!("step {}, {} windows", left.step, left.window_cursor);
    let difference = (left != right).then(|| format!("{left:?} against {right:?}"));
    Ok(Compared { what: "counters", extent, difference })
}

fn compare_metrics(paths: &[PathBuf; 2]) -> Result<Compared, TrainError> {
    let read = |path: &Path| -> Result<Vec<Line>, TrainError> {
        Ok(metrics::read(path)?.into_iter().map(without_time).collect())
    };
    let (left, right) = (read(&paths[0])?, read(&paths[1])?);
    let n_steps = left.iter().filter(|line| matches!(line, Line::Step(_))).count();
    let n_evals = left.iter().filter(|line| matches!(line, Line::Eval(_))).count();
    let extent = format!("losses of {n_steps} steps and {n_evals} evaluations");
    let first = left.iter().zip(&right).find(|(left, right)| left != right);
    let difference = match first {
        Some((left, right)) => Some(format!("{left:?} against {right:?}")),
        None if left.len() != right.len() => {
            Some(format!("{} lines against {}", left.len(), right.len()))
        }
        None => None,
    };
    Ok(Compared { what: "metrics", extent, difference })
}

/// Times differ between any two runs.
fn without_time(line: Line) -> Line {
    match line {
        Line::Step(record) => {
            Line::Step(StepRecord { step_ms: 0.0, tokens_per_second: 0.0, mfu: None, ..record })
        }
        other => other,
    }
}
