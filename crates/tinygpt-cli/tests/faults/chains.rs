//! Kills at random moments, five in a row, and the end that the run would have had anyway.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::program::run_command;
use crate::report::{Random, conclude, is_full, times};
use crate::world::{nothing_lost, reported, tempdir, train, undisturbed};

/// Kills of one chain.
const LENGTH: usize = 5;

/// How long the run takes that nobody kills.
fn duration() -> Duration {
    let dir = tempdir();
    let begin = Instant::now();
    run_command(&mut train(&dir.path().join("out"))).ok();
    begin.elapsed()
}

/// Starts the run and kills it after `delay`. Whether it was still alive, and what it said.
fn killed_after(out_dir: &Path, delay: Duration) -> (bool, String) {
    let mut train = train(out_dir);
    let child = train.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    std::thread::sleep(delay);
    let was_alive = child.try_wait().unwrap().is_none();
    // Ended in between: then there is nothing to kill.
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    (was_alive, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// One chain; the number of kills that hit, or what was lost.
fn chain(number: usize, whole: Duration) -> Result<usize, String> {
    let mut random = Random::of("chains", number);
    let dir = tempdir();
    let out_dir = dir.path().join("out");
    let (mut n_kills, mut last, mut delays) = (0, 0, Vec::new());
    for _ in 0..LENGTH {
        // Half of the time a run needs, so that five do not come to its end.
        let delay = whole.mul_f64(0.1 + 0.5 * random.unit());
        delays.push(delay);
        let (was_alive, stderr) = killed_after(&out_dir, delay);
        n_kills += usize::from(was_alive);
        last = reported(&stderr).max(last);
    }
    nothing_lost(&out_dir, last)
        .map_err(|what| format!("chain {number}, killed after {delays:?}: {what}"))?;
    Ok(n_kills)
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_been() {
    undisturbed();
    let whole = duration();
    let n_chains = times(4, 200);
    let (mut n_kills, mut failures) = (0, Vec::new());
    for number in 0..n_chains {
        match chain(number, whole) {
            Ok(kills) => n_kills += kills,
            Err(what) => failures.push(what),
        }
    }
    assert!(n_kills >= n_chains, "only {n_kills} kills hit: the moments are too late");
    let what = match is_full() {
        true => format!("chains of {LENGTH} kills -9 at random moments ({n_kills} hit)"),
        false => "chains of kills".to_owned(),
    };
    conclude(&what, n_chains, &failures);
}
