//! A prepared dataset: a tokenizer, the tokens of two splits, and `meta.json`.
//!
//! `data/<name>/<encoding>/` holds one preparation; a dataset can have both encodings, and
//! the marker `data/<name>/prepared-last` names the one that was made last. This file reads;
//! [`crate::prepare`] writes.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::encoding::Encoding;
use crate::error::{DataError, PREPARE_AGAIN};
pub use crate::held_out::{HeldOut, ValSplit};
use crate::json;
use crate::regular::{FileError, read_regular_text};
use crate::shard::{ShardInfo, TokenDataset};
use crate::source::SourceStats;
use crate::tokenizer::{self, Tokenizer};

/// The file that describes a preparation.
pub(crate) const META_FILE_NAME: &str = "meta.json";
/// Without it there is nothing to train on.
const FIRST_SHARD: &str = "train-00000.bin";

/// Whether a directory is a prepared dataset, which `force` replaces as a whole.
pub fn is_preparation(dir: &Path) -> bool {
    [META_FILE_NAME, FIRST_SHARD].iter().all(|name| dir.join(name).is_file())
}

/// The file that names the encoding prepared last.
pub(crate) const MARKER_FILE_NAME: &str = "prepared-last";

/// The largest `meta.json`, in bytes: it lists every source file and every shard.
const MAX_META_BYTES: u64 = 64 << 20;

/// The largest marker, in bytes.
const MAX_MARKER_BYTES: u64 = 1 << 10;

/// The values in the shards of a mask: a token is learned, or not.
pub(crate) const MASK_VALUES: usize = 2;

/// The version of the layout of `meta.json`.
pub(crate) const META_FORMAT: u32 = 2;

/// The oldest version that is still read: it lacks the fields with a default below.
const OLDEST_META_FORMAT: u32 = 1;

/// The part of a large text that byte-pair encoding was learned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BpeSample {
    /// The documents in it.
    pub n_documents: u64,
    /// The bytes of text in it.
    pub n_bytes: u64,
}

/// The contents of `meta.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// The version of this layout.
    pub format: u32,
    /// The dataset's name.
    pub dataset: String,
    /// The encoding.
    pub encoding: Encoding,
    /// The number of token ids.
    pub vocab_size: usize,
    /// SHA-256 of `tokenizer.json`, in hexadecimal.
    pub tokenizer_sha256: String,
    /// The settings that determine the files.
    pub settings: Settings,
    /// The commit of the hub's repository that the text came from, if it did.
    pub source_commit: Option<String>,
    /// What was skipped or replaced in the text.
    #[serde(default, rename = "tally")]
    pub stats: SourceStats,
    /// How the validation text was found, if it was taken out of the training text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
    /// What byte-pair encoding was learned from, if that was not all of the training text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bpe_sample: Option<BpeSample>,
    /// When it was made, such as `2026-11-22T17:56:22Z`.
    #[serde(default)]
    pub made_at: String,
    /// How long that took, in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// The training split.
    pub train: SplitMeta,
    /// The validation split.
    pub val: SplitMeta,
}

/// The settings that determine the result of a preparation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the text came from: files with sizes and hashes, a hub repository with its revision.
    pub source: String,
    /// Whether bytes that are not UTF-8 were replaced.
    #[serde(default)]
    pub lossy: bool,
    /// The specified format; null if the file names determined it.
    #[serde(default)]
    pub format: Option<String>,
    /// What separates the documents of plain text; null for `<|endoftext|>`.
    #[serde(default)]
    pub separator: Option<String>,
    /// The column that holds the text, where there are columns.
    pub text_column: String,
    /// The template that joins fields to a text, in place of the column; null if none does.
    #[serde(default)]
    pub text_template: Option<String>,
    /// How conversations became tokens; null if the documents are plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatSettings>,
    /// Whether special tokens that a text spells out became tokens.
    #[serde(default)]
    pub parse_special: bool,
    /// The part of the text that validates; null if the source has a split of its own.
    pub val_fraction: Option<f64>,
    /// Which part that is.
    #[serde(default, skip_serializing_if = "ValSplit::is_end")]
    pub val_split: ValSplit,
    /// The requested vocabulary size of byte-pair encoding; null if it has no effect.
    pub vocab_size: Option<usize>,
    /// SHA-256 of the tokenizer that was reused, if one was.
    pub tokenizer: Option<String>,
    /// The percentage of the training documents that was used.
    pub data_percentage: f64,
    /// The seed that chose documents; null if nothing was chosen by it.
    pub seed: Option<u64>,
}

