//! What can go wrong in a run, in one enum.
//!
//! Every message names the file or the key, what was found and what was expected;
//! [`TrainError::hint`] says what to do next. [`TrainError::kind`] is the coarse class from which the
//! command line picks its exit code; this crate itself never prints and never exits.

mod text;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tinygpt_data::{DataError, FileError, Shown, excerpt, excerpt_quoted};
pub use tinygpt_fs::ErrorKind;
use tinygpt_fs::FsError;
use tinygpt_model::{DeviceError, ModelError};

use self::text::{
    after_non_finite, circumstances, last_whole, list_faults, list_rejected, nothing_to_resume,
    on_dataset, out_dir_lost, unsaved,
};
use crate::checkpoint::{FORMAT_VERSION, OLDEST_VERSION, Skipped};
use crate::config::KeyValue;
use crate::ranks::RanksError;

/// One fault of a configuration: which key, what it holds and what it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key as it is spelled in the JSON file.
    pub key: &'static str,
    /// The value that was found.
    pub got: String,
    /// What the key accepts, and the fix if there is one.
    pub expected: String,
}

impl Fault {
    /// A fault of `key`, which holds `got` where `expected` is accepted.
    pub fn new(key: &'static str, got: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self { key, got: excerpt(&got.to_string()).into_owned(), expected: expected.into() }
    }

    /// The fault of a `value` of `key` that is outside `range`.
    pub fn of_range<T: KeyValue>(
        key: &'static str,
        value: &T,
        range: crate::Range,
    ) -> Option<Self> {
        Some(Self::new(key, value.outside(range)?, range.expected(T::IS_OPTIONAL)))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}, expected {}", self.key, self.got, self.expected)
    }
}

