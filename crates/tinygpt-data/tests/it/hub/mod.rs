//! The download against a hub that misbehaves in every way we could think of.
//!
//! The rule behind most tests: whatever the network does, a file under its final name is the file
//! that the hub announced, nothing is written outside the cache, and the error says which address
//! failed and what to do.

mod access;
mod by_file;
mod cache;
mod faults;
mod given;
mod transfer;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tinygpt_data::hub::{self, HubError, HubFiles, HubOptions, HubRequest, RetryPolicy, Token};
use tinygpt_data::{PrepareProgress, Stage};

use crate::fake_hub::{COMMIT, FakeHub, parquet_file, sha256};

const REPOSITORY: &str = "someone/Stories";
const TRAIN: &str = "data/train-00000-of-00001-2d5a1467fff1081b.parquet";
const VALIDATION: &str = "data/validation-00000-of-00001.parquet";
const TOKEN: &str = "hf_marker_token";
const EVER: usize = usize::MAX;

/// Counts bytes and keeps notices.
#[derive(Default)]
struct Recorder {
    total: AtomicU64,
    advanced: AtomicU64,
    notices: Mutex<Vec<String>>,
}

impl PrepareProgress for Recorder {
    fn begin(&self, _stage: Stage, total_bytes: Option<u64>) {
        self.total.store(total_bytes.unwrap_or(0), Ordering::SeqCst);
    }
    fn advance(&self, bytes: u64) {
        self.advanced.fetch_add(bytes, Ordering::SeqCst);
    }
    fn finish(&self) {}
    fn notice(&self, message: &str) {
        self.notices.lock().unwrap().push(message.to_owned());
    }
}

/// A hub, an empty cache, and options that pause for milliseconds only.
struct World {
    hub: FakeHub,
    home: tempfile::TempDir,
    options: HubOptions,
    train: Vec<u8>,
    recorder: Recorder,
}

/// A parquet file of about 200 KB that does not pack well.
fn big_parquet() -> Vec<u8> {
    let mut state = 1u64;
    let texts: Vec<String> = (0..8_000)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            format!("{state:016x}")
        })
        .collect();
    parquet_file(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

impl World {
    fn new() -> Self {
        let train = big_parquet();
        let files = [
            ("README.md", b"# Stories".to_vec()),
            (VALIDATION, parquet_file(&["The end."])),
            (TRAIN, train.clone()),
        ];
        Self::with(FakeHub::start(REPOSITORY, &files), train)
    }

    fn with(hub: FakeHub, train: Vec<u8>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut options = HubOptions::new(home.path().join("hub"));
        options.endpoint = hub.url();
        options.token = Token::new(TOKEN);
        options.retry = RetryPolicy {
            retries: 3,
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_secs(5),
            // Longer than a machine with other things to do lets anyone wait.
            answer_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
        };
        Self { hub, home, options, train, recorder: Recorder::default() }
    }

    /// Waits no longer than `timeout` for an answer, nor for a transfer to move.
    fn wait_at_most(&mut self, timeout: Duration) {
        let retry = &self.options.retry;
        self.options.retry =
            RetryPolicy { answer_timeout: timeout, stall_timeout: timeout, ..retry.clone() };
    }

    fn fetch(&self) -> Result<HubFiles, HubError> {
        let request = HubRequest {
            repository: REPOSITORY,
            revision: "main",
            folder: None,
            train: "train",
            validation: &["validation"],
            finds_splits: false,
        };
        hub::fetch(&request, &self.options, &self.recorder)
    }

    /// Fetches and checks that what came is the dataset, byte for byte.
    #[track_caller]
    fn fetch_well(&self) -> HubFiles {
        let files = self.fetch().unwrap();
        assert_eq!(files.commit, COMMIT);
        assert_eq!(files.train.len(), 1);
        assert_eq!(files.validation.len(), 1);
        assert!(fs::read(&files.train[0]).unwrap() == self.train, "the training file differs");
        files
    }

    /// Fetches in vain and checks what holds for every failure.
    #[track_caller]
    fn fetch_badly(&self) -> String {
        let error = self.fetch().unwrap_err();
        let message = format!("{error} {error:?}");
        assert!(!message.contains(TOKEN), "the token is in {message}");
        self.assert_nothing_bad_is_published();
        error.hint().map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"))
    }

    /// Every file under a final name must be one of the hub's.
    #[track_caller]
    fn assert_nothing_bad_is_published(&self) {
        let mut paths = Vec::new();
        walk(self.home.path(), &mut paths);
        for path in paths {
            let path_text = path.to_string_lossy().replace('\\', "/");
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(TOKEN.len()).any(|w| w == TOKEN.as_bytes()), "{path_text}");
            if path_text.contains("/blobs/") && path.extension().is_none() {
                assert!(path.ends_with(sha256(&bytes)), "{path_text} holds other bytes");
            }
            if path_text.contains("/snapshots/") {
                assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{path_text}");
            }
        }
    }

    fn blobs(&self) -> PathBuf {
        self.options.cache_dir.join("datasets--someone--Stories/blobs")
    }

    fn part(&self) -> PathBuf {
        self.blobs().join(format!("{}.part", sha256(&self.train)))
    }

    fn notices(&self) -> String {
        self.recorder.notices.lock().unwrap().join("\n")
    }
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), paths);
        } else {
            paths.push(entry.path());
        }
    }
}
