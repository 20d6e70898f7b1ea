//! Five kills in a row at random moments: the run ends as if it had not been killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{nothing_lost, reported, tempdir, train, undisturbed};
use crate::report::{Random, conclude, is_full, times};

/// Kills of one chain.
const LENGTH: usize = 5;

/// A moment in a run: after some number of lines about steps, evaluations and saves, and then so long.
/// Lines, because they come as fast as the machine is.
#[derive(Debug, Clone, Copy)]
struct Moment {
    n_lines: usize,
    delay: Duration,
}

impl Moment {
    /// One of three comes while the program starts; five together seldom reach the run's end.
    fn draw(random: &mut Random) -> Self {
        let n_lines = random.below(15).saturating_sub(4);
        let most = if n_lines == 0 { 150_000 } else { 25_000 };
        Self { n_lines, delay: Duration::from_micros(random.next() % most) }
    }
}

/// Starts the run and kills it at `moment`. Whether it was still alive, and what it printed.
fn killed_at(out_dir: &Path, moment: Moment) -> (bool, String) {
    let mut train = train(out_dir);
    let child = train.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let mut printed = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut n_lines = 0;
    while n_lines < moment.n_lines {
        let Some(line) = lines.next().map(Result::unwrap) else { break };
        n_lines += usize::from(["iter ", "eval ", "saved "].iter().any(|w| line.starts_with(w)));
        printed += &(line + "\n");
    }
    std::thread::sleep(moment.delay);
    let was_alive = child.try_wait().unwrap().is_none();
    // Ended in between: then there is nothing to kill.
    let _ = child.kill();
    child.wait().unwrap();
    lines.for_each(|line| printed += &(line.unwrap() + "\n"));
    (was_alive, printed)
}

/// One chain; the number of kills that hit, or what was lost.
fn chain(number: usize) -> Result<usize, String> {
    let mut random = Random::of("chains", number);
    let dir = tempdir();
    let out_dir = dir.path().join("out");
    let (mut n_kills, mut last, mut moments) = (0, 0, Vec::new());
    for _ in 0..LENGTH {
        let moment = Moment::draw(&mut random);
        moments.push(moment);
        let (was_alive, stderr) = killed_at(&out_dir, moment);
        n_kills += usize::from(was_alive);
        last = reported(&stderr).max(last);
    }
    nothing_lost(&out_dir, last)
        .map_err(|what| format!("chain {number}, killed at {moments:?}: {what}"))?;
    Ok(n_kills)
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_been() {
    undisturbed();
    let n_chains = times(4, 200);
    let (mut n_kills, mut failures) = (0, Vec::new());
    for number in 0..n_chains {
        match chain(number) {
            Ok(kills) => n_kills += kills,
            Err(what) => failures.push(what),
        }
    }
    let what = match is_full() {
        true => format!("chains of {LENGTH} kills -9 at random moments ({n_kills} kills hit)"),
        false => "chains of kills".to_owned(),
    };
    conclude(&what, n_chains, &failures);
    // How many hit depends on how fast the machine is just now.
    assert!(n_kills >= n_chains, "only {n_kills} kills hit: the moments are too late");
}
