//! One file from the hub to its final name: described, resumed, checked, published.
//!
//! `hf-hub`'s own download checks neither status nor length nor hash. This one gives a file its
//! final name only after size, parquet frame and hash have been compared. Received bytes stay in
//! `<blob>.part`, and the next attempt or the next run continues from there with a `Range` request.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tinygpt_fs::{create_dir_all, parent_of};

use super::cache::RepoCache;
use super::client::{Client, Reply, length, text};
use super::error::HubError;
use super::hash::BlobHash;
use super::remote::{ALTERED, RemoteFile, content_range, length_of_own, part_of};
use super::retry::{Backoff, RetryPolicy};
use crate::progress::PrepareProgress;

/// Every parquet file begins and ends with these bytes.
const PARQUET_MAGIC: &[u8; 4] = b"PAR1";

/// Read and written at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A connection that transferred less than this made no progress.
const PROGRESS_BYTES: u64 = 1 << 20;

/// A slower transfer has stalled.
const SLOWEST_BYTES_PER_SECOND: f64 = 1024.0;

/// Counts a file's bytes for the progress bar, each byte once even when a transfer starts again.
struct Counter<'a> {
    progress: &'a dyn PrepareProgress,
    counted: u64,
}

impl Counter<'_> {
    fn reached(&mut self, position: u64) {
        if position > self.counted {
            self.progress.advance(position - self.counted);
            self.counted = position;
        }
    }
}

/// Downloads one file into the cache and returns its path there.
pub(super) fn fetch_file(
    client: &Client,
    cache: &RepoCache,
    commit: &str,
    file: &RemoteFile,
    retry: &RetryPolicy,
    progress: &dyn PrepareProgress,
) -> Result<PathBuf, HubError> {
    let mut counter = Counter { progress, counted: file.received(cache) };
    let blob = cache.blob(&file.etag);
    create_dir_all(parent_of(&blob))?;
    let lock = cache.lock(&file.etag, progress)?;
    // Another program may have completed it meanwhile, or another revision has the same bytes.
    let is_there = fs::metadata(&blob).is_ok_and(|blob| blob.len() == file.size);
    let place = if is_there && cache.is_whole(&blob, Some(&file.etag), progress)? {
        cache.link(&blob, commit, &file.name)?
    } else {
        let part = part_of(&blob);
        Transfer { client, file, part: &part, retry }.run(&mut counter)?;
        let place = cache.publish(&part, &file.etag, commit, &file.name)?;
        cache.record_whole(&place, &file.etag);
        place
    };
    counter.reached(file.size);
    drop(lock);
    Ok(place)
}

/// The transfer of one file into its `.part`.
struct Transfer<'a> {
    client: &'a Client,
    file: &'a RemoteFile,
    part: &'a Path,
    retry: &'a RetryPolicy,
}

