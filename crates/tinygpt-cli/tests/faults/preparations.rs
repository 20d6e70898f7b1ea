//! A prepared dataset that is prepared again, or shortened, while other programs read it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use tinygpt_train::checkpoint::{Which, locate};

use crate::common::{home, tempdir};
use crate::program::{command, copy_tree, run};
use crate::report::{conclude, skip, times};
use crate::trace::{Call, calls, under_strace, why_not};

const TRAIN: &str = "--dataset-name text --out-dir out --init-from auto --n-layer 1 --n-head 2 \
    --n-embd 16 --block-size 16 --batch-size 2 --eval-interval 1000000 --eval-iters 1 \
    --sample-at-eval false --threads 1 --dtype float32 --checkpoint-interval 20";

/// The command that makes the dataset in `dir` again, with other tokens if `n` is another number.
fn prepare_again(dir: &Path, n: usize) -> Command {
    let mut prepare = command("prepare", dir);
    prepare.args(["--source", "text.txt", "--force", "--val-fraction", &format!("0.{n}")]);
    prepare
}

/// The calls of such a run that move a name.
fn renames() -> Vec<Call> {
    let dir = tempdir();
    copy_tree(home(), dir.path());
    let log = dir.path().join("strace");
    let output = under_strace(&prepare_again(dir.path(), 2), &log, &[]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    calls(&log).into_iter().filter(|call| call.name.starts_with("rename")).collect()
}

#[test]
fn a_kill_at_any_rename_of_prepare_leaves_a_whole_dataset_to_readers() {
    const WHAT: &str = "kill -9 at each rename of `prepare --force`, and a reader";
    if let Some(why) = why_not() {
        return skip(WHAT, why);
    }
    let renames = renames();
    let mut failures = Vec::new();
    for call in &renames {
        let dir = tempdir();
        copy_tree(home(), dir.path());
        let fault = format!("{}:signal=SIGKILL:when={}", call.name, call.nth);
        let log = dir.path().join("strace");
        let killed = under_strace(&prepare_again(dir.path(), 2), &log, &[fault]).output().unwrap();
        let read = run("train", dir.path(), &format!("{TRAIN} --max-iters 1"));
        if killed.status.code().is_some() || read.code != 0 {
            failures.push(format!("{call:?}: {:?}: {}", killed.status.code(), read.stderr));
        }
    }
    conclude(WHAT, renames.len(), &failures);
}

#[test]
fn readers_next_to_prepare_find_the_old_dataset_or_the_new_one() {
    let dir = tempdir();
    copy_tree(home(), dir.path());
    let n_rounds = times(6, 40);
    let (mut n_read, mut failures) = (0, Vec::new());
    for round in 0..n_rounds {
        let mut prepare = prepare_again(dir.path(), 1 + round % 2);
        let mut prepare = prepare.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while prepare.try_wait().unwrap().is_none() {
            n_read += 1;
            let opened = tinygpt_data::Prepared::open(&dir.path().join("data"), "text", None);
            failures.extend(opened.err().map(|error| format!("round {round}: {error}")));
        }
    }
    conclude("readers next to `prepare --force`", n_read, &failures);
}

#[test]
fn a_shard_that_is_shortened_under_a_run_ends_it_by_name_and_the_run_can_be_resumed() {
    let dir = tempdir();
    copy_tree(home(), dir.path());
    let shard = dir.path().join("data/text/simple/train-00000.bin");
    let whole = fs::read(&shard).unwrap();
    let mut train = command("train", dir.path());
    train.args(TRAIN.split_whitespace()).args(["--max-iters", "1000000"]);
    let mut train = train.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(train.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("saved ") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended before it saved");
    }
    fs::File::options().write(true).open(&shard).unwrap().set_len(130).unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(train.wait().unwrap().code(), Some(3), "{rest}");
    for words in ["error: ", "train-00000.bin", "has become shorter", "saved is good", "prepare"] {
        assert!(rest.contains(words), "{words}: {rest}");
    }
    fs::write(&shard, whole).unwrap();
    let step = resumable_step(&dir.path().join("out"));
    assert!(step >= 20, "{step}");
    run("train", dir.path(), &format!("{TRAIN} --max-iters {}", step + 1)).ok();
}

/// The step of the newest checkpoint, which must be whole.
fn resumable_step(out_dir: &Path) -> u64 {
    let last = locate(out_dir, &Which::Last).unwrap();
    let name = last.file_name().unwrap().to_str().unwrap();
    name.strip_prefix("step-").unwrap().parse().unwrap()
}
