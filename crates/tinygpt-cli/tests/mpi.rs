//! Several processes under a real `mpirun`: built with the feature `mpi` only, see `.ci/check-mpi`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "it/program.rs"]
#[allow(dead_code, reason = "what other tests use")]
mod program;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use program::{Ran, run, run_command, small_text};
use tempfile::TempDir;

/// Dropout, two micro-batches of 5 windows, evaluations with a smaller last batch.
const RUN: &str = "--dataset-name text --n-layer 2 --n-head 2 --n-embd 32 --block-size 16 \
    --batch-size 5 --gradient-accumulation-steps 2 --max-iters 40 --lr-decay-iters 40 \
    --eval-interval 10 --eval-iters 40 --warmup-iters 5 --log-interval 5 --threads 1 \
    --dropout 0.2 --dtype float32 --check-ranks 10 --always-save-checkpoint true";

fn data() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text.txt"), small_text()).unwrap();
    run("prepare", dir.path(), "--source text.txt").ok();
    dir
}

fn mpirun(dir: &Path) -> Command {
    let mut command = Command::new("mpirun");
    command.current_dir(dir).args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
    command
}

/// `mpirun` with one application for each of `calls`: the number of processes and the flags of `train`.
fn launch(dir: &Path, calls: &[(usize, &str)]) -> Command {
    let mut command = mpirun(dir);
    for (i, (n, flags)) in calls.iter().enumerate() {
        command.args((i > 0).then_some(":"));
        command.args(["-n", &n.to_string(), env!("CARGO_BIN_EXE_train")]);
        command.args(RUN.split_whitespace().chain(flags.split_whitespace()));
    }
    command
}

fn train(dir: &Path, n_ranks: usize, flags: &str) -> Ran {
    run_command(&mut launch(dir, &[(n_ranks, flags)]))
}

fn alone(dir: &Path, flags: &str) -> Ran {
    run("train", dir, &format!("{RUN} {flags}"))
}

