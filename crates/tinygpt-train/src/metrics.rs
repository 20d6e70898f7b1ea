//! `metrics.jsonl`: the run's numbers, one JSON object per line.
//!
//! Every step writes a `step` line, every skipped step a `skip` line, every evaluation an
//! `eval` line and a `sample` line, a resume with changed settings a `resume` line, and a run with a
//! budget that changes its length a `horizon` line. When a run is resumed, the file
//! is first cut back to the steps of the checkpoint, so that it reads as if the run had never
//! stopped. [`crate::plot`] draws it.
//!
//! A full disk does not end a run: lines that cannot be written stay in memory until they can, and
//! the incomplete line of a failed write is overwritten.

mod event_file;
mod gap;
mod tfrecord;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tinygpt_data::Shown;
use tinygpt_fs::{is_at, parent_of, write_file};

use self::event_file::{EventFile, remove_event_files};
use self::gap::Gap;
pub(crate) use self::gap::is_own;
use crate::error::{TrainError, chain};
use crate::report::{
    EvalRecord, HorizonRecord, Report, ResumeRecord, SampleRecord, SkipRecord, StepRecord,
};

/// Name of the file in `out_dir`.
pub const FILE_NAME: &str = "metrics.jsonl";

/// One line of the file.
///
/// ```
/// use tinygpt_train::metrics::Line;
///
/// let line = r#"{"event":"eval","iter":0,"train_loss":4.2,"val_loss":4.2,
///                "val_bits_per_byte":6.1,"perplexity":66.7}"#;
/// assert!(matches!(serde_json::from_str(line)?, Line::Eval(record) if record.iter == 0));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Line {
    /// One step.
    Step(StepRecord),
    /// One skipped step.
    Skip(SkipRecord),
    /// One evaluation.
    Eval(EvalRecord),
    /// The text of an evaluation.
    Sample(SampleRecord),
    /// Another length of a run with a budget.
    Horizon(HorizonRecord),
    /// Settings that were changed when the run was resumed.
    Resume(ResumeRecord),
}

/// The steps and evaluations that a checkpoint contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Steps made.
    pub n_iters: u64,
    /// The `iter` of the last evaluation, if there was one.
    pub last_eval_iter: Option<u64>,
}

impl Seen {
    fn holds(&self, line: &Line) -> bool {
        match line {
            Line::Step(record) => record.iter < self.n_iters,
            Line::Skip(record) => record.iter < self.n_iters,
            Line::Resume(record) => record.iter < self.n_iters,
            Line::Horizon(record) => record.iter < self.n_iters,
            Line::Eval(record) => self.has_eval(record.iter),
            Line::Sample(record) => self.has_eval(record.iter),
        }
    }

    fn has_eval(&self, iter: u64) -> bool {
        self.last_eval_iter.is_some_and(|last| iter <= last)
    }
}

/// Bytes of buffered lines at which they are written.
const FULL_BYTES: usize = 8 << 10;

/// The open file. Lines are buffered until [`Metrics::flush`].
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    /// `None` while lines are only buffered: see [`Metrics::held_back`].
    file: Option<File>,
    /// Bytes of whole lines in the file.
    written: u64,
    /// Whole lines that are not in the file yet.
    pending: Vec<u8>,
    /// Whether the last flush failed.
    is_behind: bool,
    /// The same numbers for TensorBoard, if they are wanted.
    events: Option<EventFile>,
}

impl Metrics {
    /// Starts a new file in `out_dir`.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the file cannot be created.
    pub fn create(out_dir: &Path) -> Result<Self, TrainError> {
        let path = out_dir.join(FILE_NAME);
        let file = File::create(&path).map_err(TrainError::io("create", &path))?;
        Ok(Self::over(path, Some(file), 0))
    }

    fn over(path: PathBuf, file: Option<File>, written: u64) -> Self {
        Self { path, file, written, pending: Vec::new(), is_behind: false, events: None }
    }

    /// Keeps all lines in memory until [`Metrics::release`], for a run that replaces another one:
    /// the other's file stays until the first checkpoint takes its place.
    pub(crate) fn held_back(out_dir: &Path) -> Self {
        Self::over(out_dir.join(FILE_NAME), None, 0)
    }

