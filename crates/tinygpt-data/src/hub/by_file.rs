//! The files of a dataset one by one, for a dataset that is larger than the disk.
//!
//! Files that the user's cache holds are read from there. The others are downloaded into a directory
//! of the preparation, so that everything in it is its own and may be removed.

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::RepoType;
use serde::{Deserialize, Serialize};
use tinygpt_fs::{parent_of, remove};

use super::client::Client;
use super::error::HubError;
use super::place::RepoPlace;
use super::remote::{RemoteFile, part_of};
use super::splits::Selected;
use super::transfer::fetch_file;
use super::{HubFiles, HubOptions, HubRequest, cached};
use crate::progress::PrepareProgress;

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HubFile {
    /// Its path in the repository.
    pub(crate) name: String,
    /// The name of its blob; for large-file storage its SHA-256.
    pub(crate) etag: String,
    /// Its length in bytes.
    pub(crate) size: u64,
}

/// The files of the splits of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HubListing {
    /// The commit that the revision stood for.
    pub(crate) commit: String,
    /// The files to train on, sorted by name.
    pub(crate) train: Vec<HubFile>,
    /// The files to validate on; empty if the dataset has none.
    pub(crate) validation: Vec<HubFile>,
}

impl HubListing {
    /// All files in the order in which they are read.
    pub(crate) fn files(&self) -> impl Iterator<Item = &HubFile> {
        self.train.iter().chain(&self.validation)
    }
}

/// Finds out which files the splits of a dataset are, and downloads none of them.
///
/// # Errors
/// As [`super::fetch`].
pub(crate) fn list(
    request: &HubRequest<'_>,
    options: &HubOptions,
    progress: &dyn PrepareProgress,
) -> Result<HubListing, HubError> {
    let place = RepoPlace::of(RepoType::Dataset, request.repository, request.revision, options)?;
    let from_cache = || cached(request, &place.cache, progress).and_then(|it| listed_in_cache(&it));
    place.listed_or_cached(options, progress, from_cache, |info, client| {
        let listed: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let selected = Selected::from_listing(request, &listed)?;
        let describe = |name: &String| {
            let file = place.describe(&info.sha, name, client, options, progress)?;
            Ok(HubFile { name: file.name, etag: file.etag, size: file.size })
        };
        let train = selected.train.iter().map(describe).collect::<Result<_, HubError>>()?;
        let validation = selected.validation.iter().flatten().map(describe);
        let validation = validation.collect::<Result<_, HubError>>()?;
        Ok(HubListing { commit: info.sha, train, validation })
    })
}

/// The listing of a dataset that is in the cache as a whole.
fn listed_in_cache(files: &HubFiles) -> Result<HubListing, String> {
    let snapshot = Path::new("snapshots").join(&files.commit);
    let describe = |path: &PathBuf| {
        let shown = path.display().to_string();
        let text = |text: Option<&str>| text.map(str::to_owned).ok_or(shown.clone());
        let (_, name) = shown.rsplit_once(&*snapshot.to_string_lossy()).ok_or(shown.clone())?;
        let blob = fs::canonicalize(path).map_err(|error| format!("{shown}: {error}"))?;
        let etag = text(blob.file_name().and_then(|name| name.to_str()))?;
        let size = fs::metadata(&blob).map_err(|error| format!("{shown}: {error}"))?.len();
        let name = name.trim_start_matches(['/', '\\']).replace('\\', "/");
        Ok(HubFile { name, etag, size })
    };
    Ok(HubListing {
        commit: files.commit.clone(),
        train: files.train.iter().map(describe).collect::<Result<_, String>>()?,
        validation: files.validation.iter().map(describe).collect::<Result<_, String>>()?,
    })
}

/// Gets the files of a commit one by one, and removes those that it downloaded.
pub(crate) struct FileStore {
    options: HubOptions,
    commit: String,
    /// The cache that all programs share; nothing in it is changed.
    shared: RepoPlace,
    /// The directory of this preparation.
    own: RepoPlace,
}

impl FileStore {
    /// A store that downloads into `own_dir`.
    pub(crate) fn new(
        request: &HubRequest<'_>,
        commit: &str,
        own_dir: &Path,
        options: &HubOptions,
    ) -> Result<Self, HubError> {
        let place = |options: &HubOptions| {
            RepoPlace::of(RepoType::Dataset, request.repository, request.revision, options)
        };
        let own = HubOptions { cache_dir: own_dir.to_path_buf(), ..options.clone() };
        Ok(Self {
            options: options.clone(),
            commit: commit.to_owned(),
            shared: place(options)?,
            own: place(&own)?,
        })
    }

    /// Where the bytes of a file are on this disk; downloads them if need be.
    ///
    /// # Errors
    /// As [`super::fetch`].
    pub(crate) fn get(
        &self,
        file: &HubFile,
        progress: &dyn PrepareProgress,
    ) -> Result<PathBuf, HubError> {
        let cache = &self.shared.cache;
        for place in [cache.place(&self.commit, &file.name), cache.blob(&file.etag)] {
            let is_there = fs::metadata(&place).is_ok_and(|it| it.len() == file.size);
            if is_there && cache.is_whole(&place, Some(&file.etag), progress)? {
                return Ok(place);
            }
        }
        if self.options.offline {
            return Err(HubError::NotCached {
                repository: cache.repository().to_owned(),
                revision: cache.revision().to_owned(),
                cache_dir: self.options.cache_dir.clone(),
                is_model: false,
                reason: format!("{} is not there", file.name),
            });
        }
        let client = Client::new(&self.options)?;
        let address = self.own.address(&self.commit, &file.name, &client)?;
        let HubFile { name, etag, size } = file.clone();
        let remote = RemoteFile { name, address, etag, size };
        let retry = &self.options.retry;
        fetch_file(&client, &self.own.cache, &self.commit, &remote, retry, progress)
    }

    /// How many bytes of a file have yet to be downloaded.
    pub(crate) fn n_missing(&self, file: &HubFile) -> u64 {
        let blob = |place: &RepoPlace| place.cache.blob(&file.etag);
        let shared = self.shared.cache.place(&self.commit, &file.name);
        let places = [shared, blob(&self.shared), blob(&self.own), part_of(&blob(&self.own))];
        let length = |path: &PathBuf| fs::metadata(path).map_or(0, |it| it.len());
        file.size.saturating_sub(places.iter().map(length).max().unwrap_or(0))
    }

    /// Removes every downloaded file but those in `kept`. Files of the shared cache stay.
    ///
    /// # Errors
    /// [`HubError::Io`].
    pub(crate) fn keep_only(&self, kept: &[HubFile]) -> Result<(), HubError> {
        let cache = &self.own.cache;
        let blobs = cache.blob("any");
        let blobs = parent_of(&blobs);
        for entry in fs::read_dir(blobs).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_kept = |file: &HubFile| {
                let blob = cache.blob(&file.etag);
                path == blob || path == part_of(&blob)
            };
            if !kept.iter().any(is_kept) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}