/// A value of each line of an event in the metrics.
fn values(dir: &Path, out_dir: &str, event: &str, key: &str) -> Vec<f64> {
    let text = fs::read_to_string(dir.join(out_dir).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).map(|line| line[key].as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_close(one: &[f64], many: &[f64]) {
    assert_eq!(one.len(), many.len());
    for (step, (one, many)) in one.iter().zip(many).enumerate() {
        assert!(((one - many) / one).abs() < 1e-6, "{step}: {one} and {many}");
    }
}

#[test]
fn ranks_make_the_run_of_one_process_and_resume_on_another_number() {
    let dir = data();
    let dir = dir.path();
    alone(dir, "--out-dir alone").ok();
    for n_ranks in [2, 3] {
        let out_dir = format!("ranks-{n_ranks}");
        let ran = train(dir, n_ranks, &format!("--out-dir {out_dir}")).ok();
        assert_eq!(ran.stderr.matches("done: 40 steps").count(), 1, "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("{n_ranks} ranks of 1 thread")), "{}", ran.stderr);
        for (event, key) in [("step", "loss"), ("eval", "val_loss"), ("eval", "train_loss")] {
            let of = |out_dir| values(dir, out_dir, event, key);
            assert_close(&of("alone"), &of(&out_dir));
        }
    }
    train(dir, 2, "--out-dir moved --max-iters 15").ok();
    let resumed = "--out-dir moved --init-from resume";
    let ran = alone(dir, &format!("{resumed} --max-iters 30")).ok();
    assert!(ran.stderr.contains("ranks 2 → 1"), "{}", ran.stderr);
    train(dir, 2, resumed).ok();
    assert_close(&values(dir, "alone", "step", "loss"), &values(dir, "moved", "step", "loss"));
    let again = train(dir, 2, "--out-dir again").ok();
    assert!(again.code == 0);
    let weights = |name: &str| fs::read(dir.join(name).join("last/model.safetensors")).unwrap();
    assert!(weights("again") == weights("ranks-2"), "twice on two ranks");
}

/// A run that never ends by itself.
struct Endless {
    mpirun: Child,
    stderr: BufReader<ChildStderr>,
    seen: String,
}

impl Endless {
    fn start(dir: &Path, flags: &str) -> Self {
        let flags = format!(
            "--max-iters 1000000 --eval-interval 50 --eval-iters 1 --log-interval 1 {flags}"
        );
        let mut command = mpirun(dir);
        command.args(["-n", "2", env!("CARGO_BIN_EXE_train")]);
        let run = RUN.replace("--max-iters 40", "").replace("--eval-interval 10", "");
        let run = run.replace("--eval-iters 40", "").replace("--log-interval 5", "");
        command.args(run.split_whitespace().chain(flags.split_whitespace()));
        let mut mpirun = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(mpirun.stderr.take().unwrap());
        Self { mpirun, stderr, seen: String::new() }
    }

    /// Waits until the run has printed `text`.
    fn until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let n = self.stderr.read_line(&mut self.seen).unwrap();
            assert!(n > 0, "ended without {text}: {}", self.seen);
        }
    }

    /// Its ranks, in their order.
    fn pids(&self) -> Vec<u32> {
        let parent = self.mpirun.id().to_string();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &parent]).output().unwrap();
        let text = String::from_utf8(children.stdout).unwrap();
        let mut ranks: Vec<(String, u32)> = text
            .split_whitespace()
            .filter_map(|pid| {
                let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
                let environ = String::from_utf8_lossy(&environ).into_owned();
                let rank =
                    environ.split('\0').find_map(|v| v.strip_prefix("OMPI_COMM_WORLD_RANK="));
                Some((rank?.to_owned(), pid.parse().ok()?))
            })
            .collect();
        ranks.sort();
        ranks.into_iter().map(|(_, pid)| pid).collect()
    }

    fn signal(&self, rank: usize, signal: &str) {
        let pid = self.pids()[rank].to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// The exit code and everything that was printed.
    fn end(mut self) -> (i32, String) {
        while self.stderr.read_line(&mut self.seen).unwrap_or(0) > 0 {}
        (self.mpirun.wait().unwrap().code().unwrap_or(-1), self.seen)
    }
}

#[test]
fn a_rank_that_is_killed_ends_the_run_and_the_last_checkpoint_is_good() {
    let dir = data();
    let dir = dir.path();
    let mut init_from = "--init-from scratch";
    for round in 0..4_u64 {
        let mut run = Endless::start(dir, &format!("--out-dir out {init_from}"));
        run.until("saved ");
        std::thread::sleep(Duration::from_millis(37 * round % 100));
        let rank = round as usize % 2;
        let begin = Instant::now();
        run.signal(rank, "-KILL");
        let (code, seen) = run.end();
        assert!(code != 0 && begin.elapsed() < Duration::from_secs(10), "{code}: {seen}");
        if rank == 1 {
            assert!(seen.contains("rank 1 was lost"), "{seen}");
            assert!(seen.contains("to resume: mpirun -n 2 "), "{seen}");
        }
        init_from = "--init-from resume";
    }
    alone(dir, "--out-dir out --init-from resume --eval-only true").ok();
}

#[test]
fn a_rank_that_hangs_ends_the_run_in_time() {
    let dir = data();
    let mut run = Endless::start(dir.path(), "--out-dir out --rank-timeout 1.5");
    run.until("saved ");
    run.signal(1, "-STOP");
    let (code, seen) = run.end();
    assert_eq!(code, 8, "{seen}");
    assert!(seen.contains("error: rank 1 was lost at step "), "{seen}");
    assert!(
        seen.contains("no answer for 1.5 s") && seen.contains("to resume: mpirun -n 2 "),
        "{seen}"
    );
}

