//! Finding a checkpoint that can be trusted.
//!
//! Readers need no lock: a checkpoint never changes once it has its name. Each file is compared
//! with the manifest before any of it is used.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::foreign::is_checkpoint;
use super::{BEST, CONFIG_FILE, LAST, STATE_FILE, State, list, manifest, pointer, step_of};
use crate::error::{Rejected, TrainError};

/// Which checkpoint to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one with the lowest validation loss.
    Best,
    /// The newest.
    Last,
    /// This directory: a checkpoint of a run, or any Hugging Face GPT-2 directory.
    Dir(PathBuf),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "best" => Ok(Self::Best),
            "last" => Ok(Self::Last),
            "" => Err("expected best, last or a directory".to_string()),
            dir => Ok(Self::Dir(PathBuf::from(dir))),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str(BEST),
            Self::Last => f.write_str(LAST),
            Self::Dir(dir) => write!(f, "{}", dir.display()),
        }
    }
}

/// The directory of a checkpoint of the run in `out_dir`, verified against its manifest.
///
/// `Best` falls back to the newest if no evaluation was made yet. A `Dir` without a manifest was
/// not written by a run and is returned as it is.
///
/// # Errors
/// [`TrainError::NothingToResume`] if there is no checkpoint, [`TrainError::Corrupt`] if it is
/// damaged, [`TrainError::Io`] if it cannot be read.
pub fn locate(out_dir: &Path, which: &Which) -> Result<PathBuf, TrainError> {
    // A trainer may move the link and prune while we read; then the new target is the answer.
    let mut dir = resolve(out_dir, which)?;
    loop {
        if matches!(which, Which::Dir(_)) && !dir.join(manifest::FILE_NAME).exists() {
            return Ok(dir);
        }
        match manifest::verify(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) => {
                let now = resolve(out_dir, which)?;
                if now == dir {
                    return Err(error);
                }
                dir = now;
            }
        }
    }
}

/// The directory that is meant now. A link is followed here, once, so that all files come from the
/// same checkpoint.
fn resolve(out_dir: &Path, which: &Which) -> Result<PathBuf, TrainError> {
    match which {
        Which::Dir(dir) if dir.is_symlink() => {
            dir.canonicalize().map_err(TrainError::io("follow the link", dir))
        }
        Which::Dir(dir) => Ok(dir.clone()),
        Which::Best => named(out_dir, BEST),
        Which::Last => named(out_dir, LAST),
    }
}

fn named(out_dir: &Path, name: &str) -> Result<PathBuf, TrainError> {
    let newest = || {
        let mut all = list(out_dir)?;
        let is_renamed = |(step, dir): &(u64, PathBuf)| {
            State::read(&dir.join(STATE_FILE)).is_ok_and(|state| state.step != *step)
        };
        all.retain(|checkpoint| !is_renamed(checkpoint));
        Ok::<_, TrainError>(all.into_iter().next())
    };
    let found = match pointer::target(out_dir, name).or_else(|| pointer::target(out_dir, LAST)) {
        Some(target) => Some(target),
        None => newest()?,
    };
    found.map(|(_, dir)| dir).ok_or_else(|| TrainError::NothingToResume(out_dir.to_path_buf()))
}

/// The training state next to a model that [`locate`] found; `None` if no run wrote the model.
///
/// # Errors
/// [`TrainError::Corrupt`] or [`TrainError::Io`] if there is one and it cannot be read.
pub fn state_of(dir: &Path) -> Result<Option<State>, TrainError> {
    let path = dir.join(STATE_FILE);
    if path.exists() { State::read(&path).map(Some) } else { Ok(None) }
}

/// Verifies a checkpoint and reads its state.
pub(crate) fn open(dir: &Path) -> Result<State, TrainError> {
    manifest::verify(dir)?;
    read_state(dir)
}

/// Reads the state of a checkpoint, which must be that of the step in the directory's name.
fn read_state(dir: &Path) -> Result<State, TrainError> {
    let path = dir.join(STATE_FILE);
    let state = State::read(&path)?;
    match dir.file_name().and_then(|name| step_of(name.to_str()?)) {
        Some(step) if step != state.step => {
            let reason = format!(
                "is of step {}, the directory's name says {step}: it was copied or renamed",
                state.step
            );
            Err(TrainError::corrupt(&path, reason))
        }
        _ => Ok(state),
    }
}

/// The newest good checkpoint of a run and those that had to be skipped.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) dir: PathBuf,
    pub(crate) state: State,
    /// Newer ones that are damaged, newest first.
    pub(crate) rejected: Vec<Rejected>,
}

/// The checkpoint that the link `name` names; `None` if there is no such link.
///
/// # Errors
/// [`TrainError::Corrupt`] if it is damaged, [`TrainError::NewerFormat`].
pub(crate) fn open_named(out_dir: &Path, name: &str) -> Result<Option<Found>, TrainError> {
    let Some((_, dir)) = pointer::target(out_dir, name) else { return Ok(None) };
    let state = open(&dir)?;
    Ok(Some(Found { dir, state, rejected: Vec::new() }))
}

/// Returns the first good checkpoint, newest first.
///
/// # Errors
/// [`TrainError::NoGoodCheckpoint`] if there are checkpoints and all are damaged;
/// [`TrainError::NewerFormat`] if the newest undamaged one was written by a newer build.
pub(crate) fn newest_good(out_dir: &Path) -> Result<Option<Found>, TrainError> {
    newest(out_dir, open)
}

/// The newest checkpoint whose state and shape are good; its weights are not read.
///
/// # Errors
/// As [`newest_good`].
pub(crate) fn newest_described(out_dir: &Path) -> Result<Option<Found>, TrainError> {
    newest(out_dir, described)
}

/// Verifies what describes a checkpoint and reads its state; its weights are not read.
pub(crate) fn described(dir: &Path) -> Result<State, TrainError> {
    manifest::verify_some(dir, &[STATE_FILE, CONFIG_FILE])?;
    read_state(dir)
}

fn newest(
    out_dir: &Path,
    open: impl Fn(&Path) -> Result<State, TrainError>,
) -> Result<Option<Found>, TrainError> {
    let mut rejected = Vec::new();
    for (_, dir) in list(out_dir)? {
        match open(&dir) {
            Ok(state) => return Ok(Some(Found { dir, state, rejected })),
            // Falling back to an older one would discard steps that are intact.
            Err(error @ TrainError::NewerFormat { .. }) => return Err(error),
            Err(error) => rejected.push(Rejected { reason: why(&error), dir }),
        }
    }
    // Other directories that only have such a name are not damaged checkpoints.
    if !rejected.iter().any(|rejected| is_checkpoint(&rejected.dir)) {
        return Ok(None);
    }
    Err(TrainError::NoGoodCheckpoint { out_dir: out_dir.to_path_buf(), rejected })
}

/// Why a checkpoint cannot be used, in a few words, for an error that is only reported.
pub(crate) fn why(error: &TrainError) -> String {
    match error {
        TrainError::Corrupt { path, reason } => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("{name} {reason}")
        }
        TrainError::Io { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}
