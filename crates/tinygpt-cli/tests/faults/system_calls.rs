//! A kill, a signal or an error at each system call of a run that saves.
//!
//! The run resumes from step 4, saves often and ends. It is traced once; then for each of its
//! calls that changes a file it runs again with a fault right there.

use std::path::Path;

use crate::common::{begun, end, nothing_lost, reported, tempdir, train, undisturbed};
use crate::program::{copy_tree, run_command};
use crate::report::{Random, conclude, is_full, skip, times};
use crate::trace::{Call, calls, under_strace, why_not};

/// The calls of the run from step 4 to step 8 that change a file, in `begun` or elsewhere.
fn points(begun: &Path) -> Vec<Call> {
    let dir = tempdir();
    copy_tree(begun, dir.path());
    let out_dir = dir.path().join("out");
    let log = dir.path().join("strace");
    let mut run = train(&out_dir);
    run.args(UNTIL);
    run_command(&mut under_strace(&run, &log, &[])).ok();
    calls(&log).into_iter().filter(Call::changes).collect()
}

/// Two interval checkpoints, an evaluation with a best one, and the removal of older ones.
const UNTIL: [&str; 2] = ["--max-iters", "8"];

/// All of the points, or in the quick set some of them, spread over the run.
fn chosen(purpose: &str, points: Vec<Call>, quick: usize) -> Vec<Call> {
    if is_full() {
        return points;
    }
    let mut random = Random::of(purpose, 0);
    let n = quick.min(points.len());
    (0..n)
        .map(|i| {
            let (from, to) = (i * points.len() / n, (i + 1) * points.len() / n);
            points[from + random.below(to - from)].clone()
        })
        .collect()
}

/// What happened to one run: the call with the fault, the exit code (none if killed), what it printed.
struct Struck {
    call: Call,
    code: Option<i32>,
    stderr: String,
}

/// Runs from a copy of `begun` with a fault at `call`, calls `judge`, and resumes.
fn strike(
    begun: &Path,
    call: &Call,
    fault: &str,
    judge: &dyn Fn(&Path, &Struck) -> Result<(), String>,
) -> Result<(), String> {
    let dir = tempdir();
    copy_tree(begun, dir.path());
    let out_dir = dir.path().join("out");
    let mut run = train(&out_dir);
    run.args(UNTIL);
    let fault = format!("{}:{fault}:when={}", call.name, call.nth);
    let output = under_strace(&run, &dir.path().join("strace"), std::slice::from_ref(&fault))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let struck = Struck { call: call.clone(), code: output.status.code(), stderr };
    let last = reported(&struck.stderr).max(4);
    judge(&out_dir, &struck)
        .and_then(|()| nothing_lost(&out_dir, last))
        .map_err(|what| format!("{fault} ({}): {what}\n{}", call.args, struck.stderr))
}

fn strike_all(
    what: &str,
    points: Vec<(Call, String)>,
    begun: &Path,
    judge: &dyn Fn(&Path, &Struck) -> Result<(), String>,
) {
    undisturbed();
    let struck = points.iter().map(|(call, fault)| strike(begun, call, fault, judge));
    let failures: Vec<String> = struck.filter_map(Result::err).collect();
    conclude(what, points.len(), &failures);
}

#[test]
fn a_kill_at_any_system_call_loses_nothing() {
    const WHAT: &str = "kill -9 at each system call that changes a file";
    if let Some(why) = why_not() {
        return skip(WHAT, why);
    }
    let begun = begun(4);
    let points = chosen(WHAT, points(begun.path()), 16);
    let points = points.into_iter().map(|call| (call, "signal=SIGKILL".to_owned())).collect();
    strike_all(WHAT, points, begun.path(), &|_, struck| match struck.code {
        None => Ok(()),
        Some(code) => Err(format!("ended with {code}, not killed")),
    });
}

#[test]
fn a_signal_at_any_system_call_ends_with_everything_saved() {
    const WHAT: &str = "SIGINT, SIGTERM or SIGHUP at each system call";
    if let Some(why) = why_not() {
        return skip(WHAT, why);
    }
    let begun = begun(4);
    let points = chosen(WHAT, points(begun.path()), 9);
    let signal = |i: usize| ["signal=SIGINT", "signal=SIGTERM", "signal=SIGHUP"][i % 3].to_owned();
    let points = points.into_iter().enumerate().map(|(i, call)| (call, signal(i))).collect();
    strike_all(WHAT, points, begun.path(), &|out_dir, struck| {
        // 0: it came when all was done but the last words.
        if !matches!(struck.code, Some(0 | 129 | 130 | 143)) {
            return Err(format!("ended with {:?}", struck.code));
        }
        let is_promised = struck.stderr.contains("all of them are saved");
        let made = struck.stderr.lines().filter(|line| line.starts_with("iter ")).count() as u64;
        let saved = end(out_dir)?.step();
        if is_promised && saved != 4 + made {
            return Err(format!("{made} steps were made from 4 on, {saved} are saved"));
        }
        Ok(())
    });
}

#[test]
fn an_error_of_any_system_call_is_reported_and_loses_nothing() {
    const WHAT: &str = "ENOSPC or EIO at each write, sync, rename and removal";
    if let Some(why) = why_not() {
        return skip(WHAT, why);
    }
    let begun = begun(4);
    // Not what is written to the terminal about it.
    let is_ours = |call: &Call| !call.args.contains("pipe:") && call.args.contains("/out");
    let points = points(begun.path()).into_iter().filter(is_ours).collect();
    let points = chosen(WHAT, points, times(12, 0));
    let errors = |(i, call): (usize, Call)| {
        let both = ["ENOSPC", "EIO"].map(|error| (call.clone(), format!("error={error}")));
        let wanted = if is_full() { &both[..] } else { &both[i % 2..=i % 2] };
        wanted.to_vec()
    };
    let points = points.into_iter().enumerate().flat_map(errors).collect();
    strike_all(WHAT, points, begun.path(), &|_, struck| {
        // A file takes the place of a link that cannot be made; a drawing is made again.
        let is_harmless = struck.call.name == "symlink" || struck.call.args.contains("loss.svg");
        let is_reported = struck.stderr.contains("(os error ") || is_harmless;
        match struck.code {
            Some(0) if is_reported => Ok(()),
            Some(4) if is_reported && struck.stderr.contains("error: ") => Ok(()),
            code if is_reported => Err(format!("ended with {code:?}")),
            code => Err(format!("ended with {code:?}, and does not say what the system printed")),
        }
    });
}