#[test]
fn a_signal_to_one_rank_stops_all_and_saves() {
    for rank in [0, 1] {
        let dir = data();
        let mut run = Endless::start(dir.path(), "--out-dir out");
        run.until("saved ");
        run.signal(rank, "-TERM");
        let (code, seen) = run.end();
        assert_eq!(code, 143, "{seen}");
        assert!(seen.contains("all of them are saved in out"), "{seen}");
    }
}

#[test]
fn ranks_that_differ_are_refused_before_anything_is_written() {
    let dir = data();
    let dir = dir.path();
    fs::create_dir(dir.join("elsewhere")).unwrap();
    fs::write(dir.join("other.txt"), small_text().replace("cat", "dog")).unwrap();
    run("prepare", dir, "--source other.txt --dataset-name text --data-dir elsewhere").ok();
    for (flags, key) in [
        ("--learning-rate 0.002", "learning_rate"),
        ("--batch-size 4", "batch_size"),
        ("--seed 3", "seed"),
        ("--dropout 0.1", "dropout"),
        ("--threads 2", "threads"),
        ("--max-iters 41", "max_iters"),
        ("--grad-clip 2", "grad_clip"),
        ("--data-dir elsewhere", "dataset"),
    ] {
        // The last of two equal flags would be refused, so the first is removed.
        let name = flags.split(' ').next().unwrap();
        let words: Vec<&str> = RUN.split_whitespace().collect();
        let at = words.iter().position(|word| *word == name);
        let mut others = words.clone();
        at.map(|at| others.drain(at..at + 2));
        let mut command = mpirun(dir);
        command.args(["-n", "1", env!("CARGO_BIN_EXE_train")]).args(&words);
        command.args([":", "-n", "1", env!("CARGO_BIN_EXE_train")]).args(&others);
        let ran = run_command(command.args(flags.split(' ')));
        assert_eq!(ran.code, 2, "{flags}: {}", ran.stderr);
        let expected = format!("error: rank 1 differs from rank 0: `{key}` is ");
        assert_eq!(ran.stderr.matches(&expected).count(), 1, "{flags}: {}", ran.stderr);
        assert!(!dir.join("out-tiny-stories").exists(), "{flags}");
    }
    let mut program = fs::read(env!("CARGO_BIN_EXE_train")).unwrap();
    program.push(0);
    fs::copy(env!("CARGO_BIN_EXE_train"), dir.join("other-train")).unwrap();
    fs::write(dir.join("other-train"), program).unwrap();
    let mut command = launch(dir, &[(1, "")]);
    command.args([":", "-n", "1", "./other-train"]).args(RUN.split_whitespace());
    let ran = run_command(&mut command);
    assert!(ran.code == 2 && ran.stderr.contains("`program` is "), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_done_together_is_refused() {
    let dir = data();
    let dir = dir.path();
    for (flags, words) in [
        ("--plan true", &["--plan works in one process", "2 were started"][..]),
        ("--budget 5m", &["--budget works in one process"]),
        ("--out-dir missing --init-from resume", &["holds no checkpoint"]),
    ] {
        let flags = flags.to_owned();
        let ran = if flags.starts_with("--budget") {
            let run = RUN.replace("--max-iters 40", "").replace("--lr-decay-iters 40", "");
            let mut command = mpirun(dir);
            command.args(["-n", "2", env!("CARGO_BIN_EXE_train")]);
            run_command(command.args(run.split_whitespace()).args(flags.split(' ')))
        } else {
            train(dir, 2, &flags)
        };
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        words.iter().for_each(|word| assert!(ran.stderr.contains(word), "{}", ran.stderr));
    }
    let ran = train(dir, 11, "");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("there are 11 ranks"), "{}", ran.stderr);
    // A launcher of another MPI: each process believes that it is alone.
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command
        .current_dir(dir)
        .args(RUN.split_whitespace())
        .envs([("PMI_RANK", "0"), ("PMI_SIZE", "2")]);
    let ran = run_command(&mut command);
    assert!(ran.code == 2 && ran.stderr.contains("MPI has connected 1"), "{}", ran.stderr);
    assert!(!dir.join("out-tiny-stories").exists());
}
