//! `prepare --keep-downloads false` that is killed, or refused by the disk, at any moment: the same
//! command continues, and the result is the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::tempdir;
use crate::fake_hub::{FakeHub, parquet_file};
use crate::program::{command, run_command};
use crate::report::{Random, conclude, is_full, skip, times};
use crate::trace::{Call, calls, under_strace, why_not};

/// A hub with four files of documents and no validation split.
fn hub() -> FakeHub {
    let file = |n: usize| {
        let documents =
            (0..60).map(|i| format!("Page {i} of file {n} is about {}.", (n * 7 + i) % 23));
        let documents: Vec<String> = documents.collect();
        parquet_file(&documents.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let names: Vec<String> = (0..4).map(|n| format!("sample/10BT/{n:03}_00000.parquet")).collect();
    let files: Vec<_> = names.iter().enumerate().map(|(n, name)| (&**name, file(n))).collect();
    FakeHub::start("o/n", &files)
}

fn prepare(dir: &Path, hub: &FakeHub) -> Command {
    let mut prepare = command("prepare", dir);
    prepare.env("HF_ENDPOINT", hub.url());
    prepare.args(["--source", "hub:o/n/sample/10BT", "--dataset-name", "pages"]);
    prepare.args(["--encoding-type", "bpe", "--vocab-size", "300", "--val-split", "random"]);
    prepare.args(["--val-fraction", "0.2", "--keep-downloads", "false"]);
    prepare
}

/// The files of the finished preparation in `dir`, but for the times in `meta.json`.
fn result(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir.join("data/pages/bpe")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name != "meta.json" {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

/// Runs the command again, without a fault, and compares its result with `expected`.
fn check(dir: &Path, hub: &FakeHub, expected: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let ran = run_command(&mut prepare(dir, hub));
    if ran.code != 0 {
        return Err(format!("code {}: {}", ran.code, ran.stderr));
    }
    if result(dir) != *expected {
        return Err(format!("another result: {}", ran.stderr));
    }
    let names = fs::read_dir(dir.join("data/pages")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    match names.iter().find(|name| name.to_string_lossy().starts_with(".bpe")) {
        Some(name) => Err(format!("{} is left", name.display())),
        None => Ok(()),
    }
}

/// The result without a fault, and the calls that change files on the way there.
fn undisturbed(hub: &FakeHub) -> (BTreeMap<String, Vec<u8>>, Vec<Call>) {
    let dir = tempdir();
    let log = dir.path().join("strace");
    run_command(&mut under_strace(&prepare(dir.path(), hub), &log, &[])).ok();
    let calls = calls(&log).into_iter().filter(Call::changes);
    (result(dir.path()), calls.filter(|call| call.args.contains("data/pages")).collect())
}

/// Some of the calls in the quick set, spread over the run; all of them in the full one.
fn chosen(purpose: &str, points: Vec<Call>, quick: usize) -> Vec<Call> {
    if is_full() {
        return points;
    }
    let mut random = Random::of(purpose, 0);
    let n = quick.min(points.len());
    let part = |i: usize| i * points.len() / n;
    (0..n).map(|i| points[part(i) + random.below(part(i + 1) - part(i))].clone()).collect()
}

/// Runs once for each call with a fault there, and checks that the next run continues.
fn strike_all(what: &str, fault: &str, quick: usize, is_struck: impl Fn(&Call) -> bool) {
    if let Some(why) = why_not() {
        return skip(what, why);
    }
    let hub = hub();
    let (expected, points) = undisturbed(&hub);
    let points: Vec<Call> = points.into_iter().filter(is_struck).collect();
    let points = chosen(what, points, quick);
    let mut failures = Vec::new();
    for call in &points {
        let dir = tempdir();
        let log = dir.path().join("strace");
        let fault = format!("{}:{fault}:when={}", call.name, call.nth);
        let faults = std::slice::from_ref(&fault);
        let output = under_strace(&prepare(dir.path(), &hub), &log, faults).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let outcome = match output.status.code() {
            Some(code) if ![0, 4].contains(&code) => Err(format!("code {code}")),
            _ => check(dir.path(), &hub, &expected),
        };
        let add =
            |what: String| failures.push(format!("{fault} ({}): {what}\n{stderr}", call.args));
        _ = outcome.map_err(add);
    }
    conclude(what, points.len(), &failures);
}

#[test]
fn a_preparation_file_by_file_that_is_killed_anywhere_continues() {
    let what = "kill -9 at each system call of `prepare --keep-downloads false`";
    strike_all(what, "signal=SIGKILL", 12, |_| true);
}

#[test]
fn a_preparation_file_by_file_on_a_disk_that_refuses_continues() {
    let what = "ENOSPC at each write, sync and rename of `prepare --keep-downloads false`";
    let refusing = ["write", "fsync", "fdatasync", "rename", "renameat", "renameat2"];
    strike_all(what, "error=ENOSPC", 8, |call| refusing.contains(&&*call.name));
}

#[test]
fn a_limit_on_the_size_of_files_stops_a_preparation_file_by_file_that_continues_later() {
    let hub = hub();
    let dir = tempdir();
    run_command(&mut prepare(dir.path(), &hub)).ok();
    let expected = result(dir.path());
    let n = times(4, 24);
    let (mut n_refused, mut failures) = (0, Vec::new());
    for number in 0..n {
        let dir = tempdir();
        // Blocks of 512 bytes: from less than any file to as much as the largest.
        let blocks = 1 + number * 40 / n;
        let command = prepare(dir.path(), &hub);
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
        limited.arg(command.get_program()).args(command.get_args());
        limited.current_dir(dir.path()).envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
        let ran = run_command(&mut limited);
        n_refused += usize::from(ran.code == 4);
        let outcome = match ran.code {
            0 | 4 => check(dir.path(), &hub, &expected),
            code => Err(format!("code {code}: {}", ran.stderr)),
        };
        failures.extend(outcome.err().map(|what| format!("{blocks} blocks: {what}")));
    }
    assert!(n_refused > 0, "no limit was too tight");
    conclude("a limit on the size of files of `prepare --keep-downloads false`", n, &failures);
}
