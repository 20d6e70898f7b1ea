//! Datasets from the Hugging Face hub: list, download with checks, find again in the cache.
//!
//! `hf-hub` names the addresses and the places of the standard cache, so that a dataset which
//! Python downloaded is found here and the other way round. The transfer is ours (`transfer.rs`
//! says why). This module reads no environment variable: the binaries pass [`HubOptions`] in.
//! It does not read parquet, and it never picks a file by a name written down in advance.
//!
//! Requests, as `hf-hub` makes them: `GET /api/datasets/O/N/revision/REV` for the commit and the
//! listed names, then for each file `GET /datasets/O/N/resolve/COMMIT/PATH`, once with `Range:
//! bytes=0-0` for size and hash, once for the bytes.

mod address;
mod cache;
mod client;
mod error;
mod names;
mod patience;
mod transfer;

use std::fmt;
use std::path::PathBuf;

use hf_hub::api::RepoInfo;
use hf_hub::{Repo, RepoType};

pub use self::error::HubError;
pub use self::patience::Patience;

use self::address::encode_path;
use self::cache::RepoCache;
use self::client::Client;
use self::patience::Backoff;
use self::transfer::{RemoteFile, fetch_file};
use crate::progress::{PrepareProgress, Stage};

/// A dataset repository and the splits wanted from it.
#[derive(Debug, Clone, Copy)]
pub struct HubRequest<'a> {
    /// `owner/name`.
    pub repository: &'a str,
    /// A branch, a tag or a commit.
    pub revision: &'a str,
    /// The split to train on; it must exist.
    pub train: &'a str,
    /// The split to validate on; it must exist if it is named.
    pub validation: Option<&'a str>,
}

/// A dataset's files on this disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFiles {
    /// The commit that the revision stood for.
    pub commit: String,
    /// The parquet files to train on, sorted by name.
    pub train: Vec<PathBuf>,
    /// The parquet files to validate on, sorted by name; empty if none were asked for.
    pub validation: Vec<PathBuf>,
}

/// Where and how to reach the hub. The binaries fill it from `HF_ENDPOINT`, `HF_TOKEN`,
/// `HF_HOME` and `HF_HUB_OFFLINE`.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The hub's address or a mirror's; [`HubOptions::DEFAULT_ENDPOINT`] unless chosen.
    pub endpoint: String,
    /// Sent to the endpoint, and to nobody else.
    pub token: Option<Token>,
    /// The cache's `hub` folder: `$HF_HOME/hub`, by default `~/.cache/huggingface/hub`.
    pub cache_dir: PathBuf,
    /// Use the cache only.
    pub offline: bool,
    /// Limits on waiting and trying again.
    pub patience: Patience,
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
            patience: Patience::default(),
        }
    }
}

/// The public hub, with its cache below the working directory: a library asks nobody for a home.
impl Default for HubOptions {
    fn default() -> Self {
        Self::new([".cache", "huggingface", "hub"].iter().collect())
    }
}

/// A hub token. It cannot be printed.
///
/// ```
/// let token = tinygpt_data::hub::Token::new("hf_secret").unwrap();
/// assert_eq!(format!("{token:?}"), "Token(…)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token as it stands in `HF_TOKEN`; `None` if it is blank or could not be sent.
    pub fn new(token: &str) -> Option<Self> {
        let token = token.trim();
        let sendable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        sendable.then(|| Self(token.to_owned()))
    }

    fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Brings the splits of a dataset onto this disk and returns their files.
