//! `--plan`, `--budget`, `--find-lr` and `--sweep`: what they print, and what they leave behind.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::program::{Bad, SMALL, check_all, run, snapshot, trained};

/// [`SMALL`] without its number of steps and its directory, with few evaluations.
fn small(extra: &str) -> String {
    let flags = SMALL.replace("--max-iters 20 ", "").replace("--out-dir out ", "");
    format!("{flags} --eval-interval 5000 --sample-at-eval false {extra}")
}

fn state(dir: &Path) -> Value {
    let text = fs::read_to_string(dir.join("new/last/state.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_plan_has_every_row_and_writes_nothing() {
    let dir = trained();
    let before = snapshot(dir.path());
    let args = small("--out-dir new --max-iters 640 --plan");
    let ran = run("train", dir.path(), &args).ok();
    for row in
        ["model    ", "data     ", "step     64 tokens, ", "length   640 steps, 40,960 tokens, "]
    {
        assert!(ran.stdout.contains(row), "{row}: {}", ran.stdout);
    }
    for row in ["memory   host ", "time     ", "loss     no expectation: "] {
        assert!(ran.stdout.contains(row), "{row}: {}", ran.stdout);
    }
    let ran = run("train", dir.path(), &format!("{args} --json")).ok();
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&plan["tokens"], &plan["start_iter"]), (&40_960.into(), &0.into()), "{plan}");
    let number = |key: &str| plan[key].as_f64().unwrap();
    let steps = 640.0 * number("step_seconds") + 2.0 * number("eval_seconds");
    assert!((number("seconds") - steps).abs() < 1e-6, "{plan}");
    // A finished run has nothing left to do.
    let args = "--init-from resume --out-dir out --max-iters 21 --plan --json";
    let plan: Value = serde_json::from_str(&run("train", dir.path(), args).ok().stdout).unwrap();
    assert_eq!(plan["start_iter"], 20);
    assert!(before == snapshot(dir.path()), "something was written");
}

/// `config/chat.json`: rows of conversations, of which some targets are learned.
#[test]
#[cfg(target_os = "linux")]
fn the_estimate_of_memory_is_within_a_tenth_of_the_peak() {
    let dir = tempfile::tempdir().unwrap();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/chat.json");
    // A process of its own: the memory of a preparation would count.
    run("prepare", dir.path(), "--dataset-name tiny_talks --encoding-type bpe").ok();
    for threads in [1, 2] {
        let args = format!(
            "--config-file {config} --max-iters 2 --warmup-iters 1 --eval-interval 1 --eval-iters 1 \
             --threads {threads} --overwrite --json"
        );
        let ran = run("train", dir.path(), &args).ok();
        let line: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
        let peak = line["peak_bytes"].as_f64().unwrap();
        let estimate = ran.stderr.split("tokens, about ").nth(1).unwrap();
        let (number, rest) = estimate.split_once(' ').unwrap();
        assert!(rest.starts_with("MiB of memory"), "{rest}");
        let estimate = number.parse::<f64>().unwrap() * f64::from(1 << 20);
        assert!((estimate / peak - 1.0).abs() < 0.1, "{threads}: {estimate} and {peak} bytes");
    }
}

#[test]
fn a_budget_becomes_a_length_that_is_recorded() {
    let dir = trained();
    let args = small("--out-dir new --init-from auto --budget 4s");
    let ran = run("train", dir.path(), &args).ok();
    assert!(ran.stderr.contains("budget   4.0 s: "), "{}", ran.stderr);
    let first = state(dir.path());
    let config = &first["config"];
    assert_eq!((&config["budget"], &config["lr_schedule"]), (&"4s".into(), &"wsd".into()));
    let length = config["max_iters"].as_u64().unwrap();
    assert_eq!(
        (config["lr_decay_iters"].as_u64(), first["step"].as_u64()),
        (Some(length), Some(length))
    );
    let metrics = fs::read_to_string(dir.path().join("new/metrics.jsonl")).unwrap();
    let mut steps = metrics.lines().filter(|line| line.starts_with("{\"event\":\"step\""));
    let last: Value = serde_json::from_str(steps.next_back().unwrap()).unwrap();
    let (rate, floor) = (last["learning_rate"].as_f64().unwrap(), 1e-4);
    assert!(rate < floor + 9e-4 * 0.2, "the decay has ended: {rate}");
    // The same command has nothing to do; a resumed run keeps its budget, and takes no other.
    let again = run("train", dir.path(), &args).ok();
    assert!(again.stderr.contains("has already finished its "), "{}", again.stderr);
    assert!(!again.stderr.contains("timing"), "{}", again.stderr);
    assert_eq!(state(dir.path()), first);
    let ran = run("train", dir.path(), &small("--out-dir new --init-from resume --budget 5s"));
    let says = "the run in new started with --budget 4s, not 5s";
    assert!(ran.code == 2 && ran.stderr.contains(says), "{}", ran.stderr);
    assert_eq!(state(dir.path()), first);
}

