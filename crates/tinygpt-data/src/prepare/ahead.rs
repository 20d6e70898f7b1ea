//! The files of a dataset in order, each of them on this disk, and at most the next one with it.
//!
//! While a file is encoded, a thread downloads the one after it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Builder, Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::error::DataError;
use crate::hub::{FileStore, HubError, HubFile};
use crate::progress::{PrepareProgress, Stage};

/// How often the progress of a download is looked at.
const EVERY: Duration = Duration::from_millis(20);

/// The progress of a download in a thread of its own, which no stage shows yet.
pub(super) struct Unshown<'a> {
    progress: &'a dyn PrepareProgress,
    n_bytes: AtomicU64,
    is_over: AtomicBool,
}

impl<'a> Unshown<'a> {
    /// Nothing is downloaded yet.
    pub(super) fn new(progress: &'a dyn PrepareProgress) -> Self {
        Self { progress, n_bytes: AtomicU64::new(0), is_over: AtomicBool::new(false) }
    }
}

impl PrepareProgress for Unshown<'_> {
    fn begin(&self, _stage: Stage, _total_bytes: Option<u64>) {}

    fn advance(&self, bytes: u64) {
        self.n_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn finish(&self) {}

    fn notice(&self, message: &str) {
        self.progress.notice(message);
    }

    fn is_stopped(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.progress.is_stopped()
    }
}

/// Downloads files one ahead.
pub(super) struct Ahead<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    store: &'env FileStore,
    unshown: &'env Unshown<'env>,
    /// The next file, while it is downloaded.
    next: Option<ScopedJoinHandle<'scope, Result<PathBuf, HubError>>>,
}

impl<'scope, 'env> Ahead<'scope, 'env> {
    /// Nothing is downloaded yet.
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        store: &'env FileStore,
        unshown: &'env Unshown<'env>,
    ) -> Self {
        Self { scope, store, unshown, next: None }
    }

    /// Starts to download the next file.
    pub(super) fn start(&mut self, file: &'env HubFile) -> Result<(), DataError> {
        let (store, unshown) = (self.store, self.unshown);
        unshown.n_bytes.store(0, Ordering::Relaxed);
        let download = move || store.get(file, unshown);
        let download = Builder::new().spawn_scoped(self.scope, download);
        self.next = Some(download.map_err(DataError::Thread)?);
        Ok(())
    }

    /// Waits for the file that was started last, which is `file`; shows how much of it is there.
    pub(super) fn wait(&mut self, file: &HubFile) -> Result<PathBuf, DataError> {
        let Some(next) = self.next.take() else {
            return Ok(self.store.get(file, self.unshown)?);
        };
        let n_missing = self.store.n_missing(file);
        if !next.is_finished() && n_missing > 0 {
            self.show(&next, n_missing);
        }
        match next.join() {
            Ok(path) => Ok(path?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Shows a download until it has ended.
    fn show<T>(&self, download: &ScopedJoinHandle<'_, T>, n_missing: u64) {
        let n_bytes = || self.unshown.n_bytes.load(Ordering::Relaxed);
        let progress = self.unshown.progress;
        progress.begin(Stage::Download, Some(n_missing));
        let mut n_shown = n_bytes();
        loop {
            let is_finished = download.is_finished();
            let n_now = n_bytes();
            progress.advance(n_now - n_shown);
            n_shown = n_now;
            if is_finished {
                break;
            }
            thread::sleep(EVERY);
        }
        progress.finish();
    }
}

impl Drop for Ahead<'_, '_> {
    fn drop(&mut self) {
        // After an error nobody waits for the next file.
        self.unshown.is_over.store(true, Ordering::Relaxed);
    }
}
