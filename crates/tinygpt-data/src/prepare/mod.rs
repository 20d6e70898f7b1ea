//! `prepare`: from a recipe to a tokenizer and shards, in bounded memory.
//!
//! The text is streamed twice: once for the tokenizer, once into shards; once more before that
//! if the end of it is to validate and its length is not known. All files are written into a
//! staging directory that becomes `data/<name>/<encoding>/` by one rename at the end, so nothing
//! half-written is ever visible, and an interrupted run is simply started again.

mod corpus;
mod passes;
mod publish;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::encoding::Encoding;
use crate::error::DataError;
use crate::hub::HubOptions;
use crate::prepared::{META_FORMAT, Meta, Prepared, Settings};
use crate::progress::{PrepareProgress, Stage};
use crate::recipe::{Recipe, check_val_fraction};
use crate::source::{Documents, Piece};
use crate::subset::Subset;
use crate::tokenizer::{self, Tokenizer};

use corpus::{Corpus, Split};
use publish::Staging;

/// What `prepare` is asked to do. The defaults are those of the command line.
#[derive(Debug, Clone)]
pub struct PrepareRequest {
    /// The dataset: the name of a recipe, or any name if `source` is given.
    pub dataset_name: String,
    /// Where datasets lie.
    pub data_dir: PathBuf,
    /// A text of one's own, in place of the recipe's: a file or a folder.
    pub source: Option<PathBuf>,
    /// The column that holds the text, in place of the recipe's.
    pub text_column: Option<String>,
    /// The part at the end of the text that validates, in place of the recipe's.
    pub val_fraction: Option<f64>,
    /// The encoding, in place of the recipe's.
    pub encoding_type: Option<Encoding>,
    /// How many tokens byte-pair encoding has at most.
    pub vocab_size: usize,
    /// A tokenizer to reuse: a `tokenizer.json`, or a directory with one.
    pub tokenizer: Option<PathBuf>,
    /// How much of the training documents to take, in per cent.
    pub data_percentage: f64,
    /// The seed that chooses them.
    pub seed: u64,
    /// How to reach the hub, for recipes that name a repository there.
    pub hub: HubOptions,
    /// Replace a preparation that was made with other settings, or make the same again.
    pub force: bool,
}

impl Default for PrepareRequest {
    fn default() -> Self {
        Self {
            dataset_name: "tiny_stories".to_owned(),
            data_dir: PathBuf::from("data"),
            source: None,
            text_column: None,
            val_fraction: None,
            encoding_type: None,
            vocab_size: 30_000,
            tokenizer: None,
            data_percentage: 100.0,
            seed: 1337,
            hub: HubOptions::default(),
            force: false,
        }
    }
}

