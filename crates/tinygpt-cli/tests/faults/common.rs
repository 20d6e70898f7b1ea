//! The tiny run that the faults are tested on, and the checks after a fault.
//!
//! Dropout, two micro-batches per step, more windows than an epoch has, evaluations, the best
//! checkpoint and interval checkpoints: 24 steps, 12 saves, a few tenths of a second.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;
use tinygpt_train::checkpoint::{RunConfig, State, Which, locate};

use crate::program::{Ran, command, run, run_command};

/// Updates of a whole run.
pub(crate) const MAX_ITERS: u64 = 24;

const FLAGS: &str = "--dataset-name text --n-layer 1 --n-head 2 --n-embd 16 --block-size 16 \
    --batch-size 2 --gradient-accumulation-steps 2 --dropout 0.2 --learning-rate 0.01 \
    --min-lr 0.001 --warmup-iters 3 --lr-decay-iters 24 --max-iters 24 --eval-interval 4 \
    --eval-iters 1 --checkpoint-interval 2 --sample-at-eval false --log-interval 1 --threads 1 \
    --dtype float32";

/// A directory on the disk that is built on: a directory in memory would make syncing free.
pub(crate) fn tempdir() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A directory whose `data` holds the prepared text; made once.
pub(crate) fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| {
        let dir = tempdir().keep();
        fs::write(dir.join("text.txt"), text()).unwrap();
        run("prepare", &dir, "--source text.txt --val-fraction 0.1").ok();
        dir
    })
}

/// So little text that an epoch ends in the middle of step 12.
fn text() -> String {
    let line = |i: usize| format!("Line {i}: cat {} sat on mat {}.\n", i * 7 % 11, i % 5);
    (0..34).map(line).collect()
}

/// The command of the whole run in `out_dir`: from its newest checkpoint if it has one.
pub(crate) fn train(out_dir: &Path) -> Command {
    let mut train = command("train", home());
    train.args(FLAGS.split_whitespace()).args(["--init-from", "auto"]);
    train.arg("--out-dir").arg(out_dir);
    train
}

/// A run of the first `n` steps in a directory of its own, from which cases begin as copies.
pub(crate) fn begun(n: u64) -> TempDir {
    let dir = tempdir();
    run_command(train(&dir.path().join("out")).args(["--max-iters", &n.to_string()])).ok();
    dir
}

/// What a run has come to: everything but how long it took and where it lies.
#[derive(PartialEq)]
pub(crate) struct End {
    files: Vec<Vec<u8>>,
    state: State,
    metrics: String,
}

/// What the run in `out_dir` has come to.
pub(crate) fn end(out_dir: &Path) -> Result<End, String> {
    let read = |path: PathBuf| fs::read(&path).map_err(|e| format!("{}: {e}", path.display()));
    let last = locate(out_dir, &Which::Last).map_err(|error| error.to_string())?;
    let mut files = Vec::new();
    for name in ["model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json"] {
        files.push(read(last.join(name))?);
    }
    let state: State =
        serde_json::from_slice(&read(last.join("state.json"))?).map_err(|e| e.to_string())?;
    // Wall time differs between any two runs.
    let state = State { config: RunConfig::default(), seconds: 0.0, ..state };
    let mut metrics = String::new();
    for line in String::from_utf8_lossy(&read(out_dir.join("metrics.jsonl"))?).lines() {
        // A run is compared with one without samples.
        if line.starts_with("{\"event\":\"sample\"") {
            continue;
        }
        let mut line: Value = serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))?;
        // A run that was cut short on purpose, to begin a case, says so when it is resumed.
        if line["event"] == "resume" {
            continue;
        }
        for timing in ["step_ms", "tokens_per_second", "mfu"] {
            line.as_object_mut().unwrap().remove(timing);
        }
        writeln!(metrics, "{line}").unwrap();
    }
    Ok(End { files, state, metrics })
}

