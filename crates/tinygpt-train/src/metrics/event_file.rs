//! The metrics as a TensorBoard event file in `out_dir`, next to `metrics.jsonl` and made of its lines.
//!
//! A resumed run writes a new file: the metrics were cut back to the checkpoint, and an event file cannot
//! be cut while TensorBoard reads it. The new name is a later one, and the second record makes a running
//! TensorBoard forget what it has read. The earlier file is emptied and only removed by the next resume:
//! a TensorBoard whose file is missing does not look for the next one.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Line;
use super::tfrecord::{What, record};
use crate::error::TrainError;

/// How the name of every event file starts.
const PREFIX: &str = "events.out.tfevents.";
/// How the name of ours ends.
const SUFFIX: &str = ".tinygpt";

/// An event file that grows with the metrics.
#[derive(Debug)]
pub(super) struct EventFile {
    out_dir: PathBuf,
    /// `None` before the first flush.
    file: Option<(PathBuf, File)>,
    /// Bytes of whole records in the file.
    written: u64,
    /// Whole records that are not in the file yet.
    pending: Vec<u8>,
    /// When the first step began, in seconds since 1970.
    began: f64,
    /// The seconds that the steps so far took. The metrics have no other times.
    seconds: f64,
}

impl EventFile {
    /// A file of `lines`, which is written by [`Self::flush`].
    pub(super) fn new(out_dir: &Path, lines: &[Line]) -> Self {
        let took: f64 = lines.iter().map(seconds_of).sum();
        let mut events = Self {
            out_dir: out_dir.to_path_buf(),
            file: None,
            written: 0,
            pending: Vec::new(),
            began: unix_time() - took,
            seconds: 0.0,
        };
        events.pending.extend(record(events.began, 0, &What::FileVersion));
        events.pending.extend(record(events.began, 0, &What::SessionStart));
        for line in lines {
            events.add(line);
        }
        events
    }

    /// Adds the numbers of a line.
    pub(super) fn add(&mut self, line: &Line) {
        self.seconds += seconds_of(line);
        let time = self.began + self.seconds;
        let mut add = |step, scalars: &[(&str, f32)]| {
            self.pending.extend(record(time, step, &What::Scalars(scalars)));
        };
        match line {
            Line::Step(step) => add(
                step.iter,
                &[
                    ("train/loss", step.loss),
                    ("train/learning_rate", step.learning_rate as f32),
                    ("train/grad_norm", step.grad_norm),
                    ("train/tokens_per_second", step.tokens_per_second as f32),
                ],
            ),
            Line::Eval(eval) => add(
                eval.iter,
                &[("eval/loss", eval.val_loss), ("eval/bits_per_byte", eval.val_bits_per_byte)],
            ),
            Line::Skip(_) | Line::Sample(_) | Line::Horizon(_) | Line::Resume(_) => {}
        }
    }

    /// Hands everything to the operating system. The first call empties the earlier file of the run.
    ///
    /// # Errors
    /// [`TrainError::Io`]: the records are kept, and written by the next call that succeeds.
    pub(super) fn flush(&mut self) -> Result<(), TrainError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            // Before the earlier ones are removed.
            let path = self.unused_path()?;
            empty_event_files(&self.out_dir)?;
            let file = File::create(&path).map_err(TrainError::io("create", &path))?;
            self.file = Some((path, file));
        }
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        file.seek(SeekFrom::Start(self.written))
            .and_then(|_| file.write_all(&self.pending))
            .map_err(TrainError::io("write", path))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// A name with the time of now, or a later one: TensorBoard reads files in the order of their names, and
    /// two runs can start within a second.
    fn unused_path(&self) -> Result<PathBuf, TrainError> {
        let newest = event_files(&self.out_dir)?.iter().filter_map(|path| second_of(path)).max();
        let second = newest.map_or(0, |newest| newest + 1).max(unix_time() as u64);
        Ok(self.out_dir.join(format!("{PREFIX}{second:010}{SUFFIX}")))
    }
}

/// The time in the name of an event file.
fn second_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

/// Removes the event files that runs in `out_dir` have written, and no others.
///
/// # Errors
/// [`TrainError::Io`].
pub(super) fn remove_event_files(out_dir: &Path) -> Result<(), TrainError> {
    for path in event_files(out_dir)? {
        std::fs::remove_file(&path).map_err(TrainError::io("remove", &path))?;
    }
    Ok(())
}

/// Empties them, and removes those that are empty already.
fn empty_event_files(out_dir: &Path) -> Result<(), TrainError> {
    for path in event_files(out_dir)? {
        let metadata = path.metadata().map_err(TrainError::io("read", &path))?;
        if metadata.len() == 0 {
            std::fs::remove_file(&path).map_err(TrainError::io("remove", &path))?;
        } else {
            File::create(&path).map_err(TrainError::io("empty", &path))?;
        }
    }
    Ok(())
}

fn event_files(out_dir: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(out_dir).map_err(TrainError::io("list", out_dir))? {
        let name = entry.map_err(TrainError::io("list", out_dir))?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
            found.push(out_dir.join(name));
        }
    }
    Ok(found)
}

fn seconds_of(line: &Line) -> f64 {
    if let Line::Step(step) = line { step.step_ms / 1000.0 } else { 0.0 }
}

fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
