//! Paths in the standard cache, shared with Python's `huggingface_hub` and `datasets`.
//!
//! ```text
//! <cache_dir>/datasets--owner--name/blobs/<etag>            the bytes, named by their hash
//!                                  /snapshots/<commit>/<path> -> ../../blobs/<etag>
//!                                  /refs/<revision>          holds the commit
//! <cache_dir>/.locks/datasets--owner--name/<etag>.lock
//! ```
//!
//! `hf-hub` knows the paths; this file writes the files, whole or not at all. It never
//! uses the network.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo};
use tinygpt_fs::{create_dir_all, parent_of, rename, replace_file, replace_link, sync_dir};

use super::error::HubError;
use super::names::{is_commit, unsafe_reason};
use crate::progress::PrepareProgress;
use crate::regular::read_regular_text;

/// The largest file in `refs`, in bytes: it holds a commit.
const MAX_REFERENCE_BYTES: u64 = 1 << 10;

/// How deep below a snapshot files are looked for.
const MAX_DEPTH: usize = 8;

/// One repository's part of the cache.
pub(super) struct RepoCache {
    root: PathBuf,
    id: String,
    repo: Repo,
    places: CacheRepo,
}

impl RepoCache {
    pub(super) fn new(cache_dir: &Path, id: &str, repo: Repo) -> Self {
        let places = Cache::new(cache_dir.to_path_buf()).repo(repo.clone());
        Self { root: cache_dir.to_path_buf(), id: id.to_owned(), repo, places }
    }

    /// The repository's id.
    pub(super) fn repository(&self) -> &str {
        &self.id
    }

    /// The revision asked for.
    pub(super) fn revision(&self) -> &str {
        self.repo.revision()
    }

    /// The commit that the revision named when it was last looked up, or names by itself.
    pub(super) fn commit(&self) -> Option<String> {
        let revision = self.repo.revision();
        let reference = self.root.join(self.repo.folder_name()).join("refs").join(revision);
        let commit = match read_regular_text(&reference, MAX_REFERENCE_BYTES) {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) => revision.to_owned(),
        };
        (is_commit(&commit) && self.places.pointer_path(&commit).is_dir()).then_some(commit)
    }

    /// Records the commit of the revision, for runs without a network.
    pub(super) fn remember(&self, commit: &str) -> Result<(), HubError> {
        if self.repo.revision() == commit {
            return Ok(());
        }
        let refs = self.root.join(self.repo.folder_name()).join("refs");
        let reference = refs.join(self.repo.revision());
        let folder = parent_of(&reference);
        create_dir_all(folder)?;
        // No lock is held here, so the temporary name must be unique.
        let part = tempfile::NamedTempFile::new_in(folder)
            .and_then(|mut file| {
                file.write_all(commit.as_bytes())?;
                Ok(file.into_temp_path())
            })
            .map_err(|source| HubError::io("write into", folder, source))?;
        Ok(replace_file(&part, &reference)?)
    }

    /// Where the file `name` of a commit is, or will be.
    pub(super) fn place(&self, commit: &str, name: &str) -> PathBuf {
        let mut place = self.places.pointer_path(commit);
        place.extend(name.split('/'));
        place
    }

    /// Where a file's bytes are, or will be.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.places.blob_path(etag)
    }

    /// The parquet files that a commit's snapshot holds, as the repository names them.
    pub(super) fn parquet_names(&self, commit: &str) -> Vec<String> {
        let mut names = Vec::new();
        collect_parquet(&self.places.pointer_path(commit), "", MAX_DEPTH, &mut names);
        names.sort();
        names
    }

    /// Locks one file's bytes; waits, and reports it, while another program has the lock.
    ///
    /// Python's client uses the same lock. On a file system without locks there is none.
    pub(super) fn lock(
        &self,
        etag: &str,
        progress: &dyn PrepareProgress,
    ) -> Result<File, HubError> {
        let folder = self.lock_folder();
        create_dir_all(&folder)?;
        let path = folder.join(format!("{etag}.lock"));
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(|source| HubError::io("create", &path, source))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            progress.notice(&format!(
                "another program is downloading the same file; waiting for it ({})",
                path.display()
            ));
            file.lock().map_err(|source| HubError::io("lock", &path, source))?;
        }
        Ok(file)
    }

    /// Where the locks are, and the records of what was verified.
    pub(super) fn lock_folder(&self) -> PathBuf {
        self.root.join(".locks").join(self.repo.folder_name())
    }

    /// Gives verified bytes their final names: the blob first, then the place that points to it.
    pub(super) fn publish(
        &self,
        part: &Path,
        etag: &str,
        commit: &str,
        name: &str,
    ) -> Result<PathBuf, HubError> {
        let blob = self.blob(etag);
        replace_file(part, &blob)?;
        self.link(&blob, commit, name)
    }

    /// Makes the place of `name` point to its blob.
    pub(super) fn link(&self, blob: &Path, commit: &str, name: &str) -> Result<PathBuf, HubError> {
        let place = self.place(commit, name);
        create_dir_all(parent_of(&place))?;
        // One step up for each folder of the name, and two for `snapshots/<commit>`.
        let mut target = PathBuf::new();
        for _ in 0..name.split('/').count() + 1 {
            target.push("..");
        }
        target.push("blobs");
        target.extend(blob.file_name());
        // As Python's client does it: a relative link, or the file itself if links are not available.
        if !replace_link(&target, &place)? {
            rename(blob, &place)?;
            sync_dir(parent_of(&place))?;
        }
        Ok(place)
    }
}

fn collect_parquet(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(file_name) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{file_name}");
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth > 0 {
            collect_parquet(&entry.path(), &format!("{name}/"), depth - 1, names);
        } else if name.ends_with(".parquet") && unsafe_reason(&name).is_none() {
            names.push(name);
        }
    }
}
