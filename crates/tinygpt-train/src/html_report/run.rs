//! A run as it is on the disk: its metrics, the description in its newest checkpoint, the list of its
//! checkpoints. Anything that a run does not write there is an error.

use std::path::{Path, PathBuf};

use tinygpt_data::read_regular;
use tinygpt_model::{ModelConfig, hf};

use crate::checkpoint::{self, State};
use crate::error::TrainError;
use crate::metrics::{self, Line};
use crate::report::{EvalRecord, SampleRecord, StepRecord};

/// The largest file of metrics, in bytes: about 20 million steps.
const MAX_METRICS_BYTES: u64 = 4 << 30;

/// A run with everything that the page shows.
#[derive(Debug)]
pub(super) struct Run {
    /// The name on the page, unique among the runs.
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) lines: Vec<Line>,
    /// The newest checkpoint; `None` before the first one.
    pub(super) newest: Option<Newest>,
    /// Oldest first.
    pub(super) checkpoints: Vec<CheckpointFacts>,
}

/// The newest checkpoint.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) state: State,
    pub(super) model: ModelConfig,
}

/// A checkpoint in the list.
#[derive(Debug)]
pub(super) struct CheckpointFacts {
    pub(super) step: u64,
    pub(super) bytes: u64,
}

impl Run {
    /// Reads the run in `dir`.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] if there is no run; [`TrainError::BadMetrics`], [`TrainError::Corrupt`]
    /// and [`TrainError::NewerFormat`] if a part of it cannot be used.
    pub(super) fn read(dir: &Path) -> Result<Self, TrainError> {
        let lines = read_lines(dir)?;
        let is_started = lines.iter().any(|line| matches!(line, Line::Step(_) | Line::Eval(_)));
        if !is_started {
            let reason = "has no step and no evaluation in its metrics.jsonl yet";
            return Err(TrainError::NoRun { dir: dir.to_path_buf(), reason });
        }
        let (mut checkpoints, mut newest) = (Vec::new(), None);
        for (step, path) in checkpoint::list(dir)? {
            match read_checkpoint(&path) {
                Ok((found, bytes)) => {
                    checkpoints.push(CheckpointFacts { step, bytes });
                    newest = newest.or(Some(found));
                }
                // The run removes the oldest while it trains.
                Err(_) if !path.exists() => {}
                Err(error) => return Err(error),
            }
        }
        checkpoints.reverse();
        let name = name_of(dir);
        Ok(Self { name, dir: dir.to_path_buf(), lines, newest, checkpoints })
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &StepRecord> {
        self.lines.iter().filter_map(|line| match line {
            Line::Step(record) => Some(record),
            _ => None,
        })
    }

    pub(super) fn evals(&self) -> impl Iterator<Item = &EvalRecord> {
        self.lines.iter().filter_map(|line| match line {
            Line::Eval(record) => Some(record),
            _ => None,
        })
    }

    pub(super) fn samples(&self) -> impl Iterator<Item = &SampleRecord> {
        self.lines.iter().filter_map(|line| match line {
            Line::Sample(record) => Some(record),
            _ => None,
        })
    }

    /// Steps made, skipped ones included.
    pub(super) fn n_steps(&self) -> u64 {
        let made = |line: &Line| match line {
            Line::Step(record) => record.iter + 1,
            Line::Skip(record) => record.iter + 1,
            Line::Eval(record) => record.iter,
            Line::Sample(_) | Line::Horizon(_) | Line::Resume(_) => 0,
        };
        self.lines.iter().map(made).max().unwrap_or_default()
    }

    /// The evaluation with the lowest validation loss, the earliest of equal ones.
    pub(super) fn best_eval(&self) -> Option<&EvalRecord> {
        self.evals().reduce(|best, eval| if eval.val_loss < best.val_loss { eval } else { best })
    }
}

/// Gives runs of equal names the path that was given for them, and counts runs of equal paths.
pub(super) fn make_names_unique(runs: &mut [Run]) {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    let is_repeated = |name: &String| names.iter().filter(|other| *other == name).count() > 1;
    for (idx, run) in runs.iter_mut().enumerate() {
        if is_repeated(&names[idx]) {
            run.name = format!("{} ({})", run.dir.display(), idx + 1);
        }
    }
}

fn name_of(dir: &Path) -> String {
    let real = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let name = real.file_name().unwrap_or(dir.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The lines of the metrics. A last line that is not complete is left out: the run is writing it, or
/// was killed.
fn read_lines(dir: &Path) -> Result<Vec<Line>, TrainError> {
    let path = dir.join(metrics::FILE_NAME);
    let bytes = match read_regular(&path, MAX_METRICS_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => {
            let reason = "holds no metrics.jsonl: it is not the directory of a run";
            return Err(TrainError::NoRun { dir: dir.to_path_buf(), reason });
        }
        Err(error) => return Err(TrainError::file(&path)(error)),
    };
    let (mut lines, mut last) = (Vec::new(), Last::default());
    for (idx, bytes) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if !bytes.ends_with(b"\n") {
            break;
        }
        let checked = serde_json::from_slice(bytes)
            .map_err(|error| format!("is not a record ({error})"))
            .and_then(|line| last.check(&line).map(|()| line));
        match checked {
            Ok(line) => lines.push(line),
            Err(reason) => return Err(TrainError::BadMetrics { path, line: idx + 1, reason }),
        }
    }
    Ok(lines)
}

/// The numbers of the last lines, to find lines out of order.
#[derive(Debug, Default)]
struct Last {
    step: Option<u64>,
    eval: Option<u64>,
}

impl Last {
    fn check(&mut self, line: &Line) -> Result<(), String> {
        let (what, iter, last) = match line {
            Line::Step(record) => ("step", record.iter, &mut self.step),
            Line::Skip(record) => ("step", record.iter, &mut self.step),
            Line::Eval(record) => ("evaluation", record.iter, &mut self.eval),
            Line::Sample(_) | Line::Horizon(_) | Line::Resume(_) => return Ok(()),
        };
        match last.replace(iter) {
            Some(last) if iter <= last => {
                Err(format!("is out of order ({what} {iter} after {what} {last})"))
            }
            _ => Ok(()),
        }
    }
}

/// The description of a checkpoint, and the size of its files.
fn read_checkpoint(dir: &Path) -> Result<(Newest, u64), TrainError> {
    let state = checkpoint::described(dir)?;
    let model = hf::read_config(dir)?;
    let entries = std::fs::read_dir(dir).map_err(TrainError::io("list", dir))?;
    let sizes = entries.map(|entry| Ok(entry?.metadata()?.len()));
    let bytes = sizes.sum::<std::io::Result<u64>>().map_err(TrainError::io("list", dir))?;
    Ok((Newest { state, model }, bytes))
}
