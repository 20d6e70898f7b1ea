//! `state.json`: everything of a run that is neither weights nor moments.
//!
//! There is no generator to store: initial weights, data order and dropout are functions of the
//! seed and of the numbers kept here. Unknown keys are refused.
//!
//! Format 2 counts the skipped steps, format 3 the evaluations without an improvement and the time;
//! in older checkpoints they are 0. A newer format
//! is not damage and is not skipped: the run ends, and its checkpoints stay.

use std::ops::Deref;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use tinygpt_data::read_regular;

use crate::config::TrainConfig;
use crate::error::TrainError;

/// The version of the checkpoint's layout that this build writes.
pub const FORMAT_VERSION: u32 = 3;
/// The oldest that it reads.
pub(crate) const OLDEST_VERSION: u32 = 1;

/// The largest file, in bytes. It holds the configuration of a run and some numbers.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// The lowest validation loss of a run, and where it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Steps made before it.
    pub step: u64,
    /// In nats per token.
    pub val_loss: f32,
}

/// Steps that were skipped because their loss or gradient was not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// In the whole run.
    pub total: u64,
    /// Since the last step that was made.
    pub in_row: u64,
}

impl Skipped {
    /// The most skips in a row that a run survives.
    const MAX_IN_ROW: u64 = 10;
    /// Beyond [`Self::MAX_IN_ROW`], at most one skip per this many steps.
    const STEPS_PER_SKIP: u64 = 20;

    /// Whether step `iter` may be skipped, too.
    pub(crate) fn may_skip(&self, iter: u64) -> bool {
        let most = Self::MAX_IN_ROW.max(iter / Self::STEPS_PER_SKIP);
        self.in_row < Self::MAX_IN_ROW && self.total < most
    }
}

/// The state of a run between two steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Always [`FORMAT_VERSION`] when written.
    pub format_version: u32,
    /// Version of the crate that wrote it.
    pub crate_version: String,
    /// Steps made.
    pub step: u64,
    /// Steps of the optimiser.
    pub optimizer_steps: u64,
    /// Windows of the training split that were used: where the data continues.
    pub window_cursor: u64,
    /// The `iter` of the last evaluation.
    pub last_eval_iter: Option<u64>,
    /// The lowest validation loss so far.
    pub best: Option<Best>,
    /// Skipped steps; they count as steps of the run, not of the optimiser.
    #[serde(default)]
    pub skipped: Skipped,
    /// Evaluations since the last one that improved the loss, see `early_stopping_patience`.
    #[serde(default)]
    pub evals_without_improvement: u64,
    /// Wall time of the run so far, in all its processes.
    #[serde(default)]
    pub seconds: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Fingerprint of the prepared data.
    pub data_fingerprint: String,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// CPU threads, on which the order of additions depends.
    pub threads: usize,
    /// Processes that trained together, for the same reason; not written if it was one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub ranks: usize,
    /// Vector instructions of the CPU, for the same reason.
    pub instruction_set: String,
    /// Device in words.
    pub device: String,
    /// The resolved configuration of the run. The shape of the model itself is in `config.json`: it
    /// differs from this one where the run started from another model.
    pub config: RunConfig,
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

/// What a run was configured with, in one JSON object.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunConfig {
    /// The keys of the trainer.
    #[serde(flatten)]
    pub train: TrainConfig,
    /// The keys of the program that trained, which gets them back when the run is resumed.
    #[serde(flatten)]
    pub program: Map<String, Value>,
}

impl From<TrainConfig> for RunConfig {
    fn from(train: TrainConfig) -> Self {
        Self { train, program: Map::new() }
    }
}

impl Deref for RunConfig {
    type Target = TrainConfig;

    fn deref(&self) -> &TrainConfig {
        &self.train
    }
}

impl<'de> Deserialize<'de> for RunConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_ours = |name: &str| TrainConfig::KEYS.iter().any(|key| key.name == name);
        let mut all = Map::deserialize(deserializer)?;
        // The key that `lr_schedule` has replaced.
        if all.remove("decay_lr") == Some(Value::Bool(false)) {
            all.entry("lr_schedule").or_insert("constant".into());
        }
        let (train, program) = all.into_iter().partition(|(name, _)| is_ours(name));
        let train = TrainConfig::deserialize(Value::Object(train));
        Ok(Self { train: train.map_err(serde::de::Error::custom)?, program })
    }
}