    /// From now on also writes a TensorBoard event file if it `is_wanted`; it starts with the lines that
    /// the metrics hold already. If not, a new run leaves none of an earlier run.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the metrics cannot be read, or an earlier file cannot be removed.
    pub(crate) fn set_event_file(&mut self, is_wanted: bool) -> Result<(), TrainError> {
        let out_dir = parent_of(&self.path);
        if is_wanted {
            // Before `release`, the file at the path is that of another run.
            let lines = if self.file.is_some() { read(&self.path)? } else { Vec::new() };
            self.events = Some(EventFile::new(out_dir, &lines));
        } else if self.file.is_some() && self.written == 0 {
            remove_event_files(out_dir)?;
        }
        Ok(())
    }

    /// The lines that are not in the file yet.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Opens the file, which holds all lines so far.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the file cannot be opened.
    pub(crate) fn release(&mut self) -> Result<(), TrainError> {
        let file = File::options().write(true).open(&self.path);
        self.file = Some(file.map_err(TrainError::io("open for writing", &self.path))?);
        self.written = self.pending.len() as u64;
        self.pending.clear();
        match &self.events {
            Some(_) => Ok(()),
            None => remove_event_files(parent_of(&self.path)),
        }
    }

    /// Opens the file of an earlier run to continue it, cut back to the steps of the checkpoint.
    ///
    /// A last line that a crash cut in two is dropped, and so is any line that is not a record. A
    /// missing file is started again: the weights matter more than their history. The returned text
    /// names the missing lines, if any.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the file cannot be read or replaced.
    pub fn resume(out_dir: &Path, seen: Seen) -> Result<(Self, Option<String>), TrainError> {
        let path = out_dir.join(FILE_NAME);
        if !path.exists() {
            return Ok((Self::create(out_dir)?, Gap::default().message(&path, seen)));
        }
        let (mut kept, mut gap) = (String::new(), Gap::default());
        let bytes = std::fs::read(&path).map_err(TrainError::io("read", &path))?;
        for (i, line) in String::from_utf8_lossy(&bytes).split_inclusive('\n').enumerate() {
            // A last line without an end was cut by a crash.
            let is_whole = line.ends_with('\n');
            match serde_json::from_str::<Line>(line) {
                Ok(parsed) if is_whole && seen.holds(&parsed) => {
                    gap.note(&parsed);
                    kept.push_str(line);
                }
                Err(_) if is_whole => gap.bad_lines.push(i + 1),
                _ => {}
            }
        }
        write_file(&path, kept.as_bytes())?;
        let file = File::options().write(true).open(&path);
        let file = file.map_err(TrainError::io("open for writing", &path))?;
        let message = gap.message(&path, seen);
        Ok((Self::over(path, Some(file), kept.len() as u64), message))
    }

    /// Adds a step.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the record cannot be written as JSON.
    pub fn step(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        self.write(&Line::Step(record.clone()))
    }

    /// Adds a skipped step.
    ///
    /// # Errors
    /// As [`Metrics::step`].
    pub fn skip(&mut self, record: &SkipRecord) -> Result<(), TrainError> {
        self.write(&Line::Skip(record.clone()))
    }

    /// Adds an evaluation.
    ///
    /// # Errors
    /// As [`Metrics::step`].
    pub fn eval(&mut self, record: &EvalRecord) -> Result<(), TrainError> {
        self.write(&Line::Eval(record.clone()))
    }

    /// Adds the text of an evaluation.
    ///
    /// # Errors
    /// As [`Metrics::step`].
    pub fn sample(&mut self, record: &SampleRecord) -> Result<(), TrainError> {
        self.write(&Line::Sample(record.clone()))
    }

    /// Adds another length.
    ///
    /// # Errors
    /// As [`Metrics::step`].
    pub fn horizon(&mut self, record: &HorizonRecord) -> Result<(), TrainError> {
        self.write(&Line::Horizon(record.clone()))
    }

    /// Adds the changes of a run that is resumed.
    ///
    /// # Errors
    /// As [`Metrics::step`].
    pub fn resumed(&mut self, record: &ResumeRecord) -> Result<(), TrainError> {
        self.write(&Line::Resume(record.clone()))
    }

    /// Whether enough lines are buffered for a write.
    pub(crate) fn is_full(&self) -> bool {
        self.file.is_some() && self.pending.len() >= FULL_BYTES
    }

