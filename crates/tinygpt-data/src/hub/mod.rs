//! Datasets and models of the Hugging Face hub: listing, verified download, cache.
//!
//! `hf-hub` names the addresses and the places of the standard cache, so that a dataset which
//! Python downloaded is found here and vice versa. The transfer is our own (`transfer.rs`
//! explains why). This module reads no environment variables: the caller passes [`HubOptions`].
//! It does not read parquet, and it never chooses a file by a hard-coded name.
//!
//! Requests, as `hf-hub` makes them: `GET /api/datasets/O/N/revision/REV` for the commit and the
//! listed names, then for each file `GET /datasets/O/N/resolve/COMMIT/PATH`, once with `Range:
//! bytes=0-0` for size and hash, once for the bytes.

mod address;
mod by_file;
mod cache;
mod client;
mod error;
mod hash;
mod names;
mod place;
mod remote;
mod retry;
mod splits;
mod token;
mod transfer;
mod verify;

use std::path::{Path, PathBuf};

use hf_hub::RepoType;

pub(crate) use self::by_file::{FileStore, HubFile, HubListing, list};
pub use self::error::HubError;
pub use self::retry::RetryPolicy;
pub use self::token::Token;

use self::cache::RepoCache;
use self::place::RepoPlace;
use self::splits::Selected;
pub(crate) use self::splits::VALIDATION_NAMES;
use crate::progress::PrepareProgress;

/// A dataset repository and the splits wanted from it.
#[derive(Debug, Clone, Copy)]
pub struct HubRequest<'a> {
    /// `owner/name`.
    pub repository: &'a str,
    /// A branch, a tag or a commit.
    pub revision: &'a str,
    /// Only files in this folder are used, if it is set.
    pub folder: Option<&'a str>,
    /// The split to train on.
    pub train: &'a str,
    /// The splits to validate on, one after the other.
    pub validation: &'a [&'a str],
    /// Whether the splits are to be found: the first of the names in `validation` that exists
    /// counts, none need exist, and where no file is named after a split all are to train on.
    /// Otherwise what is named must exist.
    pub finds_splits: bool,
}

/// A dataset's files on this disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFiles {
    /// The commit that the revision stood for.
    pub commit: String,
    /// The parquet files to train on, sorted by name.
    pub train: Vec<PathBuf>,
    /// The parquet files to validate on, sorted by name in each split; empty if none were asked for.
    pub validation: Vec<PathBuf>,
}

/// Where and how to reach the hub. Programs usually fill it from `HF_ENDPOINT`, `HF_TOKEN`,
/// `HF_HOME` and `HF_HUB_OFFLINE`.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The hub's address or a mirror's; [`HubOptions::DEFAULT_ENDPOINT`] unless chosen.
    pub endpoint: String,
    /// Sent to the endpoint only.
    pub token: Option<Token>,
    /// The cache's `hub` folder: `$HF_HOME/hub`, by default `~/.cache/huggingface/hub`.
    pub cache_dir: PathBuf,
    /// Use the cache only.
    pub offline: bool,
    /// Limits on waiting and trying again.
    pub retry: RetryPolicy,
}

impl HubOptions {
    /// The public hub.
    pub const DEFAULT_ENDPOINT: &'static str = "https://huggingface.co";

    /// The public hub without a token, with its cache in `cache_dir`.
    pub fn new(cache_dir: PathBuf) -> Self {
        Self {
            endpoint: Self::DEFAULT_ENDPOINT.to_owned(),
            token: None,
            cache_dir,
            offline: false,
            retry: RetryPolicy::default(),
        }
    }
}

/// The public hub, with its cache below the working directory: a library does not read `HOME`.
impl Default for HubOptions {
    fn default() -> Self {
        Self::new([".cache", "huggingface", "hub"].iter().collect())
    }
}

/// Downloads the splits of a dataset and returns their files.
///
/// Files that the cache holds are not fetched again. Offline, and when the host cannot be
/// reached, a complete copy in the cache is used as it is.
///
/// # Errors
/// [`HubError`]: a bad name, no connection, an error status, a response that violates the
/// protocol, a missing split, or a disk error. In any case no file gets its
/// final name before size and hash were compared.
pub fn fetch(
    request: &HubRequest<'_>,
    options: &HubOptions,
    progress: &dyn PrepareProgress,
) -> Result<HubFiles, HubError> {
    let place = RepoPlace::of(RepoType::Dataset, request.repository, request.revision, options)?;
    let from_cache = || cached(request, &place.cache, progress);
    place.listed_or_cached(options, progress, from_cache, |info, client| {
        let listed: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let selected = Selected::from_listing(request, &listed)?;
        let names: Vec<&str> = selected.names().collect();
        place.download(&info.sha, &names, client, options, progress)?;
        Ok(places(&selected, &place.cache, &info.sha))
    })
}

/// A file that the cache lacks.
pub(crate) struct Missing {
    /// Where it will be.
    pub(crate) place: PathBuf,
    /// Its name in the repository.
    pub(crate) name: String,
    /// Its length in bytes.
    pub(crate) size: u64,
}

