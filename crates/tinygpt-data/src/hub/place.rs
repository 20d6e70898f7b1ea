//! A revision of a repository: its listing, and the download of what the cache lacks of it.

use std::collections::HashMap;

use hf_hub::api::RepoInfo;
use hf_hub::{Repo, RepoType};

use super::address::{Address, encode_path};
use super::cache::RepoCache;
use super::client::Client;
use super::error::HubError;
use super::remote::RemoteFile;
use super::retry::Backoff;
use super::transfer::fetch_file;
use super::{HubOptions, names, spoilt};
use crate::progress::{PrepareProgress, Stage};

/// The largest file of a model that does not hold its weights, in bytes. Such files are read completely.
const MAX_SMALL_BYTES: u64 = 64 << 20;

/// A revision of a repository: how it is asked for, and where it is kept.
pub(super) struct RepoPlace {
    kind: RepoType,
    repo: Repo,
    pub(super) cache: RepoCache,
}

impl RepoPlace {
    pub(super) fn of(
        kind: RepoType,
        repository: &str,
        revision: &str,
        options: &HubOptions,
    ) -> Result<Self, HubError> {
        names::check_repository(repository)?;
        names::check_revision(revision)?;
        let repo = Repo::with_revision(repository.to_owned(), kind, revision.to_owned());
        let cache = RepoCache::new(&options.cache_dir, repository, repo.clone());
        Ok(Self { kind, repo, cache })
    }

    /// Lists the repository and continues with that; offline, or if the host cannot be
    /// reached, takes what the cache has.
    pub(super) fn listed_or_cached<T>(
        &self,
        options: &HubOptions,
        progress: &dyn PrepareProgress,
        from_cache: impl Fn() -> Result<T, String>,
        from_listing: impl FnOnce(RepoInfo, &Client) -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        if options.offline {
            return from_cache().map_err(|reason| HubError::NotCached {
                repository: self.cache.repository().to_owned(),
                revision: self.cache.revision().to_owned(),
                cache_dir: options.cache_dir.clone(),
                is_model: matches!(self.kind, RepoType::Model),
                reason,
            });
        }
        let client = Client::new(options)?;
        let info_address = client.at(&format!("api/{}", self.repo.api_url()))?;
        let listing: Result<RepoInfo, HubError> =
            Backoff::new(&options.retry, progress).run(|| client.get_json(&info_address));
        match listing {
            Ok(info) if !names::is_commit(&info.sha) => Err(HubError::Invalid {
                what: "the listed commit",
                value: info.sha.escape_debug().to_string(),
                reason: "40 hexadecimal digits are expected: check `endpoint`".to_owned(),
            }),
            Ok(info) => from_listing(info, &client),
            Err(error @ HubError::Unreachable { .. }) => match from_cache() {
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

    /// Requests size and hash of a file.
    pub(super) fn describe(
        &self,
        commit: &str,
        name: &str,
        client: &Client,
        options: &HubOptions,
        progress: &dyn PrepareProgress,
    ) -> Result<RemoteFile, HubError> {
        let address = self.address(commit, name, client)?;
        Backoff::new(&options.retry, progress)
            .run(|| RemoteFile::describe(client, name, address.clone()))
    }

    /// Where the host has the bytes of a file.
    pub(super) fn address(
        &self,
        commit: &str,
        name: &str,
        client: &Client,
    ) -> Result<Address, HubError> {
        let path = format!("{}/resolve/{commit}/{}", self.repo.url(), encode_path(name));
        client.at(path.trim_start_matches('/'))
    }

    /// Requests size and hash of the files, and returns those that are missing or damaged in the cache.
    pub(super) fn missing(
        &self,
        commit: &str,
        names: &[&str],
        client: &Client,
        options: &HubOptions,
        progress: &dyn PrepareProgress,
    ) -> Result<Vec<RemoteFile>, HubError> {
        let mut missing = Vec::new();
        let mut sizes = HashMap::new();
        for name in names {
            let file = self.describe(commit, name, client, options, progress)?;
            if *sizes.entry(file.etag.clone()).or_insert(file.size) != file.size {
                let got = format!("the hash {} for files of different sizes", file.etag);
                return Err(file.refused(&got, "the hash of each file"));
            }
            let is_small = matches!(self.kind, RepoType::Model) && !name.ends_with(".safetensors");
            if is_small && file.size > MAX_SMALL_BYTES {
                let expected = format!("at most {MAX_SMALL_BYTES}");
                return Err(file.refused(&format!("{name} with {} bytes", file.size), &expected));
            }
            let place = self.cache.place(commit, name);
            if !std::fs::metadata(&place).is_ok_and(|there| there.len() == file.size) {
                missing.push(file);
            } else if !self.cache.is_whole(&place, Some(&file.etag), progress)? {
                progress.notice(&format!("{}; downloading it again", spoilt(&place)));
                missing.push(file);
            }
        }
        Ok(missing)
    }

    /// Downloads what the cache lacks of the files.
    pub(super) fn download(
        &self,
        commit: &str,
        names: &[&str],
        client: &Client,
        options: &HubOptions,
        progress: &dyn PrepareProgress,
    ) -> Result<(), HubError> {
        let missing = self.missing(commit, names, client, options, progress)?;
        if !missing.is_empty() {
            // Bytes of an earlier run count as done, or speed and ETA would be wrong.
            let to_come = |file: &RemoteFile| file.size - file.received(&self.cache);
            progress.begin(Stage::Download, Some(missing.iter().map(to_come).sum()));
            for file in &missing {
                fetch_file(client, &self.cache, commit, file, &options.retry, progress)?;
            }
            progress.finish();
        }
        self.cache.remember(commit)
    }
}
