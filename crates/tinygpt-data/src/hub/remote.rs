//! A file of a repository, as the hub describes it before the download.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::address::Address;
use super::cache::RepoCache;
use super::client::{Client, Reply, length, text};
use super::error::HubError;
use super::hash::BlobHash;
use super::names::is_blob_name;

/// The hint if a received file is not what the hub announced.
pub(super) const ALTERED: &str = "a proxy may be altering downloads: check `proxy` and `endpoint`, or use a \
     local text as `source`";

/// The file of an incomplete blob.
pub(super) fn part_of(blob: &Path) -> PathBuf {
    blob.with_extension("part")
}

/// A file as the hub describes it.
#[derive(Debug, Clone)]
pub(super) struct RemoteFile {
    /// Its path in the repository.
    pub(super) name: String,
    /// The address of its bytes.
    pub(super) address: Address,
    /// The name of its blob; for large-file storage its SHA-256.
    pub(super) etag: String,
    /// Its length in bytes.
    pub(super) size: u64,
}

impl RemoteFile {
    /// Asks the hub for length and hash of the file at `address`.
    pub(super) fn describe(
        client: &Client,
        name: &str,
        address: Address,
    ) -> Result<Self, HubError> {
        // One byte instead of HEAD: this is what storage hosts answer as they answer the rest.
        let reply = client.get(&address, Some("bytes=0-0"))?;
        let etag = text(&reply.hub_headers, "x-linked-etag")
            .or_else(|| text(&reply.hub_headers, "etag"))
            .or_else(|| text(&reply.headers, "etag"))
            .map(|etag| etag.trim().trim_start_matches("W/").trim_matches('"').to_owned())
            .filter(|etag| is_blob_name(etag))
            .map(|etag| blob_name(etag, name));
        let size = text(&reply.hub_headers, "x-linked-size")
            .and_then(|size| size.trim().parse().ok())
            .or_else(|| match reply.status {
                206 => content_range(&reply).and_then(|range| range.total),
                _ => length(&reply.headers),
            });
        let missing = |what: &str| {
            let advice = "`endpoint` does not speak the hub's protocol: set it to the hub or a \
                          mirror, or use a local text as `source`";
            HubError::answer(&address, format!("a response without {what}"), what, advice)
        };
        let etag = etag.ok_or_else(|| missing("a usable ETag"))?;
        let size = size.ok_or_else(|| missing("the file's length"))?;
        Ok(Self { name: name.to_owned(), address, etag, size })
    }

    /// How many bytes of it an earlier run has left in the cache.
    pub(super) fn received(&self, cache: &RepoCache) -> u64 {
        let received = length_of_own(&part_of(&cache.blob(&self.etag)));
        if received <= self.size { received } else { 0 }
    }

    /// Whether it must begin and end as a parquet file does.
    pub(super) fn is_parquet(&self) -> bool {
        self.name.ends_with(".parquet")
    }

    /// The error of a description that cannot be right.
    pub(super) fn refused(&self, got: &str, expected: &str) -> HubError {
        HubError::answer(&self.address, got, expected, ALTERED)
    }
}

/// The name of a blob. Only a hash says that two files are the same: any other `etag` gets a part that
/// depends on the file's name.
fn blob_name(etag: String, name: &str) -> String {
    if BlobHash::of_name(&etag).is_some() {
        return etag;
    }
    let of_name: String =
        Sha256::digest(name).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{etag:.64}-{of_name}")
}

/// The length of a file that only this process uses: 0 if it is a link, has a second name or is not
/// a file.
pub(super) fn length_of_own(path: &Path) -> u64 {
    let own = fs::symlink_metadata(path).ok().filter(|it| it.is_file() && n_names(it) == 1);
    own.map_or(0, |it| it.len())
}

#[cfg(unix)]
fn n_names(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

/// Other systems do not show it in the standard library.
#[cfg(not(unix))]
fn n_names(_metadata: &fs::Metadata) -> u64 {
    1
}

/// A parsed `Content-Range: bytes 5-9/10`.
pub(super) struct ContentRange {
    pub(super) start: u64,
    pub(super) total: Option<u64>,
}

pub(super) fn content_range(reply: &Reply) -> Option<ContentRange> {
    let value = text(&reply.headers, "content-range")?.trim().strip_prefix("bytes ")?;
    let (range, total) = value.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some(ContentRange { start: start.trim().parse().ok()?, total: total.trim().parse().ok() })
}