/// A checkpoint that was found and could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The checkpoint's directory.
    pub dir: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Everything that can stop a training run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The configuration has faults; all of them are listed at once.
    #[error("the configuration has {}", list_faults(.0))]
    Config(Vec<Fault>),

    /// A new run was requested and the directory holds an earlier one.
    #[error(
        "`out_dir` {} already holds a run{}, and `init_from` is {init_from}",
        Shown(.out_dir), on_dataset(.other_dataset.as_deref())
    )]
    UsedOutDir {
        /// The run's directory.
        out_dir: PathBuf,
        /// The `init_from` of the new run.
        init_from: String,
        /// The dataset of the run that is there, if it is another one.
        other_dataset: Option<String>,
        /// The dataset of the new run.
        dataset: String,
    },

    /// A file or directory that a run would replace, and that no run there has written.
    #[error("{} does not belong to a training run there, and training would replace it",
        Shown(.0))]
    Foreign(PathBuf),

    /// `init_from` is `resume` and there is nothing to resume.
    #[error("`init_from` is resume, but {} holds no checkpoint", Shown(.0))]
    NothingToResume(PathBuf),

    /// A resumed run would differ from the one that was saved, or a model has another shape.
    #[error("cannot continue from {}: `{key}` is {saved} there and {now} here", Shown(.checkpoint))]
    Mismatch {
        /// The checkpoint that was to be resumed, or the model directory to start from.
        checkpoint: PathBuf,
        /// The key.
        key: &'static str,
        /// The value the checkpoint was written with.
        saved: String,
        /// The value of this run.
        now: String,
        /// What to do about it.
        hint: String,
    },

    /// The data does not belong to the checkpoint or the model.
    #[error("cannot continue from {}: {what}", Shown(.checkpoint))]
    OtherData {
        /// The checkpoint that was to be resumed, or the model directory to start from.
        checkpoint: PathBuf,
        /// How the two differ.
        what: String,
        /// What to do about it.
        hint: String,
    },

    /// Another process holds the lock of `out_dir`.
    #[error("{} is in use by another training process", Shown(.0))]
    Locked(PathBuf),

    /// The directory of a run was removed, moved or taken over while it was training.
    #[error("{what} while this run was training: it stops at step {step} and writes nothing more{}",
        last_whole(.last_good.as_deref()))]
    OutDirLost {
        /// What was removed, moved or replaced.
        what: String,
        /// Where the run is now, if that is known.
        out_dir: Option<PathBuf>,
        /// Steps made.
        step: u64,
        /// The newest whole checkpoint where the run is now.
        last_good: Option<Box<Path>>,
    },

    /// An operation of the operating system failed.
    #[error("could not {act} {}", Shown(.path))]
    Io {
        /// What was tried, as a verb: `write`, `create`.
        act: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },

    /// A file of a checkpoint is not what it should be.
    #[error("{} {}: the checkpoint is damaged", Shown(.path), excerpt_quoted(.reason))]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it, as the rest of a sentence: expected and got.
        reason: String,
    },

    /// A checkpoint was written by a newer build than this one.
    #[error(
        "{} is of checkpoint format {version}, and this build reads {OLDEST_VERSION} to \
         {FORMAT_VERSION}",
        Shown(.path)
    )]
    NewerFormat {
        /// The file that holds the version.
        path: PathBuf,
        /// Its version.
        version: u32,
    },

    /// There are checkpoints, and none of them can be used.
    #[error("no usable checkpoint in {}: {}", Shown(.out_dir), list_rejected(.rejected))]
    NoGoodCheckpoint {
        /// The run's directory.
        out_dir: PathBuf,
        /// Every checkpoint that was tried, newest first.
        rejected: Vec<Rejected>,
    },

    /// A number is NaN or infinite. No checkpoint holds such a number.
    #[error(
        "{what} at iter {iter} ({}): the run cannot continue",
        circumstances(*.learning_rate, *.last_grad_norm, .windows.as_ref(), .skipped)
    )]
    NonFinite {
        /// What is not finite: the loss, the gradient or the values of a named parameter.
        what: String,
        /// Steps made before this one.
        iter: u64,
        /// The learning rate of this step.
        learning_rate: f64,
        /// Gradient norm of the last step, before clipping; NaN if there was no step.
        last_grad_norm: f64,
        /// The windows of the step that was not made, by their numbers in the order of the data;
        /// `None` if it was found elsewhere.
        windows: Option<Range<u64>>,
        /// Steps that were skipped before it.
        skipped: Skipped,
        /// The newest checkpoint, which holds only finite numbers.
        last_good: Option<Box<Path>>,
    },

    /// A checkpoint could not be saved, and the run ends because of it.
    #[error("{}", unsaved(*.step, *.n_failed, .last_good.as_deref()))]
    Unsaved {
        /// Steps made, of which those after the last good checkpoint are lost.
        step: u64,
        /// Saves that failed one after the other.
        n_failed: u32,
        /// The newest checkpoint.
        last_good: Option<Box<Path>>,
        /// The error of the last one.
        #[source]
        source: Box<Self>,
    },

    /// A directory has nothing to report about.
    #[error("{} {reason}", Shown(.dir))]
    NoRun {
        /// The directory.
        dir: PathBuf,
        /// What is missing, as the rest of a sentence.
        reason: &'static str,
    },

    /// A line of the metrics is not one that a run writes there.
    #[error("{} line {line} {reason}: the metrics are damaged", Shown(.path))]
    BadMetrics {
        /// The file.
        path: PathBuf,
        /// The number of the line.
        line: usize,
        /// What is wrong with it, as the rest of a sentence.
        reason: String,
    },

    /// A file that a report would replace, and that is not a report.
    #[error("{} is not a report of training runs, and would be replaced", Shown(.0))]
    NotAReport(PathBuf),

    /// The loss curves could not be drawn.
    #[error("could not draw {}: {reason}", Shown(.path))]
    Plot {
        /// The drawing.
        path: PathBuf,
        /// The drawing library's error.
        reason: String,
    },

    /// Several processes cannot make the run together.
    #[error(transparent)]
    Ranks(#[from] RanksError),

    /// From the model crate.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),

    /// From the data crate.
    #[error(transparent)]
    Data(#[from] DataError),

    /// From candle: an operation on the optimiser's tensors failed.
    #[error("the optimiser failed on the device")]
    Tensor(#[from] candle_core::Error),
}

impl TrainError {
    /// The class of this error; of a transparent one, that of the error inside.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_)
            | Self::UsedOutDir { .. }
            | Self::Foreign(_)
            | Self::NothingToResume(_)
            | Self::NoRun { .. }
            | Self::NotAReport(_)
            | Self::Mismatch { .. }
            | Self::OtherData { .. } => ErrorKind::Usage,
            Self::Locked(_) | Self::OutDirLost { .. } => ErrorKind::Locked,
            Self::Io { .. } | Self::Unsaved { .. } => ErrorKind::Io,
            Self::Corrupt { .. }
            | Self::BadMetrics { .. }
            | Self::NewerFormat { .. }
            | Self::NoGoodCheckpoint { .. } => ErrorKind::Corrupt,
            Self::NonFinite { .. } => ErrorKind::NonFinite,
            Self::Device(_) => ErrorKind::Usage,
            Self::Ranks(error) => error.kind(),
            Self::Data(error) => error.kind(),
            Self::Model(error) => error.kind(),
            Self::Plot { .. } | Self::Tensor(_) => ErrorKind::Unexpected,
        }
    }

    /// What to do about it, if that is known: a sentence for a line of its own.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UsedOutDir { out_dir, other_dataset: Some(theirs), dataset, .. } => format!(
                "choose another `out_dir` for `{}`; `overwrite` deletes the run on `{}` in {}",
                excerpt(dataset),
                excerpt(theirs),
                Shown(out_dir)
            ),
            Self::UsedOutDir { .. } => "continue it with `init_from` resume, start over with \
                                        `overwrite`, or choose another `out_dir`"
                .to_string(),
            Self::Foreign(_) => "choose another `out_dir`, or move it somewhere else".to_string(),
            Self::NothingToResume(dir) => nothing_to_resume(dir),
            Self::NoRun { .. } => "name the `out_dir` of a training run".to_string(),
            Self::NotAReport(_) => {
                "move it somewhere else, or work in another directory".to_string()
            }
            Self::BadMetrics { .. } => "restore the file from a copy, or remove the line; \
                                        resuming the run drops lines that are not records"
                .to_string(),
            Self::Mismatch { hint, .. } | Self::OtherData { hint, .. } => hint.clone(),
            Self::Locked(_) => {
                "wait for it to end, stop it, or choose another `out_dir`".to_string()
            }
            Self::OutDirLost { out_dir, last_good, .. } => {
                out_dir_lost(out_dir.as_deref().filter(|_| last_good.is_some()))
            }
            Self::Corrupt { .. } => {
                "use another checkpoint or restore this one from a copy".to_string()
            }
            Self::NewerFormat { .. } => "continue with the version of TinyGPT that wrote it, or \
                                         start over with `overwrite`"
                .to_string(),
            Self::NoGoodCheckpoint { .. } => {
                "restore one from a copy, or start over with `overwrite`".to_string()
            }
            Self::NonFinite { last_good, windows, skipped, .. } => {
                after_non_finite(last_good.as_deref(), windows.is_some() && skipped.total == 0)
            }
            Self::Unsaved { last_good: Some(_), .. } => "make room or choose another disk, and \
                                                         continue with `init_from` resume"
                .to_string(),
            Self::Ranks(error) => return error.hint(),
            Self::Data(error) => return error.hint(),
            Self::Model(error) => return error.hint(),
            _ => return None,
        })
    }

    /// Whether the operating system failed to read or write, in this crate or in one below it.
    pub(crate) fn is_io(&self) -> bool {
        self.kind() == ErrorKind::Io
    }

    /// Wraps an I/O error with the act and the path it belongs to; made for `map_err`.
    pub(crate) fn io(act: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { act, path, source }
    }

    /// A closure for `map_err` on a file that could not be read.
    pub(crate) fn file(path: &Path) -> impl FnOnce(FileError) -> Self {
        let path = path.to_path_buf();
        move |error| match error {
            FileError::Io(source) => Self::Io { act: "read", path, source },
            FileError::Refused(reason) => Self::Corrupt { path, reason },
        }
    }

    /// A damaged file and what is wrong with it.
    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), reason: reason.into() }
    }
}

impl From<FsError> for TrainError {
    fn from(FsError { action, path, source }: FsError) -> Self {
        Self::Io { act: action, path, source }
    }
}

/// An error with its causes on one line, without those whose text an earlier one contains.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}
