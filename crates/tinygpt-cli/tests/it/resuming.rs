//! `--init-from resume` and `auto`: the settings come from the checkpoint.

use std::fs;
use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::program::{Ran, SMALL, run, run_command, trained};

fn metrics(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("out/metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs the command that a run has printed to resume it.
fn run_printed(dir: &Path, ran: &Ran) -> Ran {
    let line = ran.stderr.lines().find(|line| line.starts_with("to resume: ")).unwrap();
    let (_, args) = line.split_once(" --bin train -- ").unwrap();
    run("train", dir, args)
}

#[test]
fn a_checkpoint_needs_no_flags_but_its_directory() {
    let dir = trained();
    let path = dir.path();
    let ran = run("train", path, "--init-from resume --out-dir out --max-iters 30").ok();
    let says = "note: resuming with changed settings: max_iters 20 → 30\n";
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
    assert!(ran.stderr.contains("the learning rate stays at min_lr"), "{}", ran.stderr);
    let lines = metrics(path);
    let resumed: Vec<_> = lines.iter().filter(|line| line["event"] == "resume").collect();
    assert_eq!(resumed.len(), 1, "{resumed:?}");
    assert_eq!(resumed[0]["iter"], 20);
    assert_eq!(resumed[0]["changed"], serde_json::json!({"max_iters": [20, 30]}));
    assert_eq!(lines.iter().filter(|line| line["event"] == "step").count(), 30);
    let again = run("train", path, "--init-from auto --out-dir out").ok();
    assert!(again.stderr.contains("has already finished its 30 steps"), "{}", again.stderr);
}

#[test]
fn the_printed_command_resumes_the_very_run() {
    let straight = trained();
    let dir = trained();
    let args = format!("{SMALL} --overwrite --max-seconds 0.001");
    let ran = run("train", dir.path(), &args).ok();
    assert!(ran.stderr.contains("--max-seconds reached after 0 of 20"), "{}", ran.stderr);
    let resumed = run("train", dir.path(), "--init-from resume --out-dir out").ok();
    assert!(!resumed.stderr.contains("settings"), "{}", resumed.stderr);
    let weights = |dir: &Path| fs::read(dir.join("out/last/model.safetensors")).unwrap();
    assert!(weights(dir.path()) == weights(straight.path()), "bit for bit");
    // What belongs to a call and matters to the next is in the command.
    let ran = run_printed(dir.path(), &ran).ok();
    assert!(ran.stderr.contains("already"), "{}", ran.stderr);
}

#[test]
fn settings_of_the_program_come_back_from_the_checkpoint_too() {
    let dir = trained();
    let ran = run("train", dir.path(), "--init-from resume --out-dir out --show-config").ok();
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    for (key, value) in [("log_interval", 5), ("n_layer", 2)] {
        assert_eq!(
            shown[key],
            serde_json::json!({"value": value, "origin": "checkpoint"}),
            "{key}"
        );
    }
    // The numbers of the run do not depend on them: changing one is not reported.
    let args = "--init-from resume --out-dir out --log-interval 7 --max-iters 21";
    let ran = run("train", dir.path(), args).ok();
    assert!(ran.stderr.contains("changed settings: max_iters 20 → 21\n"), "{}", ran.stderr);
}

#[test]
fn curves_that_are_missing_are_drawn_when_a_finished_run_is_resumed() {
    let dir = trained();
    let curves = dir.path().join("out/loss.svg");
    fs::remove_file(&curves).unwrap();
    run("train", dir.path(), "--init-from resume --out-dir out").ok();
    assert!(fs::read_to_string(&curves).unwrap().contains("<svg"));
}

#[test]
fn a_directory_with_spaces_is_quoted() {
    let dir = trained();
    fs::rename(dir.path().join("out"), dir.path().join("my run")).unwrap();
    let mut train = crate::program::command("train", dir.path());
    let ran = run_command(train.args(["--init-from", "resume", "--out-dir", "my run"])).ok();
    let word = if cfg!(windows) { "\"my run\"" } else { "'my run'" };
    assert!(ran.stderr.contains(&format!("--out-dir {word} --serve")), "{}", ran.stderr);
}

#[test]
fn show_config_shows_what_a_resumed_run_would_use() {
    let dir = trained();
    fs::write(dir.path().join("c.json"), "{\"eval_iters\": 3, \"max_iters\": 40}").unwrap();
    let args = "--init-from resume --out-dir out --config-file c.json --max-iters 50 --show-config";
    let ran = run("train", dir.path(), args).ok();
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    for (key, value, origin) in [
        ("n_layer", Value::from(2), "checkpoint"),
        ("dropout", Value::from(0.1), "checkpoint"),
        ("lr_decay_iters", Value::from(20), "checkpoint"),
        ("warmup_iters", Value::from(5), "checkpoint"),
        ("encoding_type", Value::from("simple"), "checkpoint"),
        ("eval_iters", Value::from(3), "file"),
        ("max_iters", Value::from(50), "flag"),
        ("out_dir", Value::from("out"), "flag"),
        ("init_from", Value::from("resume"), "flag"),
        ("overwrite", Value::from(false), "default"),
    ] {
        assert_eq!(
            (&shown[key]["value"], &shown[key]["origin"]),
            (&value, &origin.into()),
            "{key}"
        );
    }
    // Nothing to resume, and nothing that shall be.
    for args in ["--out-dir new --init-from auto", "--out-dir out --init-from auto --overwrite"] {
        let ran = run("train", dir.path(), &format!("{args} --show-config")).ok();
        let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(shown["n_layer"]["origin"], "default", "{args}");
    }
}

#[test]
fn another_preparation_since_does_not_matter_and_another_dataset_is_named() {
    let dir = trained();
    let path = dir.path();
    run("prepare", path, "--source text.txt --encoding-type bpe --vocab-size 300").ok();
    run("train", path, "--init-from resume --out-dir out --max-iters 22").ok();
    fs::write(path.join("other.txt"), "some other text, again and again. ".repeat(99)).unwrap();
    run("prepare", path, "--source other.txt").ok();
    for (args, says) in [
        // With what a beginner leaves out, and with all of it.
        ("--init-from resume --out-dir out --dataset-name other", &SAME_DIRECTORY[..]),
        ("--init-from auto --out-dir out --dataset-name other", &SAME_DIRECTORY),
        ("--init-from resume --out-dir out --encoding-type bpe", &OTHER_ENCODING),
    ] {
        let ran = run("train", path, args);
        assert_eq!(ran.code, 2, "{args}: {}", ran.stderr);
        for part in says {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
    }
    let ran = run("train", path, &format!("{SMALL} --dataset-name other"));
    let says = "holds a run on dataset `text`";
    assert!(ran.code == 2 && ran.stderr.contains(says), "{}", ran.stderr);
}

const SAME_DIRECTORY: [&str; 2] = [
    "that run trains on `text`, and this one is to train on `other`",
    "hint: choose another --out-dir for a run on `other`",
];
const OTHER_ENCODING: [&str; 2] = [
    "its tokenizer is simple, and `text` is prepared as bpe",
    "hint: choose the other preparation with --encoding-type simple",
];

#[test]
fn a_hint_names_no_other_run() {
    let dir = trained();
    for (args, says) in [
        ("--init-from resume --out-dir nowhere", "nowhere holds no checkpoint"),
        (
            "--init-from resume --out-dir out/best",
            "hint: out/best is a checkpoint: name the run, --out-dir out",
        ),
    ] {
        let ran = run("train", dir.path(), args);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
        assert!(!ran.stderr.contains("tiny_stories"), "{}", ran.stderr);
        assert!(!dir.path().join("nowhere").exists());
    }
}

/// A supervisor starts the next run when the last one is killed, and its lock is still held for a
/// moment.
#[test]
fn a_lock_that_is_about_to_go_is_waited_for() {
    let dir = trained();
    for (lock, binary, args) in [
        ("out/.lock", "train", "--init-from resume --out-dir out --max-iters 21"),
        ("data/text/.prepare.lock", "prepare", "--source text.txt --force"),
    ] {
        let held = OpenOptions::new().write(true).open(dir.path().join(lock)).unwrap();
        held.lock().unwrap();
        let dying = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(700));
            drop(held);
        });
        let ran = run(binary, dir.path(), args).ok();
        let says = "is in use: waiting up to 3 s";
        assert!(ran.stderr.contains(says), "{binary}: {}", ran.stderr);
        dying.join().unwrap();
    }
}