    /// Hands everything to the operating system, so that other programs see it.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the file cannot be written: the lines are kept, and written by the
    /// next flush that succeeds.
    pub fn flush(&mut self) -> Result<(), TrainError> {
        self.flush_lines()?;
        match &mut self.events {
            Some(events) if self.file.is_some() => events.flush(),
            _ => Ok(()),
        }
    }

    fn flush_lines(&mut self) -> Result<(), TrainError> {
        let Some(mut file) = self.file.as_ref().filter(|_| !self.pending.is_empty()) else {
            return Ok(());
        };
        let written = file
            .seek(SeekFrom::Start(self.written))
            .and_then(|_| file.write_all(&self.pending))
            .map_err(TrainError::io("write", &self.path));
        if written.is_ok() {
            self.written += self.pending.len() as u64;
            self.pending.clear();
        } else {
            // Half a line; if it cannot be cut off, the next flush writes over it.
            let _ = file.set_len(self.written);
        }
        written
    }

    /// [`Metrics::flush`] for a run that continues after a failure: the first failure is reported,
    /// and so is the first success after it.
    pub(crate) fn flush_or_report(&mut self, report: &mut dyn Report) {
        let flushed = self.flush();
        self.report_change(flushed, report);
    }

    /// [`Metrics::sync`] in the same way.
    pub(crate) fn sync_or_report(&mut self, report: &mut dyn Report) {
        let synced = self.sync();
        self.report_change(synced, report);
    }

    fn report_change(&mut self, result: Result<(), TrainError>, report: &mut dyn Report) {
        match result {
            Ok(()) if self.is_behind => {
                self.is_behind = false;
                report.notice("the metrics that could not be written are written now");
            }
            Err(error) if !self.is_behind => {
                self.is_behind = true;
                report.notice(&format!(
                    "METRICS NOT WRITTEN: {}. Training continues; the lines are kept and written \
                     as soon as possible",
                    chain(&error)
                ));
            }
            _ => {}
        }
    }

    /// Syncs the file, so that it survives a power cut. Its name does once `out_dir` is synced, as
    /// it is with every checkpoint.
    ///
    /// # Errors
    /// As [`Metrics::flush`].
    pub fn sync(&mut self) -> Result<(), TrainError> {
        self.flush()?;
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_data);
        synced.map_err(TrainError::io("sync", &self.path))
    }

    /// Whether the file at its path is still the open one and has all lines that were written.
    pub(crate) fn lost(&self) -> Option<String> {
        let path = Shown(&self.path);
        let file = self.file.as_ref()?;
        if !is_at(file, &self.path) {
            let happened = if self.path.exists() { "replaced" } else { "removed or moved" };
            return Some(format!("{path} was {happened}"));
        }
        let length = file.metadata().ok()?.len();
        (length < self.written).then(|| format!("{path} was cut to {length} bytes"))
    }

    /// Drops the lines that are not in the file yet, of a run that must not write anything more.
    pub(crate) fn discard_pending(&mut self) {
        self.pending.clear();
        self.events = None;
    }

    fn write(&mut self, line: &Line) -> Result<(), TrainError> {
        if let Some(events) = &mut self.events {
            events.add(line);
        }
        let json = serde_json::to_vec(line)
            .map_err(|error| TrainError::io("write", &self.path)(error.into()))?;
        self.pending.extend(json);
        self.pending.push(b'\n');
        Ok(())
    }
}

impl Drop for Metrics {
    /// A run that ends with an error leaves its last lines, too.
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

/// Writes the TensorBoard event file of a run that has ended.
///
/// # Errors
/// [`TrainError::Io`] if the metrics cannot be read, or the file cannot be written.
pub(crate) fn write_event_file(out_dir: &Path) -> Result<(), TrainError> {
    EventFile::new(out_dir, &read(&out_dir.join(FILE_NAME))?).flush()
}

/// Copies the metrics of the run in `from` to `out_dir`, if there are any.
pub(crate) fn copy(from: &Path, out_dir: &Path) -> Result<(), TrainError> {
    let path = from.join(FILE_NAME);
    if path.is_file() {
        let lines = std::fs::read(&path).map_err(TrainError::io("read", &path))?;
        write_file(&out_dir.join(FILE_NAME), &lines)?;
    }
    Ok(())
}

/// Reads the lines of a metrics file that are records.
///
/// # Errors
/// [`TrainError::Io`] if the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Line>, TrainError> {
    let bytes = std::fs::read(path).map_err(TrainError::io("read", path))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests;
