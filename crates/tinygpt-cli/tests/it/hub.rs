//! `prepare` and the hub: with a local server for its protocol, without network, and offline.

use std::fs;
use std::path::Path;

use crate::fake_hub::{FakeHub, parquet_file};
use crate::program::{Ran, SMALL, command, run, run_command, small_text, trained};

/// A hub with a small repository of the default dataset's name.
fn tiny_stories_hub() -> FakeHub {
    let text = small_text();
    let stories: Vec<&str> = text.lines().collect();
    let (train, validation) = stories.split_at(250);
    let files = [
        ("README.md", b"# Stories".to_vec()),
        ("data/train-00000-of-00001.parquet", parquet_file(train)),
        ("data/validation-00000-of-00001.parquet", parquet_file(validation)),
    ];
    FakeHub::start("roneneldan/TinyStories", &files)
}

fn prepare(dir: &Path, endpoint: &str, args: &str) -> Ran {
    let mut prepare = command("prepare", dir);
    run_command(prepare.env("HF_ENDPOINT", endpoint).args(args.split_whitespace()))
}

#[test]
fn the_default_dataset_comes_from_the_hub_once_for_both_encodings() {
    let dir = tempfile::tempdir().unwrap();
    let hub = tiny_stories_hub();
    let simple = prepare(dir.path(), &hub.url(), "").ok();
    assert!(simple.stdout.contains("250 documents"), "{}", simple.stdout);
    let n_transfers = hub.transfers().len();
    assert_eq!(n_transfers, 2);
    prepare(dir.path(), &hub.url(), "--encoding-type bpe --vocab-size 300").ok();
    assert_eq!(hub.transfers().len(), n_transfers, "no bytes twice");
    drop(hub);
    prepare(dir.path(), "http://127.0.0.1:9", "--force").ok();
    let train = format!("{SMALL} --dataset-name tiny_stories --out-dir out-tiny-stories");
    run("train", dir.path(), &train).ok();
    let story = run("sample", dir.path(), "--num-samples 1").ok();
    assert!(!story.stdout.trim().is_empty());
}

#[test]
fn no_network_names_the_host_and_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run_command(command("prepare", dir.path()).args(["--encoding-type", "bpe"]));
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    for part in ["127.0.0.1:9", "hint: ", "--dataset-name tiny_tales", "HF_ENDPOINT", "HTTPS_PROXY"]
    {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert!(!dir.path().join("data/tiny_stories/bpe").exists());
}

#[test]
fn offline_names_the_variable_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run_command(command("prepare", dir.path()).env("HF_HUB_OFFLINE", "1"));
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert!(ran.stderr.contains("HF_HUB_OFFLINE"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: unset HF_HUB_OFFLINE"), "{}", ran.stderr);
    assert!(fs::read_dir(dir.path()).unwrap().count() <= 1, "at most an empty data directory");
}

#[test]
fn hints_are_those_of_the_program_that_was_run() {
    let dir = trained();
    for (binary, args, has, has_not) in [
        ("prepare", "", "--source PATH", "model"),
        ("prepare", "--source text.txt --tokenizer hub:o/m", "--tokenizer PATH", "tiny_tales"),
        ("sample", "--checkpoint hub:o/m", "--checkpoint DIR", "prepare"),
        (
            "train",
            "--dataset-name text --init-from hub:o/m --out-dir new",
            "--init-from DIR",
            "prepare",
        ),
    ] {
        for offline in ["0", "1"] {
            let mut command = command(binary, dir.path());
            command.env("HF_HUB_OFFLINE", offline).args(args.split_whitespace());
            let ran = run_command(&mut command);
            assert_eq!(ran.code, 5, "{binary} {args}: {}", ran.stderr);
            let hint = ran.stderr.split_once("hint: ").expect("a hint").1;
            assert!(hint.contains(has) && !hint.contains(has_not), "{binary} {args}: {hint}");
            assert!(!ran.stderr.contains("tiny_tales") || binary == "prepare", "{}", ran.stderr);
        }
    }
}
