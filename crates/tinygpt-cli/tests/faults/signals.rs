//! Signals while a run starts, trains, evaluates and saves; a second one; and a pause.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::report::{Random, conclude, times};
use crate::world::{end, nothing_lost, reported, tempdir, train, undisturbed};

fn send(child: &Child, signal: &str) {
    // The process may have ended by itself: then there is none.
    let id = child.id().to_string();
    let _ = Command::new("kill").args(["-s", signal, &id]).stderr(Stdio::null()).status().unwrap();
}

/// The run, an evaluation of which takes most of the time if `slow`.
fn start(out_dir: &Path, slow: bool) -> Child {
    let mut train = train(out_dir);
    if slow {
        train.args(["--n-layer", "32", "--n-embd", "64", "--eval-iters", "1000000"]);
    }
    train.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What the run said, line by line, until `is_moment`, when it gets `signals`; then the rest.
fn signalled(child: &mut Child, signals: &[&str], is_moment: impl Fn(&str) -> bool) -> String {
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    for line in lines.by_ref().map(Result::unwrap) {
        let is_now = is_moment(&line);
        said += &(line + "\n");
        if is_now {
            signals.iter().for_each(|signal| send(child, signal));
            break;
        }
    }
    lines.for_each(|line| said += &(line.unwrap() + "\n"));
    said
}

/// Checks a run that was asked to stop: its exit code, that it saved what it made, and the rest.
fn stopped(out_dir: &Path, mut child: Child, said: &str, code: i32) -> Result<(), String> {
    let ended = child.wait().unwrap().code();
    // 0: it came when all was done.
    if ended != Some(code) && !(ended == Some(0) && said.contains("done: ")) {
        return Err(format!("ended with {ended:?}, expected {code}: {said}"));
    }
    if said.contains("all updates are saved") {
        let made = said.lines().filter(|line| line.starts_with("iter ")).count() as u64;
        let saved = end(out_dir)?.step();
        if saved != made || !said.contains("--init-from resume") {
            return Err(format!("{made} updates were made, {saved} saved: {said}"));
        }
    }
    nothing_lost(out_dir, reported(said))
}

const SIGNALS: [(&str, i32); 3] = [("INT", 130), ("TERM", 143), ("HUP", 129)];

/// The moments, each by the line after which a signal is sent.
const PHASES: [(&str, &str); 6] = [
    ("starting", "model "),
    ("in a step", "iter  3"),
    ("in the first steps", "eval 0"),
    ("in a step with a save", "iter  5"),
    ("after a save", "saved "),
    ("in the last words", "done: "),
];

#[test]
fn a_signal_in_any_phase_ends_the_run_with_everything_saved() {
    undisturbed();
    let (mut n_tried, mut failures) = (0, Vec::new());
    for round in 0..times(1, 4) {
        for (i, (phase, line)) in PHASES.into_iter().enumerate() {
            let (signal, code) = SIGNALS[(i + round) % 3];
            let dir = tempdir();
            let out_dir = dir.path().join("out");
            let mut child = start(&out_dir, false);
            let said = signalled(&mut child, &[signal], |said| said.starts_with(line));
            n_tried += 1;
            let outcome = stopped(&out_dir, child, &said, code);
            failures.extend(outcome.err().map(|why| format!("{signal} {phase}: {why}")));
        }
    }
    conclude("a signal in every phase", n_tried, &failures);
}

/// Signals a run that evaluates. Whether the evaluation was not over by then, which is not for us to
/// say; or what went wrong.
fn signalled_in_an_evaluation(signal: &str, code: i32) -> Result<bool, String> {
    let dir = tempdir();
    let out_dir = dir.path().join("out");
    let mut child = start(&out_dir, true);
    let said = signalled(&mut child, &[signal], |said| said.starts_with("output "));
    let ended = child.wait().unwrap().code();
    if ended != Some(code) || !said.contains("all updates are saved") {
        return Err(format!("{signal}: ended with {ended:?}: {said}"));
    }
    Ok(!said.lines().any(|line| line.starts_with("eval ")))
}

#[test]
fn a_signal_in_an_evaluation_does_not_wait_for_its_end() {
    let mut failures = Vec::new();
    for (signal, code) in SIGNALS {
        let mut tries = (0..10).map(|_| signalled_in_an_evaluation(signal, code));
        let outcome = tries.find(|outcome| *outcome != Ok(false));
        match outcome.unwrap_or_else(|| Err(format!("{signal}: the evaluation always ended"))) {
            Ok(_) => {}
            Err(what) => failures.push(what),
        }
    }
    conclude("a signal in an evaluation", SIGNALS.len(), &failures);
}

#[test]
fn signals_at_random_moments_lose_nothing() {
    undisturbed();
    let n = times(6, 60);
    let mut failures = Vec::new();
    for number in 0..n {
        let mut random = Random::of("signals", number);
        let dir = tempdir();
        let out_dir = dir.path().join("out");
        let mut child = start(&out_dir, false);
        let delay = Duration::from_micros(random.next() % 400_000);
        std::thread::sleep(delay);
        let (signal, code) = SIGNALS[random.below(3)];
        let twice = random.below(2) == 0;
        send(&child, signal);
        if twice {
            send(&child, signal);
        }
        let said = signalled(&mut child, &[], |_| false);
        // Before the handler is there, a signal does what it does to any program.
        let outcome = if said.is_empty() {
            child.wait().unwrap();
            nothing_lost(&out_dir, 0)
        } else {
            stopped(&out_dir, child, &said, code)
        };
        let what = format!("{signal}, twice: {twice}, after {delay:?}");
        failures.extend(outcome.err().map(|why| format!("{what}: {why}")));
    }
    conclude("one signal or two at random moments", n, &failures);
}

#[test]
fn a_signal_in_a_proof_of_going_on_leaves_nothing() {
    let mut failures = Vec::new();
    for (signal, code) in SIGNALS {
        let dir = tempdir();
        let temporary = dir.path().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        let mut proof = train(&dir.path().join("out"));
        proof.args(["--verify-resume", "10000000"]).env("TMPDIR", &temporary);
        let mut proof = proof.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let left = || std::fs::read_dir(&temporary).unwrap().count();
        while left() == 0 {
            assert!(proof.try_wait().unwrap().is_none(), "the proof has ended");
            std::thread::sleep(Duration::from_millis(2));
        }
        send(&proof, signal);
        let ended = proof.wait().unwrap().code();
        if ended != Some(code) || left() > 0 {
            failures.push(format!("{signal}: ended with {ended:?}, {} left", left()));
        }
    }
    conclude("a signal in a proof of going on", SIGNALS.len(), &failures);
}

#[test]
fn a_paused_run_goes_on() {
    undisturbed();
    let dir = tempdir();
    let out_dir = dir.path().join("out");
    let mut child = start(&out_dir, false);
    let said = signalled(&mut child, &["STOP", "CONT"], |line| line.starts_with("iter "));
    let outcome = stopped(&out_dir, child, &said, 0);
    conclude("a pause", 1, &outcome.err().into_iter().collect::<Vec<_>>());
}
