//! A run whose directory, lock or metrics are removed, moved or replaced while it trains.
//!
//! The run is paused meanwhile, so that every try is the same. It must stop with exit code 7, name the
//! last complete checkpoint, and change nothing that is there by then.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{end, tempdir, train, undisturbed};
use crate::program::{run_command, snapshot};
use crate::report::{conclude, concurrently};

fn send(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
}

/// Starts a run that does not end by itself and pauses it after its second checkpoint.
fn paused(out_dir: &Path) -> Child {
    let mut train = train(out_dir);
    train.args(["--max-iters", "1000000000", "--eval-interval", "1000000"]);
    train.args([
        "--log-interval",
        "100",
        "--keep-checkpoints",
        "9",
        "--checkpoint-interval",
        "200",
    ]);
    let mut child = train.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    // The next save is hundreds of milliseconds away.
    let is_saved = |line: &String| line.starts_with("saved ");
    assert!(lines.by_ref().map(Result::unwrap).filter(is_saved).nth(1).is_some());
    drop(lines);
    send(&child, "STOP");
    child
}

/// What the checkpoints below `dir` hold, by name.
fn checkpoints(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = snapshot(dir).into_iter();
    let of_checkpoint = files.filter(|(path, _)| path.to_string_lossy().contains("/step-"));
    let finished = of_checkpoint.filter(|(path, _)| !path.to_string_lossy().contains("/.tmp-"));
    finished.map(|(path, bytes)| (path.display().to_string(), bytes)).collect()
}

/// Something that somebody does in the directory above `out`.
struct Act {
    what: &'static str,
    act: fn(&Path),
    /// Where the last whole checkpoint is, if there is one left.
    last_whole: Option<&'static str>,
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.unwrap();
}

fn replace(path: &Path) {
    let other = path.with_extension("other");
    fs::copy(path, &other).unwrap();
    fs::rename(other, path).unwrap();
}

const ACTS: [Act; 8] = [
    Act { what: "out was removed", act: |dir| remove(&dir.join("out")), last_whole: None },
    Act {
        what: "out/.lock was removed",
        act: |dir| remove(&dir.join("out/.lock")),
        last_whole: Some("/out/checkpoints/step-"),
    },
    Act {
        what: "out/.lock was replaced",
        act: |dir| replace(&dir.join("out/.lock")),
        last_whole: Some("/out/checkpoints/step-"),
    },
    Act {
        what: "out was moved",
        act: |dir| fs::rename(dir.join("out"), dir.join("elsewhere")).unwrap(),
        last_whole: if cfg!(target_os = "linux") {
            Some("/elsewhere/checkpoints/step-")
        } else {
            None
        },
    },
    Act {
        what: "out was moved",
        act: |dir| {
            fs::rename(dir.join("out"), dir.join("elsewhere")).unwrap();
            fs::create_dir(dir.join("out")).unwrap();
        },
        last_whole: None,
    },
    Act {
        what: "out/metrics.jsonl was removed",
        act: |dir| remove(&dir.join("out/metrics.jsonl")),
        last_whole: Some("/out/checkpoints/step-"),
    },
    Act {
        what: "out/metrics.jsonl was replaced",
        act: |dir| replace(&dir.join("out/metrics.jsonl")),
        last_whole: Some("/out/checkpoints/step-"),
    },
    Act {
        what: "out/metrics.jsonl was cut to 5 bytes",
        act: |dir| {
            let file = fs::File::options().write(true).open(dir.join("out/metrics.jsonl"));
            file.unwrap().set_len(5).unwrap();
        },
        last_whole: Some("/out/checkpoints/step-"),
    },
];

/// Lets a paused run continue, which must end with exit code 7; returns what it printed.
fn refused(mut child: Child) -> Result<String, String> {
    send(&child, "CONT");
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err("it trained on".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    match child.wait().unwrap().code() {
        Some(7) => Ok(stderr),
        code => Err(format!("ended with {code:?}: {stderr}")),
    }
}

fn attempt(Act { what, act, last_whole }: &Act) -> Result<(), String> {
    let dir = tempdir();
    let child = paused(&dir.path().join("out"));
    act(dir.path());
    let before = (checkpoints(dir.path()), dir.path().join("out").exists());
    let stderr = refused(child)?;
    let error = stderr.split("error: ").nth(1).unwrap_or_default();
    let place = last_whole.map_or(String::new(), |place| {
        format!("last whole checkpoint is {}{place}", dir.path().display())
    });
    if !error.contains(what) || !error.contains(&place) || !error.contains("\nhint: ") {
        return Err(format!("does not say `{what}` and `{place}`: {stderr}"));
    }
    let after = (checkpoints(dir.path()), dir.path().join("out").exists());
    if before != after {
        return Err("something was written or removed after it".to_owned());
    }
    Ok(())
}

#[test]
fn a_run_stops_if_its_directory_is_removed_moved_or_replaced() {
    let of = |n: usize| attempt(&ACTS[n]).map_err(|why| format!("{}: {why}", ACTS[n].what));
    let failures = concurrently(2, ACTS.len(), of);
    conclude("a directory, lock or metrics removed, moved or replaced", ACTS.len(), &failures);
}

#[test]
fn a_run_started_in_place_of_another_is_not_disturbed_by_it() {
    let lost: [fn(&Path); 2] =
        [|out_dir| remove(out_dir), |out_dir| remove(&out_dir.join(".lock"))];
    let mut failures = Vec::new();
    for act in lost {
        let dir = tempdir();
        let out_dir = dir.path().join("out");
        let first = paused(&out_dir);
        act(&out_dir);
        // The second one finds the checkpoints of the first, or none.
        if out_dir.exists() {
            remove(&out_dir.join("checkpoints"));
            ["last", "metrics.jsonl"].iter().for_each(|name| remove(&out_dir.join(name)));
        }
        run_command(&mut train(&out_dir)).ok();
        failures.extend(refused(first).err());
        failures.extend(
            end(&out_dir).and_then(|end| end.differs_from(undisturbed()).map_or(Ok(()), Err)).err(),
        );
    }
    conclude("a run started in the place of another that still trains", 2, &failures);
}
