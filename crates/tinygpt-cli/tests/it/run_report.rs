//! `train --report` as a program.

use std::fs;

use crate::program::{check_all, copy_tree, run, trained};

#[test]
fn a_report_is_written_for_good_runs_only() {
    let dir = trained();
    let ran = run("train", dir.path(), "--report out out").ok();
    assert!(ran.stderr.contains("wrote report.html"), "{}", ran.stderr);
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("Equal: 20 steps, 3 evaluations and 3 samples"), "{page}");
    run("train", dir.path(), "--report out").ok();
    fs::remove_file(dir.path().join("report.html")).unwrap();
    let bad = dir.path().join("bad");
    fs::create_dir(&bad).unwrap();
    copy_tree(&dir.path().join("out"), &bad);
    let metrics = bad.join("metrics.jsonl");
    fs::write(&metrics, fs::read_to_string(&metrics).unwrap().replacen('{', "", 1)).unwrap();
    fs::write(dir.path().join("c.json"), "{\"report\": \"out\"}").unwrap();
    check_all(
        "train",
        dir.path(),
        &[
            ("--report bad", 3, &["bad/metrics.jsonl line 1", "not a record", "hint: "]),
            ("--report out bad", 3, &["bad/metrics.jsonl line 1"]),
            ("--report none", 2, &["none holds no metrics.jsonl", "hint: name the --out-dir"]),
            ("--report data", 2, &["data holds no metrics.jsonl"]),
            ("--report", 2, &["--report <DIR>"]),
            ("--report out --verify-resume", 2, &["--report", "--verify-resume"]),
            ("--config-file c.json", 2, &["`report`", "a list of paths"]),
        ],
    );
    assert!(!dir.path().join("report.html").exists());
}
