//! The options of `prepare`: which text, which tokenizer, and where the shards go.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Deserializer, Serialize};
use tinygpt_data::{
    DATASET_NAME_RULE, Encoding, Format, PrepareRequest, Source, Sources, ValSplit,
    dataset_name_fault,
};

use super::layer::{Faults, Layered};
use super::{Options, finite, word_of};

/// Flags of `prepare`, which are also the keys of its config file.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareOptions {
    /// Dataset to prepare: the name of a recipe, data/NAME/dataset.json or one built in
    /// (tiny_stories, tiny_tales, tiny_talks, shakespeare_char, fineweb_edu); with --source any new
    /// name
    /// [default: tiny_stories, or with --source the name of the file, folder or repository]
    #[arg(long, help_heading = "Text", value_name = "NAME")]
    pub dataset_name: Option<String>,
    /// Text to use; the help lists the file name extensions.
    #[arg(long, help = source_help(), help_heading = "Text", value_name = "PATH")]
    #[serde(default, deserialize_with = "one_or_many")]
    pub source: Option<Vec<PathBuf>>,
    /// File or directory to validate on; all of --source is then trained on. Can be given several
    /// times [default: the files of a directory that are named val, valid, validation, dev or
    /// test, or else a part of the text]
    #[arg(long, help_heading = "Text", value_name = "PATH")]
    #[serde(default, deserialize_with = "one_or_many")]
    pub val_source: Option<Vec<PathBuf>>,
    /// Format of the files; the help lists all.
    #[arg(long, help = format_help(), help_heading = "Text",
          value_parser = word_of::<Format>(Format::ALL.map(Format::as_str)))]
    pub format: Option<Format>,
    /// What separates documents in plain text: `line`, `blank` (blank lines), or a text such as
    /// '\n---\n' [default: <|endoftext|>]
    #[arg(long, help_heading = "Text", value_name = "TEXT", allow_hyphen_values = true)]
    pub separator: Option<String>,
    /// Column or field that holds the text in all other formats; in JSON, a dot leads into an
    /// object [default: text, or the recipe's]
    #[arg(long, help_heading = "Text", value_name = "NAME")]
    pub text_column: Option<String>,
    /// Join several columns or fields, for example '{instruction}\n{output}' [default: none]
    #[arg(long, help_heading = "Text", value_name = "TEXT", allow_hyphen_values = true)]
    pub text_template: Option<String>,
    /// Encode <|endoftext|> and other special tokens as tokens if a text contains them; otherwise
    /// they are encoded as text
    #[arg(long, help_heading = "Text")]
    pub parse_special: Option<bool>,
    /// Replace bytes that are not UTF-8 with U+FFFD and count them; otherwise such a text is refused
    #[arg(long, help_heading = "Text")]
    pub lossy: Option<bool>,
    /// Largest fraction of records that may be skipped because the text is missing or the record
    /// is damaged
    #[arg(long, help_heading = "Text", value_name = "X", value_parser = finite)]
    pub max_bad_fraction: Option<f64>,
    /// The records are conversations, as `messages`, `conversations`, `prompt` and `completion`, or
    /// `instruction`, `input` and `output`; a chat template makes tokens of them
    #[arg(long, help_heading = "Text")]
    pub chat: Option<bool>,
    /// Learn only the answers of conversations, not what they answer
    #[arg(long, help_heading = "Text")]
    pub mask_prompt: Option<bool>,
    /// Part of the text to validate on, if the source has no validation split [default: 0.1, or
    /// the recipe's]
    #[arg(long, help_heading = "Text", value_name = "X", value_parser = finite)]
    pub val_fraction: Option<f64>,
    /// Which part: `end`, the end of the text, or `random`, documents chosen with --seed
    /// [default: end, or the recipe's]
    #[arg(long, help_heading = "Text", value_name = "HOW")]
    pub val_split: Option<ValSplit>,
    /// Percentage of the training documents to use, a seeded choice that is the same for
    /// tokenizer and shards
    #[arg(long, help_heading = "Text", value_name = "X", value_parser = finite)]
    pub data_percentage: Option<f64>,
    /// Seed of both choices
    #[arg(long, help_heading = "Text", value_name = "N")]
    pub seed: Option<u64>,

    /// How text becomes tokens: `simple` (characters) or `bpe` [default: simple, or the recipe's]
    #[arg(long, help_heading = "Tokenizer", value_parser = word_of::<Encoding>(Encoding::ALL.map(Encoding::as_str)))]
    pub encoding_type: Option<Encoding>,
    /// Size of the vocabulary of bpe
    #[arg(long, help_heading = "Tokenizer", value_name = "N")]
    pub vocab_size: Option<usize>,
    /// Use this tokenizer.json, or GPT-2's vocab.json with its merges.txt next to it, or a
    /// directory or a model's repository (hub:owner/name or hub:owner/name@revision) that holds one
    /// of these [default: the recipe's unless --encoding-type is given, or else train one on the
    /// training text, for bpe on at most 2 GiB of it]
    #[arg(long, help_heading = "Tokenizer", value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,

    /// Show what is in the dataset when it is prepared, or already was: documents, tokens, lengths,
    /// duplicates
    #[arg(long, help_heading = "Output")]
    pub report: Option<bool>,
    /// Show what would be read and written and about how long it would take, and write nothing
    #[arg(long, help_heading = "Output")]
    pub dry_run: Option<bool>,
    /// Directory that holds the prepared datasets
    #[arg(long, help_heading = "Output", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Keep downloaded files in the hub's cache; `false` downloads file by file, one ahead, and removes
    /// each file once it is encoded, for data larger than the disk
    #[arg(long, help_heading = "Output")]
    pub keep_downloads: Option<bool>,
    /// Replace an earlier preparation with other settings
    #[arg(long, help_heading = "Output")]
    pub force: Option<bool>,
}

