//! `prepare` killed or stopped at every stage: the next run completes with the same bytes and downloads
//! no complete file again.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::fake_hub::{Ask, FakeHub, Fault, parquet_file};
use crate::program::{Ran, command, run_command, snapshot};

const FLAGS: [&str; 4] = ["--encoding-type", "bpe", "--vocab-size", "600"];

/// Stories of some megabytes, so that there is time to hit every stage.
fn stories(seed: u64, n: usize) -> Vec<String> {
    let mut state = seed;
    let mut word = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ["cat", "dog", "sat", "ran", "mat", "hill", "over", "the", "a"][(state >> 60) as usize % 9]
    };
    let mut story = || (0..120).map(|_| word()).collect::<Vec<_>>().join(" ") + ".";
    (0..n).map(|_| story()).collect()
}

fn hub() -> FakeHub {
    let file = |seed, n| {
        let stories = stories(seed, n);
        parquet_file(&stories.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let files = [
        ("data/train-00000-of-00002.parquet", file(1, 8000)),
        ("data/train-00001-of-00002.parquet", file(2, 8000)),
        ("data/validation-00000-of-00001.parquet", file(3, 4000)),
    ];
    FakeHub::start("roneneldan/TinyStories", &files)
}

fn prepare(dir: &Path, hub: &FakeHub) -> Command {
    let mut prepare = command("prepare", dir);
    prepare.env("HF_ENDPOINT", hub.url()).args(FLAGS);
    prepare
}

/// The shards and the tokenizer of a preparation.
fn prepared(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let dir = dir.join("data/tiny_stories/bpe");
    let files = snapshot(&dir).into_iter().filter(|(path, _)| !path.ends_with("meta.json"));
    files.map(|(path, bytes)| (path.strip_prefix(&dir).unwrap().to_owned(), bytes)).collect()
}

/// Starts `prepare` and gives it back when `moment` has come, or when it has ended before.
fn start_until(dir: &Path, hub: &FakeHub, moment: &dyn Fn(&Path) -> bool) -> Child {
    let mut prepare = prepare(dir, hub);
    let mut child = prepare.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while !moment(dir) && child.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(120), "the moment never comes");
        std::thread::sleep(Duration::from_micros(200));
    }
    child
}

/// The bytes of the files that are being downloaded, and the names of those that are whole.
fn blobs(dir: &Path) -> (u64, usize) {
    let folder = dir.join("hf/hub/datasets--roneneldan--TinyStories/blobs");
    let (mut n_part_bytes, mut n_whole) = (0, 0);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some() {
            n_part_bytes += entry.metadata().map_or(0, |part| part.len());
        } else {
            n_whole += 1;
        }
    }
    (n_part_bytes, n_whole)
}

fn staged(dir: &Path, name: &str) -> bool {
    dir.join("data/tiny_stories/.bpe.part").join(name).exists()
}

/// The rest of the hub's first files comes a byte at a time.
fn slow_after(hub: &FakeHub, n_quick: usize) {
    if n_quick > 0 {
        // Where no range is asked for, this is not a fault.
        hub.fail(Ask::Bytes, n_quick, Fault::IgnoreRange);
    }
    hub.fail(Ask::Bytes, usize::MAX, Fault::Drip(Duration::from_millis(1)));
}

#[test]
fn a_killed_run_is_completed_by_the_next() {
    let hub = hub();
    let reference = tempfile::tempdir().unwrap();
    run_command(&mut prepare(reference.path(), &hub)).ok();
    let expected = prepared(reference.path());
    assert!(expected.len() >= 4, "{:?}", expected.keys());

    // The moment, how many files come quickly before it, and what may be fetched after it.
    type Moment = (&'static str, usize, fn(&Path) -> bool, usize);
    let moments: [Moment; 8] = [
        ("nothing is done", 3, |_| true, 3),
        ("in the first file", 0, |dir| blobs(dir).0 > 50, 3),
        ("in the second file", 1, |dir| blobs(dir).0 > 50 && blobs(dir).1 == 1, 2),
        ("all files are there", 3, |dir| blobs(dir).1 == 3, 0),
        ("the tokenizer is made", 3, |dir| staged(dir, "tokenizer.json"), 0),
        ("a shard is begun", 3, |dir| staged(dir, "train-00000.bin"), 0),
        ("the other split is begun", 3, |dir| staged(dir, "val-00000.bin"), 0),
        ("all is written", 3, |dir| staged(dir, "meta.json"), 0),
    ];
    for (name, n_quick, moment, n_refetched) in moments {
        let dir = tempfile::tempdir().unwrap();
        slow_after(&hub, n_quick);
        let mut child = start_until(dir.path(), &hub, &moment);
        child.kill().unwrap();
        child.wait().unwrap();
        hub.heal();
        let (n_part_bytes, _) = blobs(dir.path());
        let n_before = hub.transfers().len();
        run_command(&mut prepare(dir.path(), &hub)).ok();
        assert!(prepared(dir.path()) == expected, "{name}");
        let again = hub.transfers().split_off(n_before);
        assert!(again.len() <= n_refetched, "{name}: {again:?}");
        let resumed = again.iter().filter_map(|request| request.range.clone()).next();
        assert_eq!(resumed.is_some(), n_part_bytes > 0, "{name}: {again:?}");
        let leftovers: Vec<_> = fs::read_dir(dir.path().join("data/tiny_stories"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["bpe", "prepared-last", ".prepare.lock"].contains(&&**name))
            .collect();
        assert!(leftovers.is_empty(), "{name}: {leftovers:?}");
    }
}

#[test]
fn a_preparation_that_is_being_replaced_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub();
    run_command(&mut prepare(dir.path(), &hub)).ok();
    let first = prepared(dir.path());
    for moment in ["tokenizer.json", "val-00000.bin", "meta.json"] {
        let mut again = prepare(dir.path(), &hub);
        again.args(["--vocab-size", "500", "--force"]);
        let mut child = again.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !staged(dir.path(), moment) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Either one, but whole: asking for one of the two finds the same or puts it right.
        run_command(prepare(dir.path(), &hub).arg("--force")).ok();
        assert!(prepared(dir.path()) == first, "{moment}");
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_stopped_run_clears_away_what_is_half_made() {
    let hub = hub();
    let dir = tempfile::tempdir().unwrap();
    slow_after(&hub, 1);
    let mut child = start_until(dir.path(), &hub, &|dir| blobs(dir).0 > 50 && blobs(dir).1 == 1);
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!dir.path().join("data/tiny_stories/.bpe.part").exists());
    let (n_part_bytes, n_whole) = blobs(dir.path());
    assert!(
        n_part_bytes > 50 && n_whole == 1,
        "what has come is kept: {n_part_bytes} bytes of a part and {n_whole} whole"
    );
    hub.heal();
    let Ran { stdout, .. } = run_command(&mut prepare(dir.path(), &hub)).ok();
    assert!(stdout.contains("16,000 documents"), "{stdout}");

    let dir = tempfile::tempdir().unwrap();
    let mut child = start_until(dir.path(), &hub, &|dir| staged(dir, "train-00000.bin"));
    signal(&child, "-TERM");
    let code = child.wait().unwrap().code();
    assert!(!dir.path().join("data/tiny_stories/.bpe.part").exists());
    assert!(code == Some(143) || (code == Some(0) && !prepared(dir.path()).is_empty()), "{code:?}");
}