/// Finds out which files the splits of a dataset are, and which of them the cache lacks.
pub(crate) fn locate(
    request: &HubRequest<'_>,
    options: &HubOptions,
    progress: &dyn PrepareProgress,
) -> Result<(HubFiles, Vec<Missing>), HubError> {
    let place = RepoPlace::of(RepoType::Dataset, request.repository, request.revision, options)?;
    let from_cache = || Ok((cached(request, &place.cache, progress)?, Vec::new()));
    place.listed_or_cached(options, progress, from_cache, |info, client| {
        let listed: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let selected = Selected::from_listing(request, &listed)?;
        let names: Vec<&str> = selected.names().collect();
        let missing = place.missing(&info.sha, &names, client, options, progress)?;
        let missing = missing.into_iter().map(|file| Missing {
            place: place.cache.place(&info.sha, &file.name),
            name: file.name,
            size: file.size,
        });
        Ok((places(&selected, &place.cache, &info.sha), missing.collect()))
    })
}

/// Downloads some files of a model repository, such as its `tokenizer.json`: the
/// first of the `alternatives` of which the repository has every file, and those of the `optional` files
/// that it has. Returns where the former are.
///
/// Offline, optional files that the cache lacks are taken as missing in the repository.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_model_files(
    repository: &str,
    revision: &str,
    (alternatives, optional): (&[&[&str]], &[&str]),
    options: &HubOptions,
    progress: &dyn PrepareProgress,
) -> Result<Vec<PathBuf>, HubError> {
    let place = RepoPlace::of(RepoType::Model, repository, revision, options)?;
    let at = |commit: &str, names: &[&str]| -> Vec<PathBuf> {
        names.iter().map(|name| place.cache.place(commit, name)).collect()
    };
    let from_cache = || {
        let commit = place.cache.commit().ok_or("this revision was never downloaded")?;
        let mut there = alternatives.iter().map(|names| at(&commit, names));
        let there = there.find(|paths| paths.iter().all(|path| path.is_file()));
        let there = there.ok_or_else(|| format!("it does not hold {}", either(alternatives)))?;
        let more = at(&commit, optional).into_iter().filter(|path| path.is_file());
        let mut all = there.iter().cloned().chain(more);
        all.try_for_each(|path| check_whole(&place.cache, &path, progress))?;
        Ok(there)
    };
    place.listed_or_cached(options, progress, from_cache, |info, client| {
        let is_listed = |name: &&str| info.siblings.iter().any(|file| file.rfilename == **name);
        let names = alternatives.iter().find(|names| names.iter().all(is_listed));
        let names = names.ok_or_else(|| HubError::NoFile {
            repository: repository.to_owned(),
            wanted: either(alternatives),
        })?;
        let more = optional.iter().filter(|name| is_listed(name));
        let all: Vec<&str> = names.iter().chain(more).copied().collect();
        place.download(&info.sha, &all, client, options, progress)?;
        Ok(at(&info.sha, names))
    })
}

/// `tokenizer.json, or vocab.json and merges.txt`.
fn either(alternatives: &[&[&str]]) -> String {
    alternatives.iter().map(|names| names.join(" and ")).collect::<Vec<_>>().join(", or ")
}

/// Finds the whole dataset in the cache, or says what is missing.
fn cached(
    request: &HubRequest<'_>,
    cache: &RepoCache,
    progress: &dyn PrepareProgress,
) -> Result<HubFiles, String> {
    let commit = cache.commit().ok_or("this revision was never downloaded")?;
    let names = cache.parquet_names(&commit);
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    let selected = Selected::from_listing(request, &listed).map_err(|error| error.to_string())?;
    let validation = selected.validation.iter().map(|names| ("validation", names));
    for (split, names) in std::iter::once(("train", &selected.train)).chain(validation) {
        let promised = names.iter().filter_map(|name| names::promised_shards(name)).max();
        if let Some(promised) = promised.filter(|&promised| promised > names.len()) {
            return Err(format!("only {} of {promised} {split} files are there", names.len()));
        }
        if let Some(name) = names.iter().find(|name| !cache.place(&commit, name).is_file()) {
            return Err(format!("{name} is not there"));
        }
        for name in names {
            check_whole(cache, &cache.place(&commit, name), progress)?;
        }
    }
    Ok(places(&selected, cache, &commit))
}

/// The notice about a file of the cache whose bytes have changed.
fn check_whole(
    cache: &RepoCache,
    place: &Path,
    progress: &dyn PrepareProgress,
) -> Result<(), String> {
    match cache.is_whole(place, None, progress) {
        Ok(true) => Ok(()),
        Ok(false) => Err(spoilt(place)),
        Err(error) => Err(error.to_string()),
    }
}

fn spoilt(place: &Path) -> String {
    format!("{} is damaged: its bytes do not have the SHA-256 of its name", place.display())
}

/// Where the cache has the files of the splits.
fn places(selected: &Selected, cache: &RepoCache, commit: &str) -> HubFiles {
    let place = |names: &[String]| names.iter().map(|name| cache.place(commit, name)).collect();
    HubFiles {
        commit: commit.to_owned(),
        train: place(&selected.train),
        validation: place(&selected.validation.concat()),
    }
}
