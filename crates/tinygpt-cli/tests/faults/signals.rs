//! Signals while a run starts, trains, evaluates, samples and saves; repeated signals; a later second
//! signal; and a pause.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::{begun, end, nothing_lost, reported, tempdir, train, undisturbed};
use crate::report::{Random, conclude, concurrently, times};

fn send(child: &Child, signal: &str) {
    // The process may have ended by itself: then nothing is sent.
    let id = child.id().to_string();
    let _ = Command::new("kill").args(["-s", signal, &id]).stderr(Stdio::null()).status().unwrap();
}

/// A deep model, so that an evaluation of many batches takes most of the time.
const LONG_EVALUATION: &str = "--n-layer 32 --n-embd 64 --eval-iters 1000000";

/// A step of about a second, in which nothing can be broken off.
const LONG_STEP: &str = "--n-layer 24 --n-embd 64 --batch-size 120 --gradient-accumulation-steps 1 \
    --checkpoint-interval 1000 --eval-interval 1000";

/// The run, with changes.
fn start(out_dir: &Path, changes: &str) -> Child {
    let mut train = train(out_dir);
    train.args(changes.split_whitespace());
    train.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What the run printed, line by line, until `is_moment`, when it gets `signals`; then the rest.
fn signalled(child: &mut Child, signals: &[&str], is_moment: impl Fn(&str) -> bool) -> String {
    let mut printed = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    for line in lines.by_ref().map(Result::unwrap) {
        let is_now = is_moment(&line);
        printed += &(line + "\n");
        if is_now {
            signals.iter().for_each(|signal| send(child, signal));
            break;
        }
    }
    lines.for_each(|line| printed += &(line.unwrap() + "\n"));
    printed
}

/// Checks a run that was asked to stop: its exit code, that it saved what it made, and the rest.
fn stopped(out_dir: &Path, mut child: Child, printed: &str, code: i32) -> Result<(), String> {
    let ended = child.wait().unwrap().code();
    // 0: it came when all was done.
    if ended != Some(code) && !(ended == Some(0) && printed.contains("done: ")) {
        return Err(format!("ended with {ended:?}, expected {code}: {printed}"));
    }
    if printed.contains("all of them are saved") {
        all_is_saved(out_dir, printed)?;
    }
    nothing_lost(out_dir, reported(printed))
}

/// Checks that a run has saved every step that it has reported.
fn all_is_saved(out_dir: &Path, printed: &str) -> Result<(), String> {
    let made = printed.lines().filter(|line| line.starts_with("iter ")).count() as u64;
    let saved = end(out_dir)?.step();
    if saved != made || !printed.contains("--init-from resume --out-dir ") {
        return Err(format!("{made} steps were made, {saved} saved: {printed}"));
    }
    Ok(())
}

const SIGNALS: [(&str, i32); 3] = [("INT", 130), ("TERM", 143), ("HUP", 129)];

/// The moments, each by the line after which a signal is sent, with changes of the run.
const PHASES: [(&str, &str, &str); 8] = [
    ("starting", "model ", ""),
    ("in a step", "iter  3", ""),
    ("in the first steps", "eval 0", ""),
    ("in a step with a save", "iter  5", ""),
    ("after a save", "saved ", ""),
    ("in the last evaluation", "iter 23", ""),
    ("in a sample", "eval 4", "--sample-at-eval true"),
    ("in the last words", "done: ", ""),
];

#[test]
fn a_signal_in_any_phase_ends_the_run_with_everything_saved() {
    undisturbed();
    let (mut n_tried, mut failures) = (0, Vec::new());
    for round in 0..times(1, 4) {
        for (i, (phase, line, changes)) in PHASES.into_iter().enumerate() {
            let (signal, code) = SIGNALS[(i + round) % 3];
            let dir = tempdir();
            let out_dir = dir.path().join("out");
            let mut child = start(&out_dir, changes);
            let printed = signalled(&mut child, &[signal], |printed| printed.starts_with(line));
            n_tried += 1;
            let outcome = stopped(&out_dir, child, &printed, code);
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
    let mut child = start(&out_dir, LONG_EVALUATION);
    let printed = signalled(&mut child, &[signal], |printed| printed.starts_with("output "));
    let ended = child.wait().unwrap().code();
    if ended != Some(code) || !printed.contains("all of them are saved") {
        return Err(format!("{signal}: ended with {ended:?}: {printed}"));
    }
    Ok(!printed.lines().any(|line| line.starts_with("eval ")))
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
        let mut child = start(&out_dir, "");
        let delay = Duration::from_micros(random.next() % 400_000);
        std::thread::sleep(delay);
        let (signal, code) = SIGNALS[random.below(3)];
        let twice = random.below(2) == 0;
        send(&child, signal);
        if twice {
            send(&child, signal);
        }
        let printed = signalled(&mut child, &[], |_| false);
        // Before the handler is there, a signal does what it does to any program.
        let outcome = if printed.is_empty() {
            child.wait().unwrap();
            nothing_lost(&out_dir, 0)
        } else {
            stopped(&out_dir, child, &printed, code)
        };
        let what = format!("{signal}, twice: {twice}, after {delay:?}");
        failures.extend(outcome.err().map(|why| format!("{what}: {why}")));
    }
    conclude("one signal or two at random moments", n, &failures);
}

/// Signals that come closer together than this may be taken in either order: the system hands over
/// those that wait by their number, and the program looks 50 times a second.
const ONE_LOOK: Duration = Duration::from_millis(25);

/// A signal and, after a gap, another one, as schedulers and `timeout` send them.
fn doubled(number: usize) -> Result<(), String> {
    let mut random = Random::of("doubled signals", number);
    let dir = tempdir();
    let out_dir = dir.path().join("out");
    let (first, code) = SIGNALS[random.below(3)];
    let (second, code_of_second) = SIGNALS[random.below(3)];
    let gap = Duration::from_millis(random.next() % 901);
    let is_slow = random.below(4) > 0;
    let mut child = start(&out_dir, if is_slow { LONG_STEP } else { "--max-iters 1000000" });
    let after = format!("iter {}", random.below(if is_slow { 2 } else { 8 }));
    let after = after.replace("iter ", if is_slow { "iter  " } else { "iter       " });
    // By a shell, so that the gap is not made longer by starting a process for the second.
    let id = child.id();
    let script =
        format!("kill -s {first} {id}; sleep {}; kill -s {second} {id}", gap.as_secs_f64());
    let mut sender = None;
    let mut printed = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap) {
        if sender.is_none() && line.starts_with(&after) {
            let mut shell = Command::new("sh");
            sender = Some(shell.args(["-c", &script]).stderr(Stdio::null()).spawn().unwrap());
        }
        printed += &(line + "\n");
    }
    let ended = child.wait().unwrap().code();
    let _ = sender.ok_or("the moment never came")?.wait();
    let what = format!("{first}, {gap:?}, {second}, slow: {is_slow}");
    let is_expected = ended == Some(code) || gap < ONE_LOOK && ended == Some(code_of_second);
    if !is_expected || !printed.contains("all of them are saved") {
        return Err(format!("{what}: ended with {ended:?}, expected {code}: {printed}"));
    }
    all_is_saved(&out_dir, &printed).map_err(|why| format!("{what}: {why}"))
}

#[test]
fn doubled_signals_are_one_and_everything_is_saved() {
    let n = times(6, 200);
    let failures = concurrently(2, n, doubled);
    conclude("a signal that is repeated within 0 to 900 ms", n, &failures);
}

/// The run is held up between the two, so that its step is not over by the second.
fn ended_by_a_second_signal((signal, code): (&str, i32)) -> Result<(), String> {
    let dir = tempdir();
    let out_dir = dir.path().join("out");
    let mut child = start(&out_dir, LONG_STEP);
    let mut printed = String::new();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    for line in lines.map(Result::unwrap) {
        if line.starts_with("iter  1") {
            send(&child, signal);
        } else if line.starts_with("stopping ") {
            send(&child, "STOP");
            std::thread::sleep(Duration::from_millis(1400));
            send(&child, signal);
            send(&child, "CONT");
        }
        printed += &(line + "\n");
    }
    let ended = child.wait().unwrap().code();
    let is_reported = printed.contains("exiting without saving; there is no checkpoint");
    if ended != Some(code) || !is_reported || printed.contains("saved in") {
        return Err(format!("{signal}: ended with {ended:?}: {printed}"));
    }
    Ok(())
}

#[test]
fn a_second_signal_that_is_meant_ends_the_run_at_once() {
    let failures = SIGNALS.into_iter().filter_map(|signal| ended_by_a_second_signal(signal).err());
    let failures: Vec<String> = failures.collect();
    conclude("a second signal more than a second later", SIGNALS.len(), &failures);
}

/// While a run that is resumed reads its checkpoint, this is all there is.
#[test]
fn a_signal_while_a_run_is_resumed_loses_nothing() {
    undisturbed();
    let n = times(3, 30);
    let mut failures = Vec::new();
    for number in 0..n {
        let mut random = Random::of("resumed", number);
        let dir = begun(8);
        let out_dir = dir.path().join("out");
        let child = start(&out_dir, "");
        let delay = Duration::from_micros(random.next() % 120_000);
        std::thread::sleep(delay);
        let (signal, _) = SIGNALS[random.below(3)];
        send(&child, signal);
        child.wait_with_output().unwrap();
        failures.extend(nothing_lost(&out_dir, 8).err().map(|why| format!("{delay:?}: {why}")));
    }
    conclude("a signal while a run is resumed", n, &failures);
}

/// `nohup train &`, and the terminal is closed.
#[test]
#[cfg(target_os = "linux")]
fn a_signal_that_is_to_be_ignored_is() {
    let dir = tempdir();
    let train = train(&dir.path().join("out"));
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(train.get_program());
    shell.args(train.get_args()).current_dir(train.get_current_dir().unwrap());
    let mut child = shell.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let printed = signalled(&mut child, &["HUP"], |line| line.starts_with("iter  3"));
    let ended = child.wait().unwrap().code();
    assert!(ended == Some(0) && printed.contains("done: "), "{ended:?}: {printed}");
}

#[test]
fn a_signal_in_a_proof_of_resuming_leaves_nothing() {
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
    conclude("a signal in a proof of resuming", SIGNALS.len(), &failures);
}

#[test]
fn a_paused_run_resumes() {
    undisturbed();
    let dir = tempdir();
    let out_dir = dir.path().join("out");
    let mut child = start(&out_dir, "");
    let printed = signalled(&mut child, &["STOP", "CONT"], |line| line.starts_with("iter "));
    let outcome = stopped(&out_dir, child, &printed, 0);
    conclude("a pause", 1, &outcome.err().into_iter().collect::<Vec<_>>());
}