/// How conversations became tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatSettings {
    /// Whether only the answers are learned.
    pub mask_prompt: bool,
}

/// The description of a split in `meta.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitMeta {
    /// The number of documents.
    pub n_documents: u64,
    /// The number of tokens, `<|endoftext|>` included.
    pub n_tokens: u64,
    /// The number of bytes of text (UTF-8), `<|endoftext|>` not included.
    pub n_bytes: u64,
    /// The number of characters of text.
    pub n_characters: u64,
    /// As [`SplitMeta::bytes_per_token`], for readers of the file.
    #[serde(default)]
    pub bytes_per_token: f64,
    /// The files.
    pub shards: Vec<ShardInfo>,
    /// Of conversations, the files that say which tokens are learned: a 0 or 1 for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mask_shards: Vec<ShardInfo>,
}

impl SplitMeta {
    /// Opens its shards, with the mask if there is one.
    fn open(
        &self,
        dir: &Path,
        vocab_size: usize,
        tokenizer_sha256: &str,
    ) -> Result<TokenDataset, DataError> {
        let tokens = TokenDataset::open(dir, &self.shards, vocab_size, tokenizer_sha256)?;
        if self.mask_shards.is_empty() {
            return Ok(tokens);
        }
        tokens.with_mask(TokenDataset::open(dir, &self.mask_shards, MASK_VALUES, tokenizer_sha256)?)
    }

    /// Bytes of text to a token, on average. Bits per byte are nats per token ÷ this ÷ ln 2.
    pub fn bytes_per_token(&self) -> f64 {
        self.n_bytes as f64 / self.n_tokens as f64
    }
}

impl Meta {
    /// A short hash of the exact tokens, recorded in checkpoints: equal for equal shards.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.tokenizer_sha256);
        for (split, meta) in [("train", &self.train), ("val", &self.val)] {
            hash.update(split);
            for shard in meta.shards.iter().chain(&meta.mask_shards) {
                hash.update(&shard.sha256);
            }
        }
        tokenizer::hex(&hash.finalize()[..16])
    }

    /// The description of the preparation of `dataset_name` with this [`Meta::fingerprint`], if it
    /// still exists. The shards are not read.
    pub fn find(data_dir: &Path, dataset_name: &str, fingerprint: &str) -> Option<Self> {
        let dataset_dir = data_dir.join(dataset_name);
        let dirs = Encoding::ALL.into_iter().filter_map(|it| dir_of(&dataset_dir, it));
        let mut metas = dirs.filter_map(|dir| Self::read(&dir).ok());
        metas.find(|meta| meta.fingerprint() == fingerprint)
    }

    /// Opens the validation tokens of this preparation in `data_dir`; those to train on are not
    /// looked at.
    ///
    /// # Errors
    /// [`DataError::DamagedPreparation`] if they are not what `meta.json` says, [`DataError::Io`].
    pub fn open_val(&self, data_dir: &Path) -> Result<TokenDataset, DataError> {
        self.open_split(&self.val, data_dir)
    }

    /// As [`Meta::open_val`], the tokens to train on.
    ///
    /// # Errors
    /// The same.
    pub fn open_train(&self, data_dir: &Path) -> Result<TokenDataset, DataError> {
        self.open_split(&self.train, data_dir)
    }

    fn open_split(&self, split: &SplitMeta, data_dir: &Path) -> Result<TokenDataset, DataError> {
        let dataset_dir = data_dir.join(&self.dataset);
        let dir = dir_of(&dataset_dir, self.encoding)
            .unwrap_or_else(|| dataset_dir.join(self.encoding.as_str()));
        split
            .open(&dir, self.vocab_size, &self.tokenizer_sha256)
            .map_err(|error| error.in_preparation(&self.dataset, self.encoding))
    }

    /// Reads `dir/meta.json`.
    pub(crate) fn read(dir: &Path) -> Result<Self, DataError> {
        let path = dir.join(META_FILE_NAME);
        let text = read_regular_text(&path, MAX_META_BYTES)
            .map_err(FileError::at(&path, PREPARE_AGAIN))?;
        let meta: Self =
            json::from_str(&text).map_err(|what| DataError::corrupt(&path, what, PREPARE_AGAIN))?;
        if !(OLDEST_META_FORMAT..=META_FORMAT).contains(&meta.format) {
            let what = format!("format {}, this program reads {META_FORMAT}", meta.format);
            return Err(DataError::corrupt(&path, what, PREPARE_AGAIN));
        }
        Ok(meta)
    }
}

