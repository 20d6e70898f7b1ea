//! Checks that a file of the cache still matches its name, the hash of its bytes.
//!
//! Hashing a dataset takes seconds, so it is done when a file is first used, and again only when its
//! size or time has changed: a small file next to the locks records both.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tinygpt_fs::create_dir_all;

use super::cache::RepoCache;
use super::error::HubError;
use super::hash::BlobHash;
use crate::progress::PrepareProgress;
use crate::regular::{open_regular, read_regular};

/// The largest record, in bytes.
const MAX_RECORD_BYTES: u64 = 1 << 10;

impl RepoCache {
    /// Whether the bytes at `place` are those that `etag` promises; without an `etag`, the blob's name
    /// that the place links to. A file without a hash is accepted.
    pub(super) fn is_whole(
        &self,
        place: &Path,
        etag: Option<&str>,
        progress: &dyn PrepareProgress,
    ) -> Result<bool, HubError> {
        let linked = || Some(fs::canonicalize(place).ok()?.file_name()?.to_str()?.to_owned());
        let Some(etag) = etag.map(str::to_owned).or_else(linked) else { return Ok(true) };
        let Some(hash) = BlobHash::of_name(&etag) else { return Ok(true) };
        let record = self.record(&etag);
        let now = stamp(place).map_err(|source| HubError::io("read", place, source))?;
        if read_regular(&record, MAX_RECORD_BYTES).is_ok_and(|known| known == now.as_bytes()) {
            return Ok(true);
        }
        let Ok(mut file) = open_regular(place) else { return Ok(false) };
        let found = file.metadata().and_then(|metadata| {
            hash.compute(&mut file, metadata.len(), &|| progress.is_stopped())
        });
        let found = found.map_err(|source| HubError::io("read", place, source))?;
        let Some(found) = found else { return Err(HubError::Stopped) };
        if !found.eq_ignore_ascii_case(&etag) {
            return Ok(false);
        }
        self.record_whole(place, &etag);
        Ok(true)
    }

    /// Records that the bytes at `place` have just been compared with their hash. Without the record
    /// they are compared again, so a failed write does not matter.
    pub(super) fn record_whole(&self, place: &Path, etag: &str) {
        let record = self.record(etag);
        if let (Ok(stamp), Some(Ok(()))) = (stamp(place), record.parent().map(create_dir_all)) {
            // A new file, never one that a link leads to.
            _ = fs::remove_file(&record);
            _ = File::create_new(&record)
                .and_then(|mut file| io::Write::write_all(&mut file, stamp.as_bytes()));
        }
    }

    fn record(&self, etag: &str) -> PathBuf {
        self.lock_folder().join(format!("{etag}.verified"))
    }
}

/// The size of a file and the time of its last change.
fn stamp(place: &Path) -> io::Result<String> {
    let metadata = fs::metadata(place)?;
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{} {}\n", metadata.len(), since.as_nanos()))
}
