//! Preparations file by file with small shards and a small sample, stopped at each file.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Limits, PrepareRequest, PrepareSummary, prepare_within};
use crate::encoding::Encoding;
use crate::error::DataError;
use crate::fake_hub::{FakeHub, parquet_file};
use crate::hub::HubOptions;
use crate::prepared::{Meta, Prepared, ValSplit};
use crate::progress::{NoProgress, PrepareProgress, Stage};

const LIMITS: Limits = Limits { sample_bytes: 1000, shard_tokens: 150 };

/// Stops when a certain file is next.
struct StopAt {
    notice: String,
    is_stopped: AtomicBool,
}

impl StopAt {
    fn file(number: usize) -> Self {
        Self { notice: format!("file {number} of "), is_stopped: AtomicBool::new(false) }
    }
}

impl PrepareProgress for StopAt {
    fn begin(&self, _stage: Stage, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
    fn notice(&self, message: &str) {
        self.is_stopped.fetch_or(message.starts_with(&self.notice), Ordering::SeqCst);
    }
    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }
}

/// Three files of 40 documents to train on and, if asked for, one to validate on.
fn hub(has_validation: bool) -> FakeHub {
    let file = |n: usize| {
        let walk =
            |i: usize| format!("Walk {i} of file {n} leads past hill {}.", (n * 31 + i) % 17);
        let documents: Vec<String> = (0..40).map(walk).collect();
        parquet_file(&documents.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut files = vec![
        ("a/train-0.parquet", file(0)),
        ("a/train-1.parquet", file(1)),
        ("a/train-2.parquet", file(2)),
    ];
    if has_validation {
        files.push(("a/validation-0.parquet", file(3)));
    }
    FakeHub::start("o/n", &files)
}

fn request(hub: &FakeHub, dir: &Path, name: &str) -> PrepareRequest {
    let mut options = HubOptions::new(dir.join("hub"));
    options.endpoint = hub.url();
    PrepareRequest {
        dataset_name: name.to_owned(),
        data_dir: dir.to_path_buf(),
        source: Some("hub:o/n".into()),
        encoding_type: Some(Encoding::Bpe),
        vocab_size: 300,
        val_split: Some(ValSplit::Random),
        val_fraction: Some(0.2),
        hub: options,
        keep_downloads: false,
        ..PrepareRequest::default()
    }
}

/// All files of a preparation but `meta.json`, and what that says but for name and times.
fn result(summary: &PrepareSummary) -> (BTreeMap<String, Vec<u8>>, Meta) {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&summary.dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        files.insert(name, fs::read(entry.path()).unwrap());
    }
    files.remove("meta.json").unwrap();
    let (dataset, made_at) = (String::new(), String::new());
    (files, Meta { dataset, made_at, seconds: 0.0, ..summary.meta.clone() })
}

#[test]
fn a_run_that_is_stopped_before_any_file_continues_there() {
    for has_validation in [true, false] {
        let (hub, dir) = (hub(has_validation), tempfile::tempdir().unwrap());
        let n_files = if has_validation { 4 } else { 3 };
        let whole =
            prepare_within(&request(&hub, dir.path(), "whole"), &LIMITS, &NoProgress).unwrap();
        assert!(whole.meta.train.shards.len() > 4, "{:?}", whole.meta.train.shards);
        for number in 1..=n_files {
            let request = request(&hub, dir.path(), &format!("stopped-{number}"));
            let stopped = prepare_within(&request, &LIMITS, &StopAt::file(number)).unwrap_err();
            let expected = DataError::StoppedBetweenFiles { n_done: number - 1, n_files };
            assert_eq!(stopped.to_string(), expected.to_string());
            let continued = prepare_within(&request, &LIMITS, &NoProgress).unwrap();
            assert!(result(&continued) == result(&whole), "{number}");
            Prepared::open(&request.data_dir, &request.dataset_name, None).unwrap();
        }
    }
}

#[test]
fn the_sample_comes_from_the_first_files_and_is_the_same_at_once() {
    let (hub, dir) = (hub(true), tempfile::tempdir().unwrap());
    let by_file = request(&hub, dir.path(), "by_file");
    let by_file = prepare_within(&by_file, &LIMITS, &NoProgress).unwrap();
    // Two files for the sample, of which the first stays; then the other three.
    assert_eq!(hub.transfers().len(), 2 + 3);
    let sample = by_file.meta.bpe_sample.clone().unwrap();
    assert!((1000..1050).contains(&sample.n_bytes), "{sample:?}");
    let at_once = PrepareRequest { keep_downloads: true, ..request(&hub, dir.path(), "at_once") };
    let at_once = prepare_within(&at_once, &LIMITS, &NoProgress).unwrap();
    assert!(result(&by_file) == result(&at_once));
    let limits = Limits { sample_bytes: 1 << 20, ..LIMITS };
    let all = request(&hub, dir.path(), "all");
    assert_eq!(prepare_within(&all, &limits, &NoProgress).unwrap().meta.bpe_sample, None);
}