/// What the run comes to that nothing disturbs.
pub(crate) fn undisturbed() -> &'static End {
    static END: OnceLock<End> = OnceLock::new();
    END.get_or_init(|| {
        let dir = tempdir();
        let out_dir = dir.path().join("out");
        run_command(&mut train(&out_dir)).ok();
        let end = end(&out_dir).unwrap();
        assert_eq!(end.state.step, MAX_ITERS);
        assert_eq!(end.metrics.lines().count(), 24 + 7, "24 steps, 7 evaluations");
        end
    })
}

impl End {
    /// Updates made.
    pub(crate) fn step(&self) -> u64 {
        self.state.step
    }

    /// The first thing in which two runs differ.
    pub(crate) fn differs_from(&self, other: &Self) -> Option<String> {
        if self.state != other.state {
            return Some(format!("the counters: {:?}, not {:?}", self.state, other.state));
        }
        if self.files != other.files {
            return Some("weights or moments".to_owned());
        }
        let pairs = self.metrics.lines().zip(other.metrics.lines());
        let line = pairs.into_iter().find(|(ours, theirs)| ours != theirs);
        match line {
            Some((ours, theirs)) => Some(format!("metrics.jsonl: {ours}, not {theirs}")),
            None if self.metrics != other.metrics => Some("the length of metrics.jsonl".to_owned()),
            None => None,
        }
    }
}

/// The step of the checkpoint whose directory `text` names after `before`.
fn step_after(text: &str, before: &str) -> Option<u64> {
    let (_, rest) = text.split_once(before)?;
    let (_, digits) = rest.lines().next()?.split_once("/step-")?;
    digits.get(..8)?.parse().ok()
}

/// The last step that the run has reported as saved, 0 if none.
pub(crate) fn reported(stderr: &str) -> u64 {
    let saved = stderr.lines().filter(|line| line.starts_with("saved "));
    // A line that a kill has cut short reports nothing.
    let whole = saved.filter(|line| line.contains(" ms"));
    whole.filter_map(|line| step_after(line, "saved ")).max().unwrap_or(0)
}

/// Resumes in `out_dir` after a fault that came when `reported` was saved, and checks the promise.
pub(crate) fn resume(out_dir: &Path, reported: u64) -> Result<Ran, String> {
    if reported > 0 {
        for which in [Which::Last, Which::Best] {
            locate(out_dir, &which).map_err(|error| format!("a reader of {which}: {error}"))?;
        }
    }
    // How often is saved has no part in the end; less often is quicker.
    let ran = run_command(train(out_dir).args(["--checkpoint-interval", "1000"]));
    let stderr = &ran.stderr;
    if ran.code != 0 {
        return Err(format!("resuming ended with code {}: {stderr}", ran.code));
    }
    let from = step_after(stderr, "start    the checkpoint ").unwrap_or(0);
    if from < reported {
        return Err(format!("step {reported} was reported as saved, resuming started at {from}"));
    }
    let leftovers = leftovers(out_dir);
    if !leftovers.is_empty() {
        return Err(format!("left over: {leftovers:?}"));
    }
    match end(out_dir)?.differs_from(undisturbed()) {
        None => Ok(ran),
        Some(difference) => Err(format!("from step {from} on, another end: {difference}")),
    }
}

/// As [`resume`], for a fault that must not have made any checkpoint bad.
pub(crate) fn nothing_lost(out_dir: &Path, reported: u64) -> Result<(), String> {
    let ran = resume(out_dir, reported)?;
    if ran.stderr.contains("DAMAGED") {
        return Err(format!("a damaged checkpoint was left: {}", ran.stderr));
    }
    Ok(())
}

/// Names in a run's directory that no finished run leaves.
fn leftovers(out_dir: &Path) -> BTreeSet<String> {
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let known = [".lock", "best", "checkpoints", "last", "loss.svg", "metrics.jsonl"];
    let mut odd: BTreeSet<String> =
        names(out_dir).into_iter().filter(|name| !known.contains(&name.as_str())).collect();
    let checkpoints = names(&out_dir.join("checkpoints"));
    odd.extend(checkpoints.into_iter().filter(|name| !name.starts_with("step-")));
    odd
}
