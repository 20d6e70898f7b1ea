//! What can go wrong in a run, in one enum.
//!
//! Every message names the file or the key, what was found, what was expected and what to do
//! next. [`TrainError::kind`] is the coarse class from which the command line picks its exit code;
//! this crate itself never prints and never exits.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tinygpt_data::DataError;
use tinygpt_model::ModelError;

use crate::checkpoint::{FORMAT_VERSION, OLDEST_VERSION, Skipped};
use crate::report::few_digits;

/// One fault of a configuration: which key, what it holds and what it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key as it is spelled in the JSON file.
    pub key: &'static str,
    /// The value that was found.
    pub got: String,
    /// What the key accepts, and the way out where there is one.
    pub expected: String,
}

impl Fault {
    /// A fault of `key`, which holds `got` where `expected` is accepted.
    pub fn new(key: &'static str, got: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self { key, got: got.to_string(), expected: expected.into() }
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

/// The class of an error; the command line turns it into an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request cannot be met as it was made: a wrong key, a used directory.
    Config,
    /// Data or a checkpoint is bad or corrupt.
    Corrupt,
    /// The operating system refused to read or write.
    Io,
    /// The loss or a gradient is not a finite number.
    NonFinite,
    /// Another process trains in the same directory.
    Locked,
    /// The data crate failed; its own kind says how.
    Data,
    /// The model crate failed; its own kind says how.
    Model,
    /// Anything else.
    Unexpected,
}

/// Everything that can stop a training run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The configuration has faults; all of them are listed at once.
    #[error("the configuration has {}", list_faults(.0))]
    Config(Vec<Fault>),

    /// A new run was asked for and the directory holds an earlier one.
    #[error(
        "`out_dir` {} already holds a run, and `init_from` is {init_from}: go on with it by \
         `--init-from resume`, start over with `--overwrite`, or choose another `--out-dir`",
        .out_dir.display()
    )]
    UsedOutDir {
        /// The run's directory.
        out_dir: PathBuf,
        /// What the new run was to start from.
        init_from: String,
    },

    /// `init_from` is `resume` and there is nothing to go on from.
    #[error(
        "`init_from` is resume, but {} holds no checkpoint: start with `--init-from scratch` \
         (or `auto`, which resumes where it can), or name the run's directory with `--out-dir`",
        .0.display()
    )]
    NothingToResume(PathBuf),

    /// A resumed run would differ from the one that was saved.
    #[error(
        "cannot go on from {}: `{key}` was {saved} when it was saved and is {now} now; {cure}",
        .checkpoint.display()
    )]
    Mismatch {
        /// The checkpoint that was to be resumed, or the model directory to start from.
        checkpoint: PathBuf,
        /// The key, or what stands for it.
        key: &'static str,
        /// The value the checkpoint was written with.
        saved: String,
        /// The value of this run.
        now: String,
        /// What to do about it.
        cure: String,
    },

    /// Another process holds the lock of `out_dir`.
    #[error(
        "{} is in use by another training process: wait for it to end, stop it, \
         or choose another `--out-dir`",
        .0.display()
    )]
    Locked(PathBuf),

    /// The operating system refused.
    #[error("could not {act} {}", .path.display())]
    Io {
        /// What was tried, as a verb: `write`, `create`.
        act: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },

    /// A file of a checkpoint is not what it should be.
    #[error(
        "{} {reason}: the checkpoint is damaged, use another one or restore it from a copy",
        .path.display()
    )]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it, as the rest of a sentence: expected and got.
        reason: String,
    },

    /// A checkpoint was written by a newer build than this one.
    #[error(
        "{} is of checkpoint format {version}, and this build reads {OLDEST_VERSION} to \
         {FORMAT_VERSION}: go on with the version of TinyGPT that wrote it, or start over with \
         `--overwrite`",
        .path.display()
    )]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        version: u32,
    },

    /// There are checkpoints, and none of them can be used.
    #[error(
        "no usable checkpoint in {}: {}; restore one from a copy, or start over with `--overwrite`",
        .out_dir.display(), list_rejected(.rejected)
    )]
    NoGoodCheckpoint {
        /// The run's directory.
        out_dir: PathBuf,
        /// Every checkpoint that was tried, newest first.
        rejected: Vec<Rejected>,
    },

    /// Numbers stopped being finite. No checkpoint holds any of it.
    #[error(
        "{what} at iter {iter} ({}): the run cannot go on. {}",
        circumstances(*.learning_rate, *.last_grad_norm, .windows.as_ref(), .skipped),
        way_on(.last_good.as_deref(), .windows.is_some() && .skipped.total == 0)
    )]
    NonFinite {
        /// What is not finite: the loss, the gradient or the values of a named parameter.
        what: String,
        /// Steps made before this one.
        iter: u64,
        /// The learning rate of this step.
        learning_rate: f64,
        /// Gradient norm of the last update, before clipping; NaN where there was none.
        last_grad_norm: f64,
        /// The windows of the update that was not made, by their numbers in the order of the data;
        /// `None` if it was found elsewhere.
        windows: Option<Range<u64>>,
        /// Updates that were passed over before it.
        skipped: Skipped,
        /// The newest checkpoint, which holds only finite numbers.
        last_good: Option<Box<Path>>,
    },

    /// The disk refused a checkpoint, and the run ends because of it.
    #[error("{}", unsaved(*.step, *.n_failed, .last_good.as_deref()))]
    Unsaved {
        /// Steps made, of which those after the last good checkpoint are lost.
        step: u64,
        /// Saves that failed one after the other.
        n_failed: u32,
        /// The newest checkpoint.
        last_good: Option<Box<Path>>,
        /// What the last of them failed with.
        #[source]
        source: Box<Self>,
    },

    /// The loss curves could not be drawn.
    #[error("could not draw {}: {reason}", .path.display())]
    Plot {
        /// The drawing.
        path: PathBuf,
        /// What the drawing library says.
        reason: String,
    },

    /// From the model crate.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// From the data crate.
    #[error(transparent)]
    Data(#[from] DataError),

    /// From candle: an operation on the optimiser's tensors failed.
    #[error("the optimiser failed on the device")]
    Tensor(#[from] candle_core::Error),
}

impl TrainError {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_)
            | Self::UsedOutDir { .. }
            | Self::NothingToResume(_)
            | Self::Mismatch { .. } => ErrorKind::Config,
            Self::Locked(_) => ErrorKind::Locked,
            Self::Io { .. } | Self::Unsaved { .. } => ErrorKind::Io,
            Self::Corrupt { .. } | Self::NewerFormat { .. } | Self::NoGoodCheckpoint { .. } => {
                ErrorKind::Corrupt
            }
            Self::NonFinite { .. } => ErrorKind::NonFinite,
            Self::Data(_) => ErrorKind::Data,
            Self::Model(_) => ErrorKind::Model,
            Self::Plot { .. } | Self::Tensor(_) => ErrorKind::Unexpected,
        }
    }

    /// Whether the operating system refused to read or write, whoever asked it to.
    pub(crate) fn is_io(&self) -> bool {
        match self {
            Self::Model(error) => error.kind() == tinygpt_model::ErrorKind::Io,
            Self::Data(error) => error.kind() == tinygpt_data::ErrorKind::Io,
            _ => self.kind() == ErrorKind::Io,
        }
    }

    /// Wraps an I/O error with the act and the path it belongs to; made for `map_err`.
    pub(crate) fn io(act: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { act, path, source }
    }

    /// A damaged file and what is wrong with it.
    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), reason: reason.into() }
    }
}