/// A prepared dataset, opened and checked.
#[derive(Debug)]
pub struct Prepared {
    /// Its directory: `data_dir/<name>/<encoding>`.
    pub dir: PathBuf,
    /// What `meta.json` says.
    pub meta: Meta,
    /// The tokenizer that made the tokens.
    pub tokenizer: Tokenizer,
    /// The training tokens.
    pub train: TokenDataset,
    /// The validation tokens.
    pub val: TokenDataset,
}

impl Prepared {
    /// Opens `dataset_name` in `data_dir`; without an encoding, the one prepared last.
    ///
    /// Every byte of the shards is read once and checked, so that a damaged one is found now
    /// and not in the middle of a run.
    ///
    /// # Errors
    /// [`DataError::NotPrepared`]; [`DataError::DamagedPreparation`] if any file is not what
    /// `meta.json` says; [`DataError::Io`].
    pub fn open(
        data_dir: &Path,
        dataset_name: &str,
        encoding: Option<Encoding>,
    ) -> Result<Self, DataError> {
        let dataset_dir = data_dir.join(dataset_name);
        let not_prepared = || DataError::NotPrepared {
            dataset: dataset_name.to_owned(),
            encoding: encoding.map(|encoding| encoding.to_string()),
            dir: dataset_dir.clone(),
        };
        let found = encoding.or_else(|| prepared_last(&dataset_dir)).ok_or_else(not_prepared)?;
        loop {
            let dir = dir_of(&dataset_dir, found).ok_or_else(not_prepared)?;
            let before = made_at(&dir);
            match Self::open_dir(&dir) {
                // It was replaced meanwhile: some files belonged to the old one.
                Err(_)
                    if dir_of(&dataset_dir, found).is_some_and(|now| made_at(&now) != before) => {}
                opened => {
                    return opened.map_err(|error| error.in_preparation(dataset_name, found));
                }
            }
        }
    }

    /// Whether its documents are conversations.
    pub fn is_chat(&self) -> bool {
        self.meta.settings.chat.is_some()
    }

    fn open_dir(dir: &Path) -> Result<Self, DataError> {
        let meta = Meta::read(dir)?;
        let tokenizer = Tokenizer::from_dir(dir)?;
        if tokenizer.sha256() != meta.tokenizer_sha256 {
            let (found, expected) = (tokenizer.sha256(), &meta.tokenizer_sha256);
            return Err(DataError::corrupt(
                &dir.join(tokenizer::FILE_NAME),
                format!("SHA-256 {found:.12}…, meta.json expects {expected:.12}…"),
                PREPARE_AGAIN,
            ));
        }
        let open = |split: &SplitMeta| split.open(dir, tokenizer.vocab_size(), tokenizer.sha256());
        let (train, val) = (open(&meta.train)?, open(&meta.val)?);
        Ok(Self { dir: dir.to_path_buf(), meta, tokenizer, train, val })
    }
}

/// Where the preparation with this encoding is. While it is being replaced on a system that cannot
/// exchange two names, that is the place of the old one.
fn dir_of(dataset_dir: &Path, encoding: Encoding) -> Option<PathBuf> {
    let dir = dataset_dir.join(encoding.as_str());
    // The second is there for a moment while the first is replaced.
    let places = [dir.clone(), tinygpt_fs::old_of(&dir)];
    places.into_iter().find(|dir| dir.is_dir())
}

/// The place of a preparation and the time of its `meta.json`, which distinguish it from a replacement.
fn made_at(dir: &Path) -> (PathBuf, Option<std::time::SystemTime>) {
    let meta = fs::metadata(dir.join(META_FILE_NAME));
    (dir.to_path_buf(), meta.and_then(|meta| meta.modified()).ok())
}

/// The encoding that the marker names or, if the marker was lost, one that is there.
fn prepared_last(dataset_dir: &Path) -> Option<Encoding> {
    let is_there = |encoding: &Encoding| dir_of(dataset_dir, *encoding).is_some();
    let marker = dataset_dir.join(MARKER_FILE_NAME);
    read_regular_text(&marker, MAX_MARKER_BYTES)
        .ok()
        .and_then(|name| name.trim().parse().ok())
        .filter(is_there)
        .or_else(|| Encoding::ALL.into_iter().find(is_there))
}
