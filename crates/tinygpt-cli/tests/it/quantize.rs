//! `sample --quantize q8_0`: text from rounded weights, and the change of the loss.

use std::fs;

use crate::program::{Bad, check_all, run, trained};

const SAMPLE: &str = "--out-dir out --num-samples 2 --max-new-tokens 30 --temperature 0";

/// The number in front of `unit` in a line such as `val loss +0.0012 nats`.
fn number_before(text: &str, unit: &str) -> f64 {
    let (before, _) = text.split_once(unit).unwrap_or_else(|| panic!("no {unit}: {text}"));
    before.split_whitespace().last().unwrap().replace(',', "").parse().unwrap()
}

#[test]
fn the_loss_of_rounding_is_reported() {
    let dir = trained();
    let path = dir.path();
    let ran = run("sample", path, &format!("{SAMPLE} --quantize q8_0")).ok();
    let line = ran.stderr.lines().find(|line| line.starts_with("q8_0:")).unwrap();
    let change = number_before(line, " nats per token");
    assert!(change.abs() < 0.02, "{line}");
    let metrics = fs::read_to_string(path.join("out/metrics.jsonl")).unwrap();
    let last = metrics.lines().rfind(|line| line.contains("\"eval\"")).unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    let before = number_before(line, " before");
    // What training printed, to the last digit: 2 batches of 4 windows of 16 tokens.
    assert!((before - last["val_loss"].as_f64().unwrap()).abs() < 1e-4, "{line}");
    assert!(line.ends_with(" over 128 tokens, the same as in training"), "{line}");
    assert!(ran.stdout.len() > 20);

    fs::remove_dir_all(path.join("data")).unwrap();
    let again = run("sample", path, &format!("{SAMPLE} --quantize q8_0")).ok();
    assert!(again.stderr.contains("no validation data"), "{}", again.stderr);
    assert_eq!(again.stdout, ran.stdout);
}

#[test]
fn rounding_what_is_not_sampled_here_is_refused() {
    let dir = trained();
    let table: &[Bad<'_>] = &[
        ("--out-dir out --quantize q4_0", 2, &["--quantize", "q8_0"]),
        ("--out-dir out --quantize q8_0 --export gguf x", 2, &["--quantize cannot", "--type q8_0"]),
        ("--out-dir out --quantize q8_0 --device metal", 2, &["--quantize needs --device cpu"]),
    ];
    check_all("sample", dir.path(), table);
}
