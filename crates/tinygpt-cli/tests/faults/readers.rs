//! `sample` while `train` saves after every step and removes older checkpoints: at random moments, and
//! at each moment when the reader opens a file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tinygpt_train::checkpoint::{Which, locate};

use crate::common::{begun, home, tempdir, train};
use crate::program::{command, copy_tree, run_command};
use crate::report::{conclude, skip, times};
use crate::trace::{Call, calls, under_strace, why_not};

/// A reader of the last checkpoint.
fn sample(out_dir: &Path) -> Command {
    let mut read = command("sample", home());
    read.args(["--checkpoint", "last", "--num-samples", "1", "--max-new-tokens", "1"]);
    read.args(["--threads", "1", "--out-dir"]).arg(out_dir);
    read
}

#[test]
fn a_reader_never_sees_half_a_checkpoint() {
    let dir = tempdir();
    let out_dir = dir.path().join("out");
    let mut train = train(&out_dir);
    train.args(["--max-iters", "1000000000", "--checkpoint-interval", "1"]);
    train.args(["--keep-checkpoints", "1", "--eval-interval", "1000000"]);
    let mut trainer = train.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !out_dir.join("last").exists() {
        assert!(trainer.try_wait().unwrap().is_none(), "the trainer has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (n_looks, n_samples) = (times(100, 2000), times(10, 200));
    let mut failures = Vec::new();
    for look in 0..n_looks {
        let found = locate(&out_dir, &Which::Last);
        failures.extend(found.err().map(|error| format!("look {look}: {error}")));
    }
    for number in 0..n_samples {
        let ran = run_command(&mut sample(&out_dir));
        if ran.code != 0 {
            failures.push(format!("sample {number}: code {}: {}", ran.code, ran.stderr));
        }
    }
    let is_alive = trainer.try_wait().unwrap().is_none();
    trainer.kill().unwrap();
    trainer.wait().unwrap();
    assert!(is_alive, "the trainer has ended");
    conclude("readers next to a trainer that saves every step", n_looks + n_samples, &failures);
}

/// The checkpoint that a reader opens first, and the one that takes its place.
const OLD: &str = "checkpoints/step-00000002";
const NEW: &str = "checkpoints/step-00000004";

fn point_last_at(out_dir: &Path, target: &str) {
    let _ = fs::remove_file(out_dir.join("last"));
    symlink(target, out_dir.join("last")).unwrap();
}

/// The reader's calls that open a file of the old checkpoint.
fn opens(log: &Path) -> Vec<Call> {
    let is_wanted = |call: &Call| call.name == "openat" && call.args.contains(OLD);
    calls(log).into_iter().filter(is_wanted).collect()
}

/// Stops a reader when it makes `call`, does what a trainer does that saves, and lets it continue.
fn removed_at(begun: &Path, call: &Call) -> Result<(), String> {
    let dir = tempdir();
    copy_tree(begun, dir.path());
    let (out_dir, log) = (dir.path().join("out"), dir.path().join("strace"));
    point_last_at(&out_dir, OLD);
    let stop = format!("openat:signal=SIGSTOP:when={}", call.nth);
    let mut reader = under_strace(&sample(&out_dir), &log, &[stop]);
    let mut reader = reader.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let is_made =
        || log.exists() && calls(&log).iter().any(|c| c.name == call.name && c.nth == call.nth);
    while !is_made() {
        if reader.try_wait().unwrap().is_some() {
            return Err("the reader ended before it was stopped".to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    point_last_at(&out_dir, NEW);
    fs::remove_dir_all(out_dir.join(OLD)).unwrap();
    let text = fs::read_to_string(&log).unwrap();
    let pid = text.split_whitespace().next().unwrap();
    while reader.try_wait().unwrap().is_none() {
        // It has ended if it ended meanwhile.
        let _ = Command::new("kill").args(["-s", "CONT", pid]).stderr(Stdio::null()).status();
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = reader.wait_with_output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    let printed = String::from_utf8_lossy(&output.stderr);
    Err(format!("removed at openat({}): {:?}: {printed}", call.args, output.status.code()))
}

#[test]
fn a_reader_takes_what_has_the_place_of_a_checkpoint_that_goes() {
    const WHAT: &str = "a checkpoint that is removed when a reader opens one of its files";
    if let Some(why) = why_not() {
        return skip(WHAT, why);
    }
    let (begun, elsewhere) = (begun(4), tempdir());
    let log = elsewhere.path().join("strace");
    point_last_at(&begun.path().join("out"), OLD);
    run_command(&mut under_strace(&sample(&begun.path().join("out")), &log, &[])).ok();
    let opens = opens(&log);
    let failures: Vec<String> =
        opens.iter().filter_map(|call| removed_at(begun.path(), call).err()).collect();
    conclude(WHAT, opens.len(), &failures);
}