impl Transfer<'_> {
    /// Fills the `.part` until it is the file that the hub announced.
    fn run(&self, counter: &mut Counter<'_>) -> Result<(), HubError> {
        let mut backoff = Backoff::new(self.retry, counter.progress);
        // Bytes of an earlier run may be damaged: the download is repeated once from zero.
        let mut may_start_again = true;
        loop {
            let mut have = self.received();
            if have > self.file.size {
                self.discard()?;
                have = 0;
            }
            counter.reached(have);
            if have == self.file.size {
                match self.check() {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        self.discard()?;
                        if !std::mem::take(&mut may_start_again) {
                            return Err(error);
                        }
                        counter.progress.notice(&format!("{error}; downloading it again"));
                        continue;
                    }
                }
            }
            if let Err(error) = self.append(have, counter) {
                if self.received().saturating_sub(have) >= PROGRESS_BYTES {
                    backoff.reset();
                }
                backoff.retry_after(error)?;
            }
        }
    }

    /// Requests the bytes from `have` on and appends them.
    fn append(&self, have: u64, counter: &mut Counter<'_>) -> Result<(), HubError> {
        let range = (have > 0).then(|| format!("bytes={have}-"));
        let mut reply = match self.client.get(&self.file.address, range.as_deref()) {
            Err(HubError::Status { status: 416, .. }) if have > 0 => {
                self.discard()?;
                return Err(self.broken("the host refused to continue (416)"));
            }
            reply => reply?,
        };
        let start = self.check_reply(&reply, have)?;
        let mut part = self.open_at(start)?;
        let received = self.copy(&mut reply, &mut part, start, counter);
        part.flush().map_err(|source| HubError::io("write", self.part, source))?;
        received
    }

    /// Checks a response's headers before writing any of it; returns the position of its body.
    fn check_reply(&self, reply: &Reply, have: u64) -> Result<u64, HubError> {
        let size = self.file.size;
        let start = match (reply.status, content_range(reply)) {
            (206, Some(range)) if range.start == have && range.total.is_none_or(|t| t == size) => {
                have
            }
            (206, _) => {
                self.discard()?;
                return Err(self.broken("the host sent another range than requested"));
            }
            // The range was ignored: the body is the whole file.
            _ => 0,
        };
        let kind = text(&reply.headers, "content-type").unwrap_or_default();
        if kind.starts_with("text/html") {
            return Err(self.wrong(reply, "a web page".to_owned()));
        }
        match length(&reply.headers) {
            Some(length) if length != size - start => {
                Err(self.wrong(reply, format!("{length} bytes instead of {}", size - start)))
            }
            _ => Ok(start),
        }
    }

    /// Copies the body to the part, never past the announced size.
    fn copy(
        &self,
        reply: &mut Reply,
        part: &mut File,
        start: u64,
        counter: &mut Counter<'_>,
    ) -> Result<(), HubError> {
        let size = self.file.size;
        let mut at = start;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut stall = StallWatch::new(self.retry);
        let mut body = reply.body.as_reader();
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) if at == size => return Ok(()),
                Ok(0) => return Err(self.broken("the host closed the connection")),
                Ok(n) => n,
                Err(error) => return Err(self.broken(&error.to_string())),
            };
            let chunk = buffer.get(..n).unwrap_or_default();
            let is_start = at == 0 && self.file.is_parquet();
            if is_start && !chunk.starts_with(PARQUET_MAGIC.get(..n.min(4)).unwrap_or_default()) {
                drop(body);
                return Err(self.wrong(reply, format!("{:?}", preview(chunk))));
            }
            if at + n as u64 > size {
                drop(body);
                self.discard()?;
                return Err(self.wrong(reply, format!("more than {size} bytes")));
            }
            part.write_all(chunk).map_err(|source| HubError::io("write", self.part, source))?;
            at += n as u64;
            counter.reached(at);
            if counter.progress.is_stopped() {
                return Err(HubError::Stopped);
            }
            if stall.is_stalled(n as u64) {
                return Err(self.broken("it has become slower than 1 KiB/s"));
            }
        }
    }

    /// Compares the whole part with what the hub announced.
    fn check(&self) -> Result<(), HubError> {
        let io = |source| HubError::io("read", self.part, source);
        let mut part = File::open(self.part).map_err(io)?;
        if self.file.is_parquet() && !self.is_framed(&mut part).map_err(io)? {
            let got = "a file that does not begin and end with PAR1";
            return Err(HubError::answer(&self.file.address, got, "a parquet file", ALTERED));
        }
        let expected = &self.file.etag;
        let Some(hash) = BlobHash::of_name(expected) else { return Ok(()) };
        let got = hash.compute(&mut part, self.file.size, &|| false).map_err(io)?;
        let got = got.unwrap_or_default();
        if got.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        let title = hash.title();
        let (got, expected) = (format!("bytes with {title} {got}"), format!("{title} {expected}"));
        Err(HubError::answer(&self.file.address, got, expected, ALTERED))
    }

    /// Whether the part begins and ends as a parquet file does.
    fn is_framed(&self, part: &mut File) -> std::io::Result<bool> {
        let (mut first, mut last) = ([0; 4], [0; 4]);
        if self.file.size >= 12 {
            part.read_exact(&mut first)?;
            part.seek(SeekFrom::End(-4))?;
            part.read_exact(&mut last)?;
            part.rewind()?;
        }
        Ok(&first == PARQUET_MAGIC && &last == PARQUET_MAGIC)
    }

    /// How many bytes have been received.
    fn received(&self) -> u64 {
        length_of_own(self.part)
    }

    /// Opens the part for writing at `start`, dropping what lies behind.
    fn open_at(&self, start: u64) -> Result<File, HubError> {
        let io = |source| HubError::io("write", self.part, source);
        if start == 0 {
            // If it is a link, its target must not be written.
            self.discard()?;
        }
        let mut options = File::options();
        let mut part =
            options.create(true).truncate(false).write(true).open(self.part).map_err(io)?;
        part.set_len(start).map_err(io)?;
        part.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(part)
    }

    /// Removes the part, so that the next attempt starts from zero.
    fn discard(&self) -> Result<(), HubError> {
        match fs::remove_file(self.part) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(HubError::io("remove", self.part, source))
            }
            _ => Ok(()),
        }
    }

    fn broken(&self, reason: &str) -> HubError {
        HubError::Broken {
            url: self.file.address.shown(),
            reason: reason.to_owned(),
            received: self.received(),
            expected: self.file.size,
        }
    }

    fn wrong(&self, reply: &Reply, got: String) -> HubError {
        let expected = format!("the file {} of {} bytes", self.file.name, self.file.size);
        HubError::answer(&reply.address, got, expected, ALTERED)
    }
}

/// Detects a transfer that has become too slow.
struct StallWatch {
    window_seconds: f64,
    since: Instant,
    bytes: u64,
}

impl StallWatch {
    fn new(retry: &RetryPolicy) -> Self {
        let window_seconds = retry.stall_timeout.as_secs_f64();
        Self { window_seconds, since: Instant::now(), bytes: 0 }
    }

    /// Counts `bytes` and says whether the window that just ended was too slow.
    fn is_stalled(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        let seconds = self.since.elapsed().as_secs_f64();
        if seconds < self.window_seconds {
            return false;
        }
        let stalled = (self.bytes as f64) < seconds * SLOWEST_BYTES_PER_SECOND;
        (self.since, self.bytes) = (Instant::now(), 0);
        stalled
    }
}

/// The first bytes of an unexpected body, without control characters.
fn preview(body: &[u8]) -> String {
    let head = body.get(..body.len().min(40)).unwrap_or_default();
    String::from_utf8_lossy(head).chars().filter(|c| !c.is_control()).collect()
}
