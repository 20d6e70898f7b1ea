//! Several trainers started at once in one directory: one trains, the others are refused.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::{reported, tempdir, train};
use crate::program::run_command;
use crate::report::{Random, conclude, concurrently, times};

/// Starts a run that does not end by itself.
fn start(out_dir: &Path) -> Child {
    let mut train = train(out_dir);
    train.args(["--max-iters", "1000000000", "--checkpoint-interval", "50"]);
    train.args(["--eval-interval", "1000000"]);
    train.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What a process printed until it ended.
fn printed(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

/// One race. All are killed in the end, and the lock must be free for the next.
fn race(number: usize) -> Result<(), String> {
    let mut random = Random::of("races", number);
    let dir = tempdir();
    let out_dir = dir.path().join("out");
    let n = if number % 10 == 9 { 5 } else { 2 };
    let mut racers: Vec<Child> = Vec::new();
    for _ in 0..n {
        racers.push(start(&out_dir));
        std::thread::sleep(Duration::from_micros(random.next() % 20_000));
    }
    let begin = Instant::now();
    let mut refused = vec![false; n];
    // A double start shows in nobody being refused: nobody ends by himself.
    while refused.iter().filter(|is| **is).count() < n - 1 && begin.elapsed().as_secs() < 20 {
        for (racer, is_refused) in racers.iter_mut().zip(&mut refused) {
            *is_refused = racer.try_wait().unwrap().is_some();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut outcome = Ok(());
    let mut last = 0;
    for (racer, is_refused) in racers.iter_mut().zip(&refused) {
        // The one that trains has nothing to say yet that we would wait for.
        let _ = racer.kill();
        let code = racer.wait().unwrap().code();
        let printed = printed(racer);
        last = reported(&printed).max(last);
        if *is_refused && (code != Some(7) || !printed.contains("in use by another")) {
            outcome = Err(format!("one ended with {code:?}: {printed}"));
        }
    }
    let n_refused = refused.iter().filter(|is| **is).count();
    if n_refused != n - 1 {
        return Err(format!("{n} were started, {n_refused} refused"));
    }
    outcome?;
    let mut next = train(&out_dir);
    let again = run_command(next.args(["--max-iters", &(last + 1).to_string()]));
    if again.code == 0 { Ok(()) } else { Err(format!("the next is refused: {}", again.stderr)) }
}

#[test]
fn of_several_trainers_in_one_directory_one_trains() {
    let n_races = times(6, 100);
    // Most of a race is waiting for the lock.
    let failures = concurrently(3, n_races, race);
    conclude("races of 2 or 5 trainers for one directory", n_races, &failures);
}
