//! Limits of the system while `train` runs: file sizes, full disks, closed pipes.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::program::{Ran, SMALL, command, run, run_command, trained};

/// `train` under `ulimit -f`, in kilobytes.
fn run_limited(dir: &Path, kilobytes: u32, args: &str) -> Ran {
    let train = command("train", dir);
    let mut shell = Command::new("bash");
    let script = format!("ulimit -f {kilobytes} && exec \"$0\" \"$@\"");
    shell.args(["-c", &script]).arg(train.get_program()).args(args.split_whitespace());
    for (key, value) in train.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    run_command(shell.current_dir(dir))
}

#[test]
fn a_limit_on_file_sizes_is_a_save_that_failed() {
    let dir = trained();
    let args = format!("{SMALL} --init-from resume --max-iters 60");
    let ran = run_limited(dir.path(), 60, &args);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    for word in
        ["SAVE FAILED, 1 of at most 3", "File too large", "step 50", "step-00000020", "ulimit -f"]
    {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    let names = fs::read_dir(dir.path().join("out/checkpoints")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name.to_str().unwrap().starts_with("step-")), "{names:?}");
    run("train", dir.path(), &args).ok();
}

#[test]
fn metrics_that_cannot_be_written_stop_no_run_and_leave_whole_lines() {
    let dir = trained();
    let args = "--dataset-name text --out-dir new --n-layer 1 --n-head 1 --n-embd 8 --block-size 8 \
        --batch-size 1 --max-iters 500 --eval-interval 250 --eval-iters 1 --threads 1 \
        --sample-at-eval false --log-interval 250";
    let ran = run_limited(dir.path(), 40, args).ok();
    assert!(ran.stderr.contains("METRICS NOT WRITTEN"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("SAVE FAILED"), "{}", ran.stderr);
    let text = fs::read_to_string(dir.path().join("new/metrics.jsonl")).unwrap();
    assert!(text.ends_with('\n') && text.lines().count() > 50, "{}", text.len());
    for line in text.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    run("train", dir.path(), &format!("{args} --init-from resume --max-iters 510")).ok();
}

#[test]
fn a_reader_that_leaves_does_not_stop_a_run() {
    let dir = trained();
    let mut train = command("train", dir.path());
    train.args(format!("{SMALL} --overwrite").split_whitespace());
    let mut child = train.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    // As `train 2>&1 | head -1` does.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let metrics = fs::read_to_string(dir.path().join("out/metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"iter\":19"), "{metrics}");
}

#[test]
fn skipped_batches_are_reported_until_they_are_too_many() {
    let dir = trained();
    let wild = "--overwrite --learning-rate 1e3 --min-lr 1e3 --grad-clip 0 --eval-interval 1000";
    let args = format!("{SMALL} {wild}");
    let ran = run("train", dir.path(), &format!("{args} --on-non-finite skip"));
    assert_eq!(ran.code, 6, "{}", ran.stderr);
    assert!(ran.stderr.contains("10 in a row, 10 in total"), "{}", ran.stderr);
    assert!(ran.stderr.contains("SKIPPED: "), "{}", ran.stderr);
    let ran = run("train", dir.path(), &args);
    assert_eq!(ran.code, 6, "{}", ran.stderr);
    assert!(ran.stderr.contains("--on-non-finite skip"), "{}", ran.stderr);
}

#[test]
fn what_cannot_fit_into_memory_is_refused_with_the_number() {
    let dir = trained();
    let train = command("train", dir.path());
    let mut shell = Command::new("bash");
    shell.args(["-c", "ulimit -v 4000000 && exec \"$0\" \"$@\""]).arg(train.get_program());
    let args = format!("{SMALL} --overwrite --n-embd 1024 --n-layer 12 --batch-size 256");
    let ran = run_command(shell.args(args.split_whitespace()).current_dir(dir.path()));
    if cfg!(target_os = "linux") {
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        for word in ["`ulimit -v` allows 3.81 GiB", "training needs about", "`batch_size` to "] {
            assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
    }
    assert!(dir.path().join("out/last/model.safetensors").exists(), "nothing is touched");
}

#[test]
fn verify_resume_proves_it_and_leaves_nothing() {
    let dir = trained();
    let temporary = dir.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let mut train = command("train", dir.path());
    train.args(SMALL.split_whitespace()).args(["--overwrite", "--verify-resume"]);
    let before = crate::program::snapshot(&dir.path().join("out"));
    let ran = run_command(train.env("TMPDIR", &temporary)).ok();
    for word in
        ["weights   equal", "moments   equal", "counters  equal   step 20", "metrics   equal"]
    {
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
    }
    assert!(ran.stdout.ends_with("bit for bit\n"), "{}", ran.stdout);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    assert!(crate::program::snapshot(&dir.path().join("out")) == before, "out_dir is untouched");
    let ran = run("train", dir.path(), &format!("{SMALL} --verify-resume 0"));
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}