/// The help of `--source`.
fn source_help() -> String {
    format!(
        "Text to use: a file ({}), a directory, `-` for standard input, or hub:OWNER/NAME, a dataset \
         on the Hugging Face hub, also hub:OWNER/NAME/FOLDER and hub:OWNER/NAME@REVISION; give it \
         several times to read several files as one text [default: the recipe's source]",
        Format::EXTENSIONS
    )
}

/// The help of `--format`.
fn format_help() -> String {
    let names = Format::ALL.map(Format::as_str);
    let (last, others) = names.split_last().unwrap_or((&"", &[]));
    format!("Format of the files: {} or {last} [default: by file name]", others.join(", "))
}

impl Options for PrepareOptions {
    const BINARY: &'static str = "prepare";
    const ABOUT: &'static str = "Turn text into a tokenizer and shards of token ids for train.";

    /// The defaults of [`PrepareRequest`]; the dataset's name may follow from the source.
    fn defaults() -> Self {
        let request = PrepareRequest::default();
        Self {
            parse_special: Some(request.parse_special),
            chat: Some(request.chat),
            mask_prompt: Some(request.mask_prompt),
            lossy: Some(request.lossy),
            max_bad_fraction: Some(request.max_bad_fraction),
            data_percentage: Some(request.data_percentage),
            seed: Some(request.seed),
            vocab_size: Some(request.vocab_size),
            data_dir: Some(request.data_dir),
            report: Some(false),
            dry_run: Some(false),
            keep_downloads: Some(request.keep_downloads),
            force: Some(request.force),
            ..Self::default()
        }
    }

    fn derive(&mut self) {
        let from_source = |source: &PathBuf| Source::from(source.clone()).dataset_name();
        let first = self.source.as_ref().and_then(|sources| sources.first());
        let name = self.dataset_name.take().or_else(|| first.map(from_source));
        self.dataset_name = Some(name.unwrap_or_else(|| "tiny_stories".to_owned()));
    }
}

impl Layered<PrepareOptions> {
    /// The request to the data crate, without the options of the hub.
    ///
    /// # Errors
    /// All faults that can be found without the text, at once, as a [`crate::usage::UsageError`].
    pub fn resolve(&self) -> anyhow::Result<PrepareRequest> {
        let options = self.options.clone();
        let unsaid = PrepareRequest::default();
        let request = PrepareRequest {
            dataset_name: options.dataset_name.unwrap_or(unsaid.dataset_name),
            data_dir: options.data_dir.unwrap_or(unsaid.data_dir),
            source: Sources::new(options.source.into_iter().flatten().map(Source::from)),
            val_source: options.val_source.unwrap_or_default(),
            format: options.format,
            separator: options.separator.map(|it| it.parse()).transpose()?.unwrap_or_default(),
            text_template: options.text_template,
            parse_special: options.parse_special.unwrap_or(unsaid.parse_special),
            chat: options.chat.unwrap_or(unsaid.chat),
            mask_prompt: options.mask_prompt.unwrap_or(unsaid.mask_prompt),
            lossy: options.lossy.unwrap_or(unsaid.lossy),
            max_bad_fraction: options.max_bad_fraction.unwrap_or(unsaid.max_bad_fraction),
            text_column: options.text_column,
            val_fraction: options.val_fraction,
            val_split: options.val_split,
            encoding_type: options.encoding_type,
            vocab_size: options.vocab_size.unwrap_or(unsaid.vocab_size),
            tokenizer: options.tokenizer.map(Source::from),
            data_percentage: options.data_percentage.unwrap_or(unsaid.data_percentage),
            seed: options.seed.unwrap_or(unsaid.seed),
            keep_downloads: options.keep_downloads.unwrap_or(unsaid.keep_downloads),
            force: options.force.unwrap_or(unsaid.force),
            ..PrepareRequest::default()
        };
        self.check(&request)?;
        Ok(request)
    }

    fn check(&self, request: &PrepareRequest) -> anyhow::Result<()> {
        let mut faults = Faults::of(self);
        let percentage = request.data_percentage;
        faults.unless(
            percentage > 0.0 && percentage <= 100.0,
            "data_percentage",
            "more than 0 and at most 100",
        );
        faults.unless(
            request.val_fraction.is_none_or(|fraction| fraction > 0.0 && fraction < 1.0),
            "val_fraction",
            "more than 0 and less than 1, for example 0.1",
        );
        faults.unless(
            (0.0..=1.0).contains(&request.max_bad_fraction),
            "max_bad_fraction",
            "0 to 1, for example 0.01",
        );
        if let Some(fault) = dataset_name_fault(&request.dataset_name) {
            faults.add("dataset_name", &format!("{DATASET_NAME_RULE} ({fault})"));
        }
        faults.into_result()
    }
}

/// A path or a list of paths, as a config file may have it.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<PathBuf>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a path in quotes or a list of them")]
    enum Paths {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Ok(match Option::<Paths>::deserialize(from)? {
        None => None,
        Some(Paths::One(path)) => Some(vec![path]),
        Some(Paths::Many(paths)) => Some(paths),
    })
}
