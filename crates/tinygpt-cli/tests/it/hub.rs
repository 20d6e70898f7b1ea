//! `prepare` and the hub: without network, and offline.

use std::fs;

use crate::program::{command, run_command};

#[test]
fn no_network_names_the_host_and_the_way_on() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run_command(command("prepare", dir.path()).args(["--encoding-type", "bpe"]));
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    for part in ["127.0.0.1:9", "--dataset-name tiny_tales", "HF_ENDPOINT"] {
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
    assert!(fs::read_dir(dir.path()).unwrap().count() <= 1, "at most an empty data directory");
}
