//! Runs whose files were edited, copied or renamed.

use std::fs;

use crate::common::{begun, end, home, train, undisturbed};
use crate::program::{copy_tree, run_command};
use crate::report::conclude;

/// A change of the lines of `metrics.jsonl`, and what the resumed run says about it.
type Edit = (fn(&mut Vec<String>), &'static [&'static str]);

const EDITS: [Edit; 6] = [
    (|lines| lines.insert(4, "# a note".to_owned()), &["metrics.jsonl", "dropped: 5"]),
    (|lines| lines.insert(0, String::new()), &["dropped: 1"]),
    (|lines| lines[2] = "{\"event\":\"st".to_owned(), &["dropped: 3", "no losses of steps 1"]),
    (|lines| lines[2] = "\0\0\0\u{fffd}".to_owned(), &["dropped: 3", "no losses of steps 1"]),
    (|lines| drop(lines.drain(2..4)), &["no losses of steps 1 to 2"]),
    (|lines| lines.clear(), &["no losses of steps 0 to 7"]),
];

#[test]
fn the_good_lines_of_the_metrics_are_kept_and_gaps_are_reported() {
    let mut failures = Vec::new();
    for (i, (edit, says)) in EDITS.into_iter().enumerate() {
        let begun = begun(8);
        let out_dir = begun.path().join("out");
        let path = out_dir.join("metrics.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        edit(&mut lines);
        let kept: Vec<String> = lines
            .iter()
            .filter(|line| text.contains(line.as_str()) && !line.is_empty())
            .filter(|line| line.ends_with('}'))
            .cloned()
            .collect();
        match lines.is_empty() {
            true => fs::remove_file(&path).unwrap(),
            false => fs::write(&path, lines.join("\n") + "\n").unwrap(),
        }
        let ran = run_command(&mut train(&out_dir)).ok();
        if says.iter().any(|word| !ran.stderr.contains(word)) {
            failures.push(format!("edit {i}: does not say {says:?}: {}", ran.stderr));
        }
        let now = fs::read_to_string(&path).unwrap();
        let now: Vec<&str> = now.lines().filter(|line| !line.contains("\"resume\"")).collect();
        if !now.starts_with(&kept.iter().map(String::as_str).collect::<Vec<_>>()) {
            failures.push(format!("edit {i}: good lines are lost"));
        }
        if now.len() != kept.len() + (24 - 8) + (7 - 3) {
            failures.push(format!("edit {i}: {} lines, {} were good", now.len(), kept.len()));
        }
    }
    conclude("metrics with strange or missing lines", EDITS.len(), &failures);
}

#[test]
fn a_checkpoint_that_was_copied_to_another_number_is_not_resumed() {
    let mut failures = Vec::new();
    for name in ["step-00000020", "step-18446744073709551615", "step-99999999"] {
        let begun = begun(8);
        let out_dir = begun.path().join("out");
        let copy = out_dir.join("checkpoints").join(name);
        fs::create_dir(&copy).unwrap();
        copy_tree(&out_dir.join("checkpoints/step-00000006"), &copy);
        fs::remove_file(out_dir.join("last")).unwrap();
        fs::remove_file(out_dir.join("best")).unwrap();
        let mut sample = crate::program::command("sample", home());
        sample.args(["--checkpoint", "last", "--max-new-tokens", "3", "--out-dir"]).arg(&out_dir);
        let read = run_command(&mut sample);
        let ran = run_command(&mut train(&out_dir)).ok();
        let is_reported =
            ran.stderr.contains("CHECKPOINT SKIPPED") && ran.stderr.contains("is of step 6");
        if !is_reported || !ran.stderr.contains("step-00000008") || ran.stderr.contains("are lost")
        {
            failures.push(format!("{name}: {}", ran.stderr));
        }
        if read.stderr.contains(name) {
            failures.push(format!("{name} is read: {}", read.stderr));
        }
        failures.extend(end(&out_dir).unwrap().differs_from(undisturbed()));
    }
    // Damage under an absurd number loses no absurd number of steps.
    let begun = begun(8);
    let absurd = begun.path().join("out/checkpoints/step-18446744073709551615");
    fs::create_dir(&absurd).unwrap();
    fs::write(absurd.join("state.json"), "{}").unwrap();
    let ran = run_command(&mut train(&begun.path().join("out"))).ok();
    if ran.stderr.contains("184467440737095516") && !ran.stderr.contains("the steps after it") {
        failures.push(ran.stderr);
    }
    conclude("checkpoints copied to a higher number", 4, &failures);
}
