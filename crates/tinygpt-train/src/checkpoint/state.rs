//! `state.json`: everything of a run that is neither weights nor moments.
//!
//! There is no generator to store: initial weights, data order and dropout are functions of the
//! seed and of the numbers kept here. Unknown keys are refused, a newer format is named.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;
use crate::error::TrainError;

/// The version of the checkpoint's layout that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The lowest validation loss of a run, and where it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Updates made before it.
    pub step: u64,
    /// In nats per token.
    pub val_loss: f32,
}

/// The state of a run between two updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Always [`FORMAT_VERSION`] when written.
    pub format_version: u32,
    /// Version of the crate that wrote it.
    pub crate_version: String,
    /// Updates made.
    pub step: u64,
    /// Steps the optimiser's moments have seen.
    pub optimizer_steps: u64,
    /// Windows of the training split that were used: where the data goes on.
    pub window_cursor: u64,
    /// The `iter` of the last evaluation.
    pub last_eval_iter: Option<u64>,
    /// The lowest validation loss so far.
    pub best: Option<Best>,
    /// Seed of the run.
    pub seed: u64,
    /// Fingerprint of the prepared data.
    pub data_fingerprint: String,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// CPU threads, on which the order of additions depends.
    pub threads: usize,
    /// Vector instructions of the CPU, for the same reason.
    pub instruction_set: String,
    /// Device in words.
    pub device: String,
    /// The configuration of the run, as it was resolved. The shape of the model itself is in
    /// `config.json`: it differs from this one where the run started from another model.
    pub config: TrainConfig,
}

impl State {
    /// Writes the state as readable JSON. Syncing is left to the manifest.
    pub(crate) fn write(&self, path: &Path) -> Result<(), TrainError> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|error| TrainError::io("write", path)(error.into()))?;
        std::fs::write(path, json).map_err(TrainError::io("write", path))
    }

    /// Reads a state, naming a format that this build does not know.
    pub(super) fn read(path: &Path) -> Result<Self, TrainError> {
        #[derive(Deserialize)]
        struct Versioned {
            format_version: u32,
        }
        let bytes = std::fs::read(path).map_err(TrainError::io("read", path))?;
        let bad = |error: serde_json::Error| {
            TrainError::corrupt(path, format!("is not a training state ({error})"))
        };
        let Versioned { format_version } = serde_json::from_slice(&bytes).map_err(bad)?;
        if format_version != FORMAT_VERSION {
            let reason = format!(
                "is of format version {format_version}, this build reads {FORMAT_VERSION}: \
                 go on with the version of TinyGPT that wrote it"
            );
            return Err(TrainError::corrupt(path, reason));
        }
        serde_json::from_slice(&bytes).map_err(bad)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
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
            seed: u64::MAX,
            data_fingerprint: "ab".to_string(),
            tokenizer_sha256: "cd".to_string(),
            threads: 2,
            instruction_set: "avx512f".to_string(),
            device: "cpu".to_string(),
            config: TrainConfig::default(),
        }
    }

    proptest! {
        /// A best loss that came back a bit off would make another checkpoint the best one.
        #[test]
        fn comes_back_exactly(best in 0.0f32..20.0) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.json");
            state(best).write(&path).unwrap();
            prop_assert_eq!(State::read(&path).unwrap(), state(best));
        }
    }

    #[test]
    fn another_format_and_unknown_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        for (from, to, expected) in [
            ("\"format_version\": 1", "\"format_version\": 2", "format version 2"),
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