/// What `prepare` did.
#[derive(Debug, Clone, PartialEq)]
pub struct PrepareSummary {
    /// Where the preparation lies.
    pub dir: PathBuf,
    /// What it consists of.
    pub meta: Meta,
    /// Whether the same preparation was there already and was kept.
    pub kept: bool,
    /// How many records held no text (nulls and empty documents) and were left out.
    pub n_skipped: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Prepares a dataset.
///
/// The same preparation, if it is there and undamaged, is kept unless `force` says otherwise;
/// one with other settings is replaced only with `force`.
///
/// # Errors
/// [`DataError`] of every kind. Whatever happens, an existing preparation stays whole.
pub fn prepare(
    request: &PrepareRequest,
    progress: &dyn PrepareProgress,
) -> Result<PrepareSummary, DataError> {
    let started = Instant::now();
    let recipe = find_recipe(request)?;
    Subset::new(request.data_percentage, request.seed)?;
    check_val_fraction(request.val_fraction.unwrap_or(recipe.val_fraction))?;
    let reused = match &request.tokenizer {
        Some(path) => Some(Tokenizer::from_file(tokenizer::file_of(path))?),
        None => None,
    };
    let encoding = encoding_of(request, &recipe, reused.as_ref())?;
    let corpus = Corpus::locate(&recipe, request, progress)?;
    let settings = settings_of(request, &corpus, encoding, reused.as_ref());

    let staging = Staging::begin(&request.data_dir, &recipe.name, encoding)?;
    if let Some(meta) = existing(request, &staging, &recipe.name, encoding, &settings)? {
        staging.mark_prepared_last()?;
        let (dir, elapsed) = (staging.target(), started.elapsed());
        return Ok(PrepareSummary { dir, meta, kept: true, n_skipped: 0, elapsed });
    }

    let boundary = corpus.boundary(progress)?;
    let tokenizer = match reused {
        Some(tokenizer) => tokenizer,
        None => passes::make_tokenizer(&corpus, boundary, encoding, request.vocab_size, progress)?,
    };
    tokenizer.save(staging.dir())?;
    let encode = |split| passes::encode(&corpus, boundary, split, &tokenizer, &staging, progress);
    let (train, n_skipped_train) = encode(Split::Train)?;
    let (val, n_skipped_val) = encode(Split::Val)?;
    let meta = Meta {
        format: META_FORMAT,
        dataset: recipe.name.clone(),
        encoding,
        vocab_size: tokenizer.vocab_size(),
        tokenizer_sha256: tokenizer.sha256().to_owned(),
        settings,
        train,
        val,
    };
    let n_skipped = n_skipped_train.max(n_skipped_val);
    let dir = staging.publish(&meta)?;
    Ok(PrepareSummary { dir, meta, kept: false, n_skipped, elapsed: started.elapsed() })
}

/// The recipe of the request's name; with a source of one's own it need not exist.
fn find_recipe(request: &PrepareRequest) -> Result<Recipe, DataError> {
    let known = Recipe::names(&request.data_dir).contains(&request.dataset_name);
    if request.source.is_some() && !known {
        return Recipe::for_given_source(&request.dataset_name);
    }
    Recipe::find(&request.dataset_name, &request.data_dir)
}

/// The encoding: that of the tokenizer to be reused, else what is asked for, else the recipe's.
fn encoding_of(
    request: &PrepareRequest,
    recipe: &Recipe,
    reused: Option<&Tokenizer>,
) -> Result<Encoding, DataError> {
    match (request.encoding_type, reused.map(Tokenizer::encoding)) {
        (Some(asked), Some(found)) if asked != found => Err(DataError::usage(
            format!("encoding_type is `{asked}` but the tokenizer to reuse is `{found}`"),
            format!("leave encoding_type out, or set it to `{found}`"),
        )),
        (asked, found) => Ok(found.or(asked).unwrap_or(recipe.encoding)),
    }
}

fn settings_of(
    request: &PrepareRequest,
    corpus: &Corpus,
    encoding: Encoding,
    reused: Option<&Tokenizer>,
) -> Settings {
    let trains_bpe = encoding == Encoding::Bpe && reused.is_none();
    Settings {
        source: corpus.description().to_owned(),
        val_fraction: corpus.val_fraction(),
        vocab_size: trains_bpe.then_some(request.vocab_size),
        tokenizer: reused.map(|tokenizer| tokenizer.sha256().to_owned()),
        data_percentage: request.data_percentage,
        seed: (request.data_percentage < 100.0).then_some(request.seed),
    }
}

/// The preparation that is there, if it is the one asked for and may be kept.
fn existing(
    request: &PrepareRequest,
    staging: &Staging,
    dataset: &str,
    encoding: Encoding,
    settings: &Settings,
) -> Result<Option<Meta>, DataError> {
    let dir = staging.target();
    if request.force || !dir.exists() {
        return Ok(None);
    }
    let meta = Prepared::open(&request.data_dir, dataset, Some(encoding))?.meta;
    let differences = differences(&meta.settings, settings);
    if differences.is_empty() {
        return Ok(Some(meta));
    }
    Err(DataError::AlreadyPrepared { dir, differences })
}

/// Each setting that differs, as `key: there → asked`.
fn differences(there: &Settings, asked: &Settings) -> Vec<String> {
    let show = |key: &str, there: String, asked: String| {
        (there != asked).then(|| format!("{key}: {there} → {asked}"))
    };
    fn option<T: std::fmt::Display>(value: &Option<T>) -> String {
        value.as_ref().map_or("none".to_owned(), T::to_string)
    }
    [
        show("source", there.source.clone(), asked.source.clone()),
        show("val_fraction", option(&there.val_fraction), option(&asked.val_fraction)),
        show("vocab_size", option(&there.vocab_size), option(&asked.vocab_size)),
        show("tokenizer", option(&there.tokenizer), option(&asked.tokenizer)),
        show(
            "data_percentage",
            there.data_percentage.to_string(),
            asked.data_percentage.to_string(),
        ),
        show("seed", option(&there.seed), option(&asked.seed)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Streams `documents` through `each`, reporting how far into the files it is.
fn watched(
    stage: Stage,
    total_bytes: Option<u64>,
    mut documents: Box<dyn Documents + '_>,
    progress: &dyn PrepareProgress,
    mut each: impl FnMut(Piece) -> Result<(), DataError>,
) -> Result<(), DataError> {
    progress.begin(stage, total_bytes);
    let mut n_reported = 0;
    while let Some(piece) = documents.next_piece()? {
        each(piece)?;
        let n_bytes = documents.n_bytes_read();
        progress.advance(n_bytes - n_reported);
        n_reported = n_bytes;
    }
    progress.finish();
    Ok(())
}
