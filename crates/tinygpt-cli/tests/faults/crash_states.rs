//! A power cut at every system call, on a disk that keeps only what was synced.
//!
//! ext4 hides a missing sync of a directory, another file system may not. Needs no root. Power cuts on
//! a real ext4 are in `power_cuts.rs`.

use crate::common::{MAX_ITERS, reported, tempdir, train};
use crate::disk::{Disk, Id, Left};
use crate::program::run_command;
use crate::report::{conclude, skip};
use crate::trace::{Call, calls, under_strace, why_not};

/// All files of a checkpoint.
const FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "manifest.json",
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// The run's directory below the disk's root: none of the three is there at first.
const OUT: &str = "a/new/place";

/// What a run has reported: the last step that it saved, and the last one that was the best.
#[derive(Default)]
struct Reported {
    saved: u64,
    best: u64,
}

impl Reported {
    /// Reads what a call writes to the terminal.
    fn read(&mut self, call: &Call) {
        if call.name == "write" {
            let line = call.quoted()[0];
            let step = reported(line);
            self.saved = self.saved.max(step);
            if line.contains(", best so far") {
                self.best = self.best.max(step);
            }
        }
    }
}

/// Whether `dir` is a checkpoint with all of its files.
fn is_whole(left: &Left<'_>, dir: &str) -> bool {
    FILES.iter().all(|file| left.has_whole(&format!("{dir}/{file}")))
}

/// The steps of the whole checkpoints, oldest first.
fn whole_steps(left: &Left<'_>) -> Vec<u64> {
    let checkpoints = format!("{OUT}/checkpoints");
    let steps = left.names(&checkpoints).into_keys().filter_map(|name| {
        let step = name.strip_prefix("step-")?.parse::<u64>().ok()?;
        is_whole(left, &format!("{checkpoints}/{name}")).then_some(step)
    });
    steps.collect()
}

/// Judges one outcome of a power cut after what was `reported_steps`.
fn judge(left: &Left<'_>, reported_steps: &Reported) -> Result<(), String> {
    let newest = whole_steps(left).last().copied().unwrap_or(0);
    let &Reported { saved, best } = reported_steps;
    if newest < saved {
        return Err(format!("step {saved} was reported as saved, {newest} is left"));
    }
    for (name, step_reported) in [("last", saved), ("best", best)] {
        let Some(target) = left.target(&format!("{OUT}/{name}")) else {
            if step_reported > 0 {
                return Err(format!("step {step_reported} was reported, and there is no `{name}`"));
            }
            continue;
        };
        if !is_whole(left, &format!("{OUT}/{target}")) {
            return Err(format!("`{name}` points at {target}, which is not there"));
        }
        let step = target.rsplit_once("step-").and_then(|(_, step)| step.parse().ok());
        if step < Some(step_reported) {
            return Err(format!(
                "step {step_reported} was reported, and `{name}` points at {target}"
            ));
        }
    }
    Ok(())
}

/// What must hold when `call` is about to be made.
fn judge_call(disk: &Disk, call: &Call) -> Result<(), String> {
    let quoted = call.quoted();
    let (true, [from, to]) = (call.name.starts_with("rename") && call.is_ok, &quoted[..]) else {
        return Ok(());
    };
    let inside = |path: &str| path.split_once(OUT).map(|(_, rest)| format!("{OUT}{rest}"));
    let is_temporary = to.contains("/.tmp-");
    if let Some(id) = inside(from).and_then(|from| disk.find(&from))
        && !is_temporary
        && !from.contains("step-")
        && !disk.is_synced(id)
    {
        return Err(format!("{to} is replaced by a file that is not synced"));
    }
    let is_publication = from.contains("/.tmp-step-") && to.contains("checkpoints/step-");
    let metrics = disk.find(&format!("{OUT}/metrics.jsonl")).filter(|id| !disk.is_synced(*id));
    if is_publication && metrics.is_some() {
        return Err(format!("{to} gets its name before the metrics that belong to it are synced"));
    }
    Ok(())
}

/// Traces a run that keeps `n_kept` checkpoints, and one that resumes after it with everything that a
/// new process does. Adds what is wrong after a power cut to `failures`; returns how many it tried.
fn cut_everywhere(n_kept: &str, failures: &mut Vec<String>) -> usize {
    let dir = tempdir();
    let root = dir.path().canonicalize().unwrap().join("disk");
    std::fs::create_dir(&root).unwrap();
    let mut disk = Disk::new(root.to_str().unwrap());
    let out_dir = root.join(OUT);
    let (mut n_tried, mut reported_steps) = (0, Reported::default());
    for max_iters in [MAX_ITERS / 2, MAX_ITERS] {
        let log = dir.path().join("strace");
        let mut run = train(&out_dir);
        run.args(["--max-iters", &max_iters.to_string(), "--keep-checkpoints", n_kept]);
        run_command(&mut under_strace(&run, &log, &[])).ok();
        for call in calls(&log) {
            let mut judged = judge_call(&disk, &call);
            disk.apply(&call);
            reported_steps.read(&call);
            for left in disk.after_a_power_cut() {
                n_tried += 1;
                judged = judged.and_then(|()| judge(&left, &reported_steps));
            }
            if let Err(what) = judged {
                let Call { name, args, .. } = call;
                failures.push(format!("after {name}({args}), {n_kept} kept: {what}"));
            }
        }
    }
    assert!(reported_steps.saved == MAX_ITERS && reported_steps.best > 0);
    n_tried
}

