//! Checkpoints: written whole or not at all, checked before they are used.
//!
//! ```text
//! out_dir/
//!   .lock                      held by the one process that trains here
//!   checkpoints/step-00000250/ immutable once it has this name
//!     config.json model.safetensors generation_config.json   a Hugging Face GPT-2 directory
//!     tokenizer.json tokenizer_config.json                   copied from the prepared data
//!     optimizer.safetensors                                  both moments, named by parameter
//!     state.json                                             step, data cursor, configuration
//!     manifest.json                                          size and SHA-256 of all the others
//!   best, last, plateau        relative links to some of them
//! ```
//!
//! A save writes into a temporary directory, syncs every file and the directory, renames it, syncs
//! the parent, then moves the links, and only then removes what is no longer needed. A process that
//! dies anywhere in between leaves the earlier checkpoints as they were. The links are for people
//! and for `sample`; resuming looks at the directories themselves and takes the newest good one.
//!
//! The [`Trainer`](crate::Trainer) decides what is saved, and when.

mod foreign;
mod lock;
mod manifest;
mod moments;
mod pointer;
mod read;
mod replace;
mod space;
mod state;
mod write;

use std::path::{Path, PathBuf};

use tinygpt_model::hf;

use crate::error::TrainError;

pub(crate) use foreign::foreign;
pub use foreign::is_checkpoint;
pub use lock::is_locked;
pub(crate) use lock::{Lost, OutDirLock, is_abandoned};
pub(crate) use moments::{read_moments, write_moments};
pub(crate) use pointer::{point, step_named};
pub(crate) use read::{Found, described, newest_described, newest_good, open, open_named, why};
pub use read::{Which, locate, state_of};
pub(crate) use replace::{announcement, finish, save_over};
pub(crate) use state::OLDEST_VERSION;
pub use state::{Best, FORMAT_VERSION, RunConfig, Skipped, State};
pub(crate) use write::{Keep, clean_leftovers, clean_parts, copy, prune, save};

/// Directory of the checkpoints in `out_dir`.
pub const DIR_NAME: &str = "checkpoints";
/// Link to the checkpoint with the lowest validation loss.
pub const BEST: &str = "best";
/// Link to the newest checkpoint.
pub const LAST: &str = "last";
/// Link to the checkpoint before the decay of a run with `lr_schedule` wsd, from which it can get
/// another length.
pub const PLATEAU: &str = "plateau";
/// All links.
const LINKS: [&str; 3] = [BEST, LAST, PLATEAU];
/// The shape of the model.
pub(crate) const CONFIG_FILE: &str = hf::CONFIG;
/// The weights.
pub(crate) const WEIGHTS_FILE: &str = hf::WEIGHTS;
/// The optimiser's moments.
pub(crate) const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The training state.
pub(crate) const STATE_FILE: &str = "state.json";

/// Prefix of a checkpoint that is being written.
const TEMPORARY: &str = ".tmp-";
/// Prefix of a checkpoint that another one of its step is about to replace.
const REPLACED: &str = ".old-";
/// Prefix of a checkpoint that is being removed.
const DELETED: &str = ".del-";

/// What is about to be `checkpoints`; after the exchange the earlier run's.
const NEW: &str = ".new";
/// The earlier run's checkpoints, if the system cannot exchange two directories.
const OLD: &str = ".old";

/// The directory of the checkpoint after `step` steps.
pub fn dir_of(out_dir: &Path, step: u64) -> PathBuf {
    out_dir.join(DIR_NAME).join(dir_name(step))
}

fn dir_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step in a name that [`dir_name`] makes; `step-7` is not such a name.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (dir_name(step) == name).then_some(step)
}

/// Whether a name is that of a checkpoint that is being written, replaced or removed.
fn is_temporary(name: &str) -> bool {
    let prefixes = [TEMPORARY, REPLACED, DELETED];
    prefixes.iter().any(|prefix| name.strip_prefix(prefix).and_then(step_of).is_some())
}

/// All checkpoints of a run by name, newest first, good or damaged. Empty if there are none.
pub(crate) fn list(out_dir: &Path) -> Result<Vec<(u64, PathBuf)>, TrainError> {
    let mut found = Vec::new();
    for name in entry_names(&out_dir.join(DIR_NAME))? {
        if let Some(step) = step_of(&name) {
            found.push((step, out_dir.join(DIR_NAME).join(name)));
        }
    }
    found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(found)
}

/// Names in `dir` that are valid UTF-8, as all that a run writes are; empty if `dir` is missing.
fn entry_names(dir: &Path) -> Result<Vec<String>, TrainError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TrainError::io("list", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(TrainError::io("list", dir))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}