#[test]
fn a_budget_without_a_shape_gets_one_that_fits() {
    let dir = trained();
    let length = "--eval-interval 5000 --eval-iters 1 --budget 20s --plan";
    let args = |extra: &str| format!("--dataset-name text {length} {extra}");
    let ran = run("train", dir.path(), &args("")).ok();
    let note = "note: no shape was given, so the run has n_layer 3, n_head 5, n_embd 160, ";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    assert!(ran.stdout.contains("parameters: 3 layers, 5 heads, width 160"), "{}", ran.stdout);
    assert!(ran.stderr.contains("learning_rate 0.002"), "{}", ran.stderr);
    // What is given stays.
    let ran = run("train", dir.path(), &args("--min-lr 1e-5 --batch-size 2")).ok();
    assert!(ran.stderr.contains(note) && !ran.stderr.contains("_lr "), "{}", ran.stderr);
    assert!(!ran.stderr.contains("learning_rate 0.002"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("batch_size"), "{}", ran.stderr);
    let shape = "--n-layer 1 --block-size 16 --batch-size 2";
    let ran = run("train", dir.path(), &args(&format!("{shape} --n-embd 32 --n-head 2"))).ok();
    assert!(!ran.stderr.contains("no shape"), "{}", ran.stderr);
    assert!(ran.stdout.contains("1 layers, 2 heads, width 32"), "{}", ran.stdout);
}

#[test]
fn a_rising_rate_gives_a_curve_and_a_suggestion() {
    let dir = trained();
    let before = snapshot(dir.path());
    let ran = run("train", dir.path(), &small("--out-dir new --find-lr rates.svg")).ok();
    let rate = ran.stdout.trim().strip_prefix("--learning-rate ").unwrap();
    assert!((1e-5..0.5).contains(&rate.parse::<f64>().unwrap()), "{rate}");
    let svg = fs::read_to_string(dir.path().join("rates.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("learning rate"), "{svg}");
    let mut after = snapshot(dir.path());
    after.remove(&dir.path().join("rates.svg"));
    assert!(before == after, "something else was written");
    // A second test replaces the drawing, but nothing that is not one.
    run("train", dir.path(), &small("--find-lr rates.svg")).ok();
    let table: &[Bad<'_>] = &[("--find-lr text.txt", 2, &["text.txt", "is not SVG"])];
    check_all("train", dir.path(), table);
}

#[test]
fn a_sweep_makes_each_run_once() {
    let dir = trained();
    let sweep =
        r#"{"learning_rate": [1e-3, 1e-2], "seed": [1, 2], "max_iters": 6, "eval_interval": 3}"#;
    fs::write(dir.path().join("rates.json"), sweep).unwrap();
    let args = small("--out-dir sweeps --sweep rates.json");
    let ran = run("train", dir.path(), &args).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.stdout);
    for rate in ["learning_rate 0.001 (2 seeds)", "learning_rate 0.01 (2 seeds)"] {
        assert!(lines[1..].iter().any(|line| line.ends_with(rate)), "{}", ran.stdout);
    }
    let table = || {
        let text = fs::read_to_string(dir.path().join("sweeps/rates-results.tsv")).unwrap();
        let rows = text.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
        rows.collect::<Vec<_>>()
    };
    let first = table();
    assert_eq!(first[0][..4], ["run", "learning_rate", "seed", "best_val_loss"]);
    assert_eq!(first.len(), 5);
    assert_eq!(first[4][..3], ["rates-4", "0.01", "2"]);
    let weights = dir.path().join("sweeps/rates-2/last/model.safetensors");
    let before = fs::metadata(&weights).unwrap().modified().unwrap();
    // The same again: nothing is trained twice, and a missing run is made.
    fs::remove_dir_all(dir.path().join("sweeps/rates-3")).unwrap();
    run("train", dir.path(), &args).ok();
    assert_eq!(fs::metadata(&weights).unwrap().modified().unwrap(), before);
    for (old, new) in first.iter().zip(table()) {
        assert_eq!(old[..6], new[..6]);
    }
    // Other values under the same names are not mixed with those runs.
    fs::write(dir.path().join("rates.json"), sweep.replace("1e-2", "2e-2")).unwrap();
    let ran = run("train", dir.path(), &args);
    assert!(ran.code == 2 && ran.stderr.contains("rates-3 holds a run with `learning_rate` 0.01"));
}

#[test]
fn what_cannot_be_planned_is_refused_before_anything_is_written() {
    let dir = trained();
    for (name, text) in [
        ("key.json", r#"{"learnin_rate": [1e-3]}"#),
        ("type.json", r#"{"n_layer": [2, "three"]}"#),
        ("range.json", r#"{"dropout": [0.1, 1.5]}"#),
        ("none.json", r#"{"seed": []}"#),
        ("own.json", r#"{"out_dir": ["a", "b"]}"#),
        ("list.json", "[1, 2]"),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let table: &[Bad<'_>] = &[
        ("--budget 30", 2, &["`budget` is \"30\"", "a time with its unit"]),
        ("--budget 30m --max-iters 9", 2, &["--budget", "with --max-iters"]),
        ("--budget 30m --lr-decay-iters 9", 2, &["--budget", "with --lr-decay-iters"]),
        ("--budget 30m --lr-schedule cosine", 2, &["`lr_schedule`", "wsd with `budget`"]),
        ("--sweep key.json", 2, &["key.json", "`learnin_rate`", "--help"]),
        ("--sweep type.json", 2, &["sweep", "three"]),
        ("--sweep range.json", 2, &["run 2 of the sweep", "`dropout` is 1.5"]),
        ("--sweep none.json", 2, &["none.json", "`seed`", "empty"]),
        ("--sweep own.json", 2, &["own.json", "`out_dir`", "sets itself"]),
        ("--sweep list.json", 2, &["list.json", "not one JSON object"]),
        ("--sweep no.json", 2, &["no.json", "{\"learning_rate\":"]),
    ];
    check_all("train", dir.path(), table);
    let ran = run("train", dir.path(), &small("--out-dir new --budget 0.001s"));
    assert!(ran.code == 2 && ran.stderr.contains("--budget 0.001s is too short"), "{}", ran.stderr);
    assert!(!dir.path().join("new").exists());
}
