//! The progress of a preparation file by file, as it is on the disk.
//!
//! Written after each file, when the shards are synced: a run that ends anywhere is continued at the
//! file after it. The first line is the SHA-256 of the rest.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tinygpt_fs::write_file;

use crate::error::DataError;
use crate::hub::HubListing;
use crate::json;
use crate::prepared::{BpeSample, Settings};
use crate::regular::read_regular_text;
use crate::source::SourceStats;
use crate::tokenizer::hex;

use super::split_writer::WrittenSplit;

/// The name of the file.
const FILE_NAME: &str = "progress.json";

/// The largest such file, in bytes: it lists every source file and every shard.
const MAX_BYTES: u64 = 64 << 20;

/// The version of the layout.
const FORMAT: u32 = 1;

/// What is done of a preparation, and what is needed to continue it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    /// The version of this layout.
    format: u32,
    /// The settings that determine the result.
    pub(super) settings: Settings,
    /// The commit and its files, as they were when the preparation started.
    pub(super) listing: HubListing,
    /// SHA-256 of the tokenizer, which is in the directory of the shards.
    pub(super) tokenizer_sha256: String,
    /// What the tokenizer was learned from, if not from all of the text.
    pub(super) bpe_sample: Option<BpeSample>,
    /// How many files are done.
    pub(super) n_files: usize,
    /// The number of the next training document.
    pub(super) next_idx: u64,
    /// What was skipped or replaced in the files that are done.
    pub(super) stats: SourceStats,
    /// What is written of the training split.
    pub(super) train: WrittenSplit,
    /// What is written of the validation split.
    pub(super) val: WrittenSplit,
    /// How long it took, in seconds.
    pub(super) seconds: f64,
}

impl Saved {
    /// Nothing is done but the tokenizer.
    pub(super) fn new(
        settings: Settings,
        listing: HubListing,
        tokenizer_sha256: &str,
        bpe_sample: Option<BpeSample>,
    ) -> Self {
        Self {
            format: FORMAT,
            settings,
            listing,
            tokenizer_sha256: tokenizer_sha256.to_owned(),
            bpe_sample,
            n_files: 0,
            next_idx: 0,
            stats: SourceStats::default(),
            train: WrittenSplit::default(),
            val: WrittenSplit::default(),
            seconds: 0.0,
        }
    }

    /// The names of all shards.
    pub(super) fn shards(&self) -> impl Iterator<Item = &str> {
        self.train.files().chain(self.val.files())
    }

    /// Writes it into `dir`, in the place of an earlier one.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub(super) fn write(&self, dir: &Path) -> Result<(), DataError> {
        let path = path_in(dir);
        let text = serde_json::to_string_pretty(self).map_err(|error| {
            DataError::corrupt(&path, error.to_string(), "report this error of the program")
        })?;
        let text = format!("{}\n{text}\n", checksum(&text));
        Ok(write_file(&path, text.as_bytes())?)
    }

    /// Reads it from `dir`, if it is there.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, String> {
        let text = match read_regular_text(&path_in(dir), MAX_BYTES) {
            Err(error) if error.is_not_found() => return Ok(None),
            text => text.map_err(|error| error.to_string())?,
        };
        let (expected, text) = text.split_once('\n').unwrap_or_default();
        if checksum(text.trim_end()) != expected {
            return Err("its checksum does not match".to_owned());
        }
        let saved: Self = json::from_str(text)?;
        if saved.format != FORMAT {
            return Err(format!("format {}, this program reads {FORMAT}", saved.format));
        }
        Ok(Some(saved))
    }
}

/// Whether a preparation has left its progress in `dir`.
pub(super) fn is_in(dir: &Path) -> bool {
    path_in(dir).is_file()
}

/// The path of the file.
pub(super) fn path_in(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

fn checksum(text: &str) -> String {
    hex(&Sha256::digest(text))
}
