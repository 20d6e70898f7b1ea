//! The length of a run and its learning rate, given in the different ways, and `--json`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Bad, SMALL, check_all, run, trained};

/// [`SMALL`] without its number of steps, in a new directory.
fn small(extra: &str) -> String {
    format!("{} --out-dir new {extra}", SMALL.replace("--max-iters 20 ", ""))
}

fn config_of(dir: &Path, run: &str) -> Value {
    let text = fs::read_to_string(dir.join(run).join("last/state.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["config"].take()
}

/// Values of `--show-config`.
fn shown(dir: &Path, args: &str, key: &str) -> Value {
    let ran = run("train", dir, &format!("{args} --show-config")).ok();
    serde_json::from_str::<Value>(&ran.stdout).unwrap()[key]["value"].take()
}

/// The line of `--json`, which is all of standard output.
fn results(stdout: &str) -> Value {
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(stdout).unwrap()
}

#[test]
fn tokens_and_epochs_become_steps_of_the_run() {
    let dir = trained();
    fs::write(dir.path().join("c.json"), "{\"max_iters\": 30,\n\"lr_decay_iters\": 30}").unwrap();
    // 64 tokens a step.
    let args = small("--max-tokens 641 --config-file c.json --json");
    let ran = run("train", dir.path(), &args).ok();
    let note = "note: max_iters is 11 (--max-tokens 641) instead of 30 (c.json line 1)";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    let line = results(&ran.stdout);
    assert_eq!((&line["steps"], &line["tokens"]), (&11.into(), &704.into()), "{line}");
    let config = config_of(dir.path(), "new");
    assert_eq!((&config["max_iters"], &config["lr_decay_iters"]), (&11.into(), &11.into()));
    assert!(config.get("max_tokens").is_none(), "{config}");
    let again = run("train", dir.path(), "--init-from resume --out-dir new").ok();
    assert!(again.stderr.contains("already finished its 11 steps"), "{}", again.stderr);

    let args = small("--max-epochs 0.25 --overwrite --json");
    let ran = run("train", dir.path(), &args).ok();
    let windows = ran.stderr.lines().find_map(|line| line.strip_prefix("epoch    ")).unwrap();
    let windows: f64 = windows.trim_end_matches(" windows").replace(',', "").parse().unwrap();
    let line = results(&ran.stdout);
    assert_eq!(line["steps"].as_f64(), Some((windows / 4.0 / 4.0).ceil()), "{line}");
    assert!((line["epochs"].as_f64().unwrap() - 0.25).abs() < 4.0 / windows, "{line}");
}

#[test]
fn one_line_of_json_has_the_results() {
    let dir = trained();
    let args = "--init-from resume --out-dir out --max-iters 25 --json";
    let line = results(&run("train", dir.path(), args).ok().stdout);
    let metrics = fs::read_to_string(dir.path().join("out/metrics.jsonl")).unwrap();
    let mut lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let eval = lines.rfind(|line| line["event"] == "eval").unwrap();
    assert_eq!(line["val_bpb"], eval["val_bits_per_byte"]);
    assert_eq!(line["val_loss"], eval["val_loss"]);
    let same = [("steps", json!(25)), ("tokens", json!(1600)), ("exit", json!(0))];
    for (key, value) in same.into_iter().chain([("outcome", json!("finished"))]) {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert!(line["seconds"].as_f64() > Some(0.0), "{line}");
    assert_eq!(line["peak_bytes"].as_u64() > Some(1 << 20), cfg!(target_os = "linux"), "{line}");
    // Nothing is left to do, and the results are the same.
    let args = "--init-from resume --out-dir out --json";
    let again = results(&run("train", dir.path(), args).ok().stdout);
    assert_eq!(
        (&again["val_bpb"], &again["outcome"]),
        (&line["val_bpb"], &json!("already_finished"))
    );
    // A program that reads the line also learns why there are no results.
    let ran = run("train", dir.path(), "--dataset-name nobody --json");
    let line = results(&ran.stdout);
    assert_eq!((ran.code, &line["exit"]), (2, &json!(2)));
    assert!(line["error"].as_str().unwrap().contains("`nobody`"), "{line}");
}

#[test]
fn a_run_that_stops_early_is_done() {
    let dir = trained();
    let flags = "--max-iters 100 --eval-interval 5 --early-stopping-patience 2 \
                 --early-stopping-threshold 20 --json";
    let ran = run("train", dir.path(), &small(flags)).ok();
    let says = "stopped early after 15 of 100 steps: the validation loss did not improve in 2 \
                evaluations in a row";
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
    assert_eq!(results(&ran.stdout)["outcome"], "stopped_early");
}

#[test]
fn a_wsd_run_is_continued_with_one_command() {
    let dir = trained();
    run("train", dir.path(), &small("--max-iters 20 --lr-schedule wsd --final-lr-frac 0")).ok();
    let continue_it = "--init-from plateau:new --out-dir longer --max-iters 40";
    let ran = run("train", dir.path(), continue_it).ok();
    assert!(ran.stderr.contains("start    the checkpoint new/checkpoints/step-00000016"));
    assert!(ran.stderr.contains("lr_decay_iters is 40 instead of 20"), "{}", ran.stderr);
    assert_eq!(config_of(dir.path(), "longer")["min_lr"], 0.0);
    let straight = small("--max-iters 40 --lr-schedule wsd --final-lr-frac 0 --overwrite");
    run("train", dir.path(), &straight).ok();
    let weights = |run: &str| fs::read(dir.path().join(run).join("last/model.safetensors"));
    assert!(weights("longer").unwrap() == weights("new").unwrap(), "bit for bit");
}

#[test]
fn the_stronger_of_two_ways_counts() {
    let dir = tempfile::tempdir().unwrap();
    let file = "{\"decay_lr\": false, \"min_lr\": 2e-4, \"max_tokens\": 5}";
    fs::write(dir.path().join("c.json"), file).unwrap();
    for (args, key, value) in [
        ("", "lr_schedule", json!("cosine")),
        ("--decay-lr false", "lr_schedule", json!("constant")),
        ("--config-file c.json", "lr_schedule", json!("constant")),
        ("--config-file c.json --lr-schedule linear", "lr_schedule", json!("linear")),
        ("--config-file c.json --decay-lr", "lr_schedule", json!("cosine")),
        ("--final-lr-frac 0.05 --learning-rate 3e-3", "min_lr", json!(0.00015)),
        ("--config-file c.json --final-lr-frac 0.5", "min_lr", json!(0.0005)),
        ("--config-file c.json --max-iters 7", "max_tokens", Value::Null),
        ("--config-file c.json --max-epochs 7", "max_tokens", Value::Null),
        ("--config-file c.json", "max_tokens", json!(5)),
    ] {
        assert_eq!(shown(dir.path(), args, key), value, "{args}");
    }
}

#[test]
fn contradictions_name_both_options() {
    let each = "each gives the length of the run";
    let table: &[Bad<'_>] = &[
        ("--max-tokens 9 --max-iters 9", 2, &["--max-tokens", "with --max-iters", each]),
        ("--max-epochs 1 --max-iters 9", 2, &["--max-epochs", "with --max-iters", each]),
        ("--max-epochs 1 --max-tokens 9", 2, &["--max-epochs", "with --max-tokens", each]),
        ("--max-tokens 9 --lr-decay-iters 9", 2, &["--max-tokens", "with --lr-decay-iters"]),
        ("--final-lr-frac 0 --min-lr 0", 2, &["--final-lr-frac", "with --min-lr"]),
        ("--decay-lr false --lr-schedule linear", 2, &["--decay-lr", "with --lr-schedule"]),
        ("--warmdown-ratio 0.5", 2, &["--warmdown-ratio needs --lr-schedule wsd"]),
        ("--warmdown-ratio 1 --lr-schedule wsd", 2, &["`warmdown_ratio` is 1", "including 1"]),
        ("--final-lr-frac 1.5", 2, &["`final_lr_frac` is 1.5", "from 0 to 1"]),
        ("--lr-schedule step", 2, &["step", "--lr-schedule", "cosine"]),
        ("--max-tokens 0", 2, &["`max_tokens` is 0"]),
        ("--max-epochs 0", 2, &["`max_epochs` is 0"]),
        ("--early-stopping-patience 0", 2, &["`early_stopping_patience` is 0"]),
        ("--early-stopping-threshold -1", 2, &["`early_stopping_threshold` is -1", "at least 0"]),
        ("--init-from plateau:out --out-dir n", 2, &["plateau:out", "no checkpoint named plateau"]),
        ("--init-from plateau:", 2, &["`init_from`", "plateau:DIR"]),
    ];
    let dir = trained();
    check_all("train", dir.path(), table);
}