impl State {
    /// Writes the state as readable JSON. Syncing is left to the manifest.
    pub(crate) fn write(&self, path: &Path) -> Result<(), TrainError> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|error| TrainError::io("write", path)(error.into()))?;
        std::fs::write(path, json).map_err(TrainError::io("write", path))
    }

    /// Reads a state of a format that this build knows.
    pub(crate) fn read(path: &Path) -> Result<Self, TrainError> {
        let bytes = read_regular(path, MAX_BYTES).map_err(TrainError::file(path))?;
        match version_of(&bytes) {
            Some(version) if version > FORMAT_VERSION => {
                return Err(TrainError::NewerFormat { path: path.to_path_buf(), version });
            }
            Some(version) if version < OLDEST_VERSION => {
                let reason = format!("is of format {version}, which does not exist");
                return Err(TrainError::corrupt(path, reason));
            }
            _ => {}
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            TrainError::corrupt(path, format!("is not a training state ({error})"))
        })
    }
}

/// The `format_version` of a JSON object, whatever else is in it.
pub(super) fn version_of(json: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Versioned {
        format_version: u32,
    }
    serde_json::from_slice(json).ok().map(|Versioned { format_version }| format_version)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::schedule::LrSchedule;
    use proptest::prelude::*;

    fn state(best: f32) -> State {
        State {
            format_version: FORMAT_VERSION,
            crate_version: "0.1.0".to_string(),
            step: 250,
            optimizer_steps: 250,
            window_cursor: 16_000,
            last_eval_iter: Some(250),
            best: Some(Best { step: 250, val_loss: best }),
            skipped: Skipped { total: 3, in_row: 1 },
            evals_without_improvement: 4,
            seconds: 12.5,
            seed: u64::MAX,
            data_fingerprint: "ab".to_string(),
            tokenizer_sha256: "cd".to_string(),
            threads: 2,
            ranks: 1,
            instruction_set: "avx512f".to_string(),
            device: "cpu".to_string(),
            config: RunConfig::default(),
        }
    }

    proptest! {
        /// A best loss that was read back inexactly would make another checkpoint the best one.
        #[test]
        fn comes_back_exactly(best in 0.0f32..20.0) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.json");
            state(best).write(&path).unwrap();
            prop_assert_eq!(State::read(&path).unwrap(), state(best));
        }
    }

    #[test]
    fn the_switch_of_older_checkpoints_becomes_a_schedule() {
        let of = |json: &str| serde_json::from_str::<RunConfig>(json).unwrap();
        let flat = of(r#"{"decay_lr": false, "log_interval": 5}"#);
        assert_eq!(flat.lr_schedule, LrSchedule::Constant);
        assert_eq!(flat.program.keys().collect::<Vec<_>>(), ["log_interval"]);
        assert_eq!(of(r#"{"decay_lr": true}"#).lr_schedule, LrSchedule::Cosine);
        assert_eq!(of(r#"{"lr_schedule": "wsd"}"#).lr_schedule, LrSchedule::Wsd);
    }

    #[test]
    fn ten_in_a_row_are_skipped_and_one_in_twenty_of_all() {
        let may_skip = |total, in_row, iter| Skipped { total, in_row }.may_skip(iter);
        assert!(may_skip(0, 0, 0) && may_skip(9, 9, 9));
        assert!(!may_skip(10, 10, 10) && !may_skip(10, 10, 1_000_000));
        assert!(!may_skip(10, 0, 200) && may_skip(10, 0, 220));
        assert!(!may_skip(50, 0, 1000) && may_skip(49, 0, 1000));
    }

    #[test]
    fn another_format_and_unknown_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        for (from, to, expected) in [
            ("\"format_version\": 3", "\"format_version\": 4", "of checkpoint format 4"),
            ("\"format_version\": 3", "\"format_version\": 0", "format 0"),
            ("\"step\": 250", "\"step\": 250, \"stop\": 1", "unknown field"),
            ("\"step\": 250", "\"step\": -1", "not a training state"),
        ] {
            state(1.0).write(&path).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from));
            std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let error = State::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