/// An error with its causes on one line, for where it is only told.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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

fn unsaved(step: u64, n_failed: u32, last_good: Option<&Path>) -> String {
    let times = match n_failed {
        1 => String::new(),
        n => format!(", for the {n}. time in a row"),
    };
    let rest = match last_good {
        Some(dir) => format!(
            "what was trained after {} is lost, which is whole: make room or choose another disk, \
             and go on from it with `--init-from resume`",
            dir.display()
        ),
        None => "there is no checkpoint before it".to_string(),
    };
    format!("step {step} could not be saved{times}; {rest}")
}

fn list_faults(faults: &[Fault]) -> String {
    match faults {
        [only] => format!("a fault: {only}"),
        many => {
            let lines: Vec<String> = many.iter().map(|fault| format!("\n  {fault}")).collect();
            format!("{} faults:{}", many.len(), lines.concat())
        }
    }
}

fn list_rejected(rejected: &[Rejected]) -> String {
    let name = |dir: &Path| dir.file_name().map(|n| n.to_string_lossy().into_owned());
    let each: Vec<String> = rejected
        .iter()
        .map(|r| format!("{} ({})", name(&r.dir).unwrap_or_default(), r.reason))
        .collect();
    each.join("; ")
}

/// What a person needs to look into numbers that are none.
fn circumstances(
    learning_rate: f64,
    last_grad_norm: f64,
    windows: Option<&Range<u64>>,
    skipped: &Skipped,
) -> String {
    let mut text = format!("learning rate {learning_rate:e}");
    if last_grad_norm.is_finite() {
        text += &format!(", gradient norm of the update before {}", few_digits(last_grad_norm, 4));
    }
    if let Some(Range { start, end }) = windows {
        text += &format!(", batch of windows {start} to {}", end - 1);
    }
    if skipped.total > 0 {
        text += &format!(", {} skipped before, {} in a row", skipped.total, skipped.in_row);
    }
    text
}

/// How to go on after numbers that are none; `may_skip` where passing over the batch may help.
fn way_on(last_good: Option<&Path>, may_skip: bool) -> String {
    let skip =
        if may_skip { ", or pass over such batches with `--on-non-finite skip`" } else { "" };
    match last_good {
        Some(dir) => format!(
            "The last good checkpoint is {}: go on from it with `--init-from resume` and a lower \
             `--learning-rate`{skip}",
            dir.display()
        ),
        None => format!("No checkpoint was saved yet: try a lower `--learning-rate`{skip}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_norm_is_told_in_few_digits() {
        let text = |norm: f64| circumstances(1e-3, norm, None, &Skipped::default());
        let norm = "learning rate 1e-3, gradient norm of the update before";
        assert_eq!(text(0.84312), format!("{norm} 0.8431"));
        assert_eq!(text(1e30), format!("{norm} 1.0000e30"));
        assert_eq!(text(f64::NAN), "learning rate 1e-3");
    }
}