/// Judges one outcome of a power cut while a run takes the place of an earlier one: the steps of the
/// new run are odd. `old_metrics` are those of the earlier run.
fn judge_replacement(
    left: &Left<'_>,
    reported: &Reported,
    old_metrics: Option<Id>,
) -> Result<(), String> {
    let steps = whole_steps(left);
    let (new, old): (Vec<u64>, Vec<u64>) = steps.iter().partition(|step| *step % 2 == 1);
    match (new.is_empty(), old.is_empty()) {
        (true, true) => return Err("no checkpoint of either run is left".to_owned()),
        (false, false) => return Err(format!("checkpoints of both runs: {steps:?}")),
        (true, false) if reported.saved > 0 => {
            return Err(format!(
                "step {} was reported, and the earlier run is left",
                reported.saved
            ));
        }
        (true, false) if old.last() != Some(&MAX_ITERS) => {
            return Err(format!("of the earlier run only {old:?} are left"));
        }
        // A reader finds the newest checkpoint where a link is missing.
        (true, false) => return Ok(()),
        (false, true) => {}
    }
    // The metrics come with the checkpoints and move to their place after it.
    let is_old = left.find(&format!("{OUT}/metrics.jsonl")) == old_metrics;
    if is_old && !left.has_whole(&format!("{OUT}/checkpoints/metrics.jsonl")) {
        return Err("the new run's checkpoints with the earlier run's metrics".to_owned());
    }
    judge(left, reported)
}

/// Traces a run that takes the place of another, as far as its second checkpoint. Adds what is wrong
/// after a power cut to `failures`; returns how many it tried.
fn cut_a_replacement(failures: &mut Vec<String>) -> usize {
    let dir = tempdir();
    let root = dir.path().canonicalize().unwrap().join("disk");
    std::fs::create_dir(&root).unwrap();
    let mut disk = Disk::new(root.to_str().unwrap());
    let (out_dir, log) = (root.join(OUT), dir.path().join("strace"));
    run_command(&mut under_strace(&train(&out_dir), &log, &[])).ok();
    calls(&log).iter().for_each(|call| disk.apply(call));
    let old_metrics = disk.find(&format!("{OUT}/metrics.jsonl"));
    assert!(old_metrics.is_some());
    let mut over = train(&out_dir);
    over.args("--init-from scratch --overwrite --max-iters 5 --eval-interval 5".split(' '));
    over.args("--checkpoint-interval 3 --learning-rate 0.02".split(' '));
    run_command(&mut under_strace(&over, &log, &[])).ok();
    let (mut n_tried, mut reported) = (0, Reported::default());
    for call in calls(&log) {
        disk.apply(&call);
        reported.read(&call);
        let mut judged = Ok(());
        for left in disk.after_a_power_cut() {
            n_tried += 1;
            judged = judged.and_then(|()| judge_replacement(&left, &reported, old_metrics));
        }
        if let Err(what) = judged {
            failures.push(format!("after {}({}): {what}", call.name, call.args));
        }
    }
    assert_eq!(reported.saved, 5);
    n_tried
}

#[test]
fn a_power_cut_in_a_replacement_leaves_the_earlier_run_or_the_new_one() {
    const WHAT: &str = "power cut at each system call of `--overwrite`, strict model of a disk";
    if let Some(why) = why_not() {
        return skip(WHAT, why);
    }
    let mut failures = Vec::new();
    let n_tried = cut_a_replacement(&mut failures);
    conclude(WHAT, n_tried, &failures);
}

#[test]
fn a_power_cut_at_any_system_call_loses_nothing_that_was_reported() {
    const WHAT: &str = "power cut at each system call, strict model of a disk";
    if let Some(why) = why_not() {
        return skip(WHAT, why);
    }
    let mut failures = Vec::new();
    // With one checkpoint kept nothing may go before both links have left it.
    let n_tried = ["2", "1"].map(|n_kept| cut_everywhere(n_kept, &mut failures)).iter().sum();
    conclude(WHAT, n_tried, &failures);
}