///
/// Files that the cache holds are not fetched again. Offline, and when the host cannot be
/// reached, a complete copy in the cache is used as it is.
///
/// # Errors
/// [`HubError`]: a bad name, no connection, a refusal, an answer that is not what the hub
/// promises, a split that is not there, or a disk that fails. Whatever happens, no file has its
/// final name before size and hash were compared.
pub fn fetch(
    request: &HubRequest<'_>,
    options: &HubOptions,
    progress: &dyn PrepareProgress,
) -> Result<HubFiles, HubError> {
    names::check_repository(request.repository)?;
    names::check_revision(request.revision)?;
    let repo = Repo::with_revision(
        request.repository.to_owned(),
        RepoType::Dataset,
        request.revision.to_owned(),
    );
    let cache = RepoCache::new(&options.cache_dir, repo.clone());
    if options.offline {
        return cached(request, &cache).map_err(|reason| HubError::NotCached {
            repository: request.repository.to_owned(),
            revision: request.revision.to_owned(),
            cache_dir: options.cache_dir.clone(),
            reason,
        });
    }
    let client = Client::new(options)?;
    let info_address = client.at(&format!("api/{}", repo.api_url()))?;
    let listing: Result<RepoInfo, HubError> =
        Backoff::new(&options.patience, progress).run(|| client.get_json(&info_address));
    match listing {
        Ok(info) => download(request, &info, &repo, &client, &cache, options, progress),
        Err(error @ HubError::Unreachable { .. }) => match cached(request, &cache) {
            Ok(files) => {
                progress.notice(&format!(
                    "could not reach {}; using the copy in {}",
                    client.host(),
                    options.cache_dir.display()
                ));
                Ok(files)
            }
            Err(_) => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Downloads what the cache lacks of the listed files.
fn download(
    request: &HubRequest<'_>,
    info: &RepoInfo,
    repo: &Repo,
    client: &Client,
    cache: &RepoCache,
    options: &HubOptions,
    progress: &dyn PrepareProgress,
) -> Result<HubFiles, HubError> {
    let commit = info.sha.as_str();
    if !names::is_commit(commit) {
        return Err(HubError::Invalid {
            what: "the listed commit",
            value: commit.escape_debug().to_string(),
            reason: "40 hexadecimal digits are expected: check HF_ENDPOINT".to_owned(),
        });
    }
    let listed: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let selected = Selected::from_listing(request, &listed)?;
    let mut missing = Vec::new();
    for name in selected.train.iter().chain(&selected.validation) {
        let path = format!("{}/resolve/{commit}/{}", repo.url(), encode_path(name));
        let address = client.at(&path)?;
        let file = Backoff::new(&options.patience, progress)
            .run(|| RemoteFile::describe(client, name, address.clone()))?;
        let place = cache.place(commit, name);
        if std::fs::metadata(&place).is_ok_and(|there| there.len() == file.size) {
            continue;
        }
        missing.push(file);
    }
    if !missing.is_empty() {
        progress.begin(Stage::Download, Some(missing.iter().map(|file| file.size).sum()));
        for file in &missing {
            fetch_file(client, cache, commit, file, &options.patience, progress)?;
        }
        progress.finish();
    }
    cache.remember(commit)?;
    Ok(selected.places(cache, commit))
}

/// Finds the whole dataset in the cache, or says what is missing.
fn cached(request: &HubRequest<'_>, cache: &RepoCache) -> Result<HubFiles, String> {
    let commit = cache.commit().ok_or("this revision was never downloaded")?;
    let names = cache.parquet_names(&commit);
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    let selected = Selected::from_listing(request, &listed).map_err(|error| error.to_string())?;
    for (split, names) in [("train", &selected.train), ("validation", &selected.validation)] {
        let promised = names.iter().filter_map(|name| names::promised_shards(name)).max();
        if let Some(promised) = promised.filter(|&promised| promised > names.len()) {
            return Err(format!("only {} of {promised} {split} files are there", names.len()));
        }
        if let Some(name) = names.iter().find(|name| !cache.place(&commit, name).is_file()) {
            return Err(format!("{name} is not there"));
        }
    }
    Ok(selected.places(cache, &commit))
}

/// The names of the files that make up the splits, sorted.
struct Selected {
    train: Vec<String>,
    validation: Vec<String>,
}

impl Selected {
    fn from_listing(request: &HubRequest<'_>, listed: &[&str]) -> Result<Self, HubError> {
        let parquet: Vec<&str> =
            listed.iter().copied().filter(|name| name.ends_with(".parquet")).collect();
        for name in &parquet {
            if let Some(reason) = names::unsafe_reason(name) {
                return Err(HubError::FileName {
                    repository: request.repository.to_owned(),
                    name: (*name).to_owned(),
                    reason,
                });
            }
        }
        let validation = match request.validation {
            Some(split) => select(request.repository, split, &parquet)?,
            None => Vec::new(),
        };
        Ok(Self { train: select(request.repository, request.train, &parquet)?, validation })
    }

    fn places(&self, cache: &RepoCache, commit: &str) -> HubFiles {
        let place = |names: &[String]| names.iter().map(|name| cache.place(commit, name)).collect();
        HubFiles {
            commit: commit.to_owned(),
            train: place(&self.train),
            validation: place(&self.validation),
        }
    }
}

/// The files of one split, sorted and without repetition.
fn select(repository: &str, split: &str, parquet: &[&str]) -> Result<Vec<String>, HubError> {
    let mut names: Vec<String> = parquet
        .iter()
        .filter(|name| names::in_split(name, split))
        .map(|name| (*name).to_owned())
        .collect();
    names.sort();
    names.dedup();
    let mut folders: Vec<&str> = names.iter().map(|name| names::folder(name)).collect();
    folders.dedup();
    let reason = match (names.is_empty(), parquet, folders.as_slice()) {
        (true, [], _) => {
            "it has no parquet files at all: choose a dataset that has, or use `--source PATH`"
                .to_owned()
        }
        (true, some, _) => format!(
            "its {} parquet files are named like {}: name the split in the recipe's `train` and \
             `validation`",
            some.len(),
            first_few(some)
        ),
        (false, _, [_, _, ..]) => format!(
            "several subsets have it, in the folders {}: name one in the recipe, such as \
             `FOLDER/{split}`",
            first_few(&folders)
        ),
        _ => return Ok(names),
    };
    let (repository, split) = (repository.to_owned(), split.to_owned());
    Err(HubError::NoSplit { repository, split, reason })
}

/// The first names of a list, for a message.
fn first_few(names: &[&str]) -> String {
    let more = if names.len() > 5 { ", …" } else { "" };
    format!("{}{more}", names.iter().take(5).copied().collect::<Vec<_>>().join(", "))
}
