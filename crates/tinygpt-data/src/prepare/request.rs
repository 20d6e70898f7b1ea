//! The request to `prepare`.

use std::path::PathBuf;

use crate::encoding::Encoding;
use crate::hub::HubOptions;
use crate::prepared::ValSplit;
use crate::source::{Format, Separator, Source, Sources};

/// What to prepare, and how.
#[derive(Debug, Clone)]
pub struct PrepareRequest {
    /// The dataset: the name of a recipe, or any name if `source` is given.
    pub dataset_name: String,
    /// The directory of all datasets.
    pub data_dir: PathBuf,
    /// A source of text, in place of the recipe's.
    pub source: Option<Sources>,
    /// Files or folders to validate on; all of `source` is then trained on.
    pub val_source: Vec<PathBuf>,
    /// The format of the files of `source`, if their names do not show it.
    pub format: Option<Format>,
    /// What separates the documents of plain text.
    pub separator: Separator,
    /// Whether the records are conversations; those of the recipe are if it says so.
    pub chat: bool,
    /// Whether only the answers of conversations are learned, and not what they answer.
    pub mask_prompt: bool,
    /// The column that holds the text, in place of the recipe's.
    pub text_column: Option<String>,
    /// Joins fields of a record to its text, such as `{instruction}\n{output}`, in place of
    /// `text_column`.
    pub text_template: Option<String>,
    /// Encode special tokens that a text spells out as these tokens; otherwise as text.
    pub parse_special: bool,
    /// Replace bytes that are not UTF-8 by U+FFFD; otherwise they are an error.
    pub lossy: bool,
    /// The largest fraction of records that may be skipped because they cannot be used.
    pub max_bad_fraction: f64,
    /// The fraction of the text to validate on, in place of the recipe's.
    pub val_fraction: Option<f64>,
    /// Which part that is, in place of the recipe's.
    pub val_split: Option<ValSplit>,
    /// The encoding, in place of the recipe's.
    pub encoding_type: Option<Encoding>,
    /// The largest vocabulary of byte-pair encoding.
    pub vocab_size: usize,
    /// A tokenizer to reuse: a path as [`Tokenizer::from_path`](crate::Tokenizer::from_path) takes
    /// it, or a model's repository on the hub.
    pub tokenizer: Option<Source>,
    /// The percentage of the training documents to use.
    pub data_percentage: f64,
    /// The seed that chooses documents, for `data_percentage` and for a random `val_split`.
    pub seed: u64,
    /// How to reach the hub, for recipes that name a repository there.
    pub hub: HubOptions,
    /// Keep the downloaded files in the cache of the hub. Otherwise files are downloaded one by one,
    /// at most one ahead, and each is removed when it is encoded.
    pub keep_downloads: bool,
    /// Replace a preparation that was made with other settings, or make the same again.
    pub force: bool,
}

impl Default for PrepareRequest {
    fn default() -> Self {
        Self {
            dataset_name: "tiny_stories".to_owned(),
            data_dir: PathBuf::from("data"),
            source: None,
            val_source: Vec::new(),
            format: None,
            separator: Separator::default(),
            chat: false,
            mask_prompt: true,
            text_column: None,
            text_template: None,
            parse_special: false,
            lossy: false,
            max_bad_fraction: 0.01,
            val_fraction: None,
            val_split: None,
            encoding_type: None,
            vocab_size: 30_000,
            tokenizer: None,
            data_percentage: 100.0,
            seed: 1337,
            hub: HubOptions::default(),
            keep_downloads: true,
            force: false,
        }
    }
}
