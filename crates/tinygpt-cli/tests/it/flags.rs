//! Flags, keys, defaults and help: complete and consistent in all binaries.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tinygpt_cli::args;
use tinygpt_cli::options::{
    ConfigFile, Layered, Options, PrepareOptions, ProgramConfig, SampleOptions, TrainOptions,
    known_keys,
};
use tinygpt_model::DeviceSpec;
use tinygpt_train::TrainConfig;

use crate::program::{SMALL, run, trained};

/// Flags of all binaries that are about the command line itself, not keys of a file.
const SHARED: [&str; 4] = ["config_file", "show_config", "help", "version"];

fn check_parity<O: Options>() {
    let mut command = args::command::<O>();
    command.build();
    let flags: BTreeSet<String> = command
        .get_arguments()
        .filter(|arg| !SHARED.contains(&arg.get_id().as_str()))
        .map(|arg| arg.get_long().unwrap().replace('-', "_"))
        .collect();
    assert_eq!(flags, known_keys::<O>().into_iter().collect());
    let help = command.render_long_help().to_string();
    for arg in command.get_arguments().filter(|arg| !SHARED.contains(&arg.get_id().as_str())) {
        let text = arg.get_help().unwrap().to_string();
        let is_old = arg.get_help_heading() == Some("Original");
        assert!(text.contains("[default: ") || is_old, "{}: {text}", arg.get_id());
        assert!(help.contains(&format!("--{}", arg.get_long().unwrap())));
    }
}

#[test]
fn every_flag_is_a_key_and_shows_its_default() {
    check_parity::<PrepareOptions>();
    check_parity::<TrainOptions>();
    check_parity::<SampleOptions>();
}

#[test]
fn training_options_are_the_training_crate_s_configuration() {
    let layered = Layered::new(&TrainOptions::default(), None).unwrap();
    let defaults = (TrainConfig::default(), ProgramConfig::default());
    assert_eq!(layered.resolve().unwrap(), defaults);
}

#[test]
fn flags_beat_the_file_and_the_file_beats_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let config = "{\"n_layer\": 3,\n \"bias\": false, \"dropout\": 0, \"learning_rate\": 1}";
    fs::write(dir.path().join("c.json"), config).unwrap();
    let args = "--config-file c.json --n_head 3 --bias --dropout=0.5 --show-config";
    let ran = run("train", dir.path(), args).ok();
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    let entry = |key: &str| {
        let text = |field: &str| shown[key][field].to_string();
        format!("{} {}", text("value"), text("origin").trim_matches('"'))
    };
    assert_eq!(entry("n_layer"), "3 file");
    assert_eq!(entry("n_head"), "3 flag");
    assert_eq!(entry("n_embd"), "384 default");
    assert_eq!(entry("bias"), "true flag");
    assert_eq!(entry("dropout"), "0.5 flag");
    assert_eq!(entry("learning_rate"), "1.0 file");
    assert_eq!(entry("lr_decay_iters"), "10000 default");
    assert_eq!(entry("vocab_size"), "null default");
}

/// What `train --show-config` prints.
fn shown(dir: &Path, args: &str) -> Value {
    let ran = run("train", dir, &format!("{args} --show-config")).ok();
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn a_warm_up_that_nobody_asked_for_is_not_a_longer_than_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = "{\"warmup_iters\": 50, \"lr_decay_iters\": 1300, \"max_iters\": 1300}";
    fs::write(dir.path().join("c.json"), file).unwrap();
    fs::write(dir.path().join("part.json"), file.replace("1300}", "40}")).unwrap();
    for (args, warmup, origin) in [
        ("", 100, "default"),
        ("--max-iters 200", 100, "default"),
        ("--max-iters 20", 20, "default"),
        ("--lr-decay-iters 20", 20, "default"),
        // Half of a schedule that is given in whole.
        ("--max-iters 20 --lr-decay-iters 200", 100, "default"),
        ("--max-iters 20 --warmup-iters 7", 7, "flag"),
        ("--config-file c.json", 50, "file"),
        ("--config-file c.json --max-iters 51", 50, "file"),
        ("--config-file c.json --max-iters 20", 20, "default"),
        ("--config-file c.json --lr-decay-iters 20", 20, "default"),
        ("--config-file c.json --lr-decay-iters 20 --max-iters 10", 20, "default"),
        // What a file says as a whole stays.
        ("--config-file part.json", 50, "file"),
    ] {
        let shown = shown(dir.path(), args);
        assert_eq!(shown["warmup_iters"]["value"], warmup, "{args}");
        assert_eq!(shown["warmup_iters"]["origin"], origin, "{args}");
    }
}

#[test]
fn the_lowest_learning_rate_follows_one_that_is_given_below_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.json"), "{\"min_lr\": 2e-4, \"learning_rate\": 0.004}").unwrap();
    for (args, min_lr) in [
        ("", 1e-4),
        ("--learning-rate 1e-4", 1e-4),
        ("--learning-rate 3e-5", 3e-6),
        ("--learning-rate 3e-5 --min-lr 1e-5", 1e-5),
        ("--config-file c.json", 2e-4),
        ("--config-file c.json --learning-rate 1e-4", 1e-5),
    ] {
        assert_eq!(shown(dir.path(), args)["min_lr"]["value"], min_lr, "{args}");
    }
    fs::write(dir.path().join("c.json"), "{\"min_lr\": 2e-4, \"learning_rate\": 1e-4}").unwrap();
    for args in ["--config-file c.json", "--learning-rate 1e-4 --min-lr 2e-4"] {
        let ran = run("train", dir.path(), args);
        assert!(ran.code == 2 && ran.stderr.contains("`min_lr` is 0.0002"), "{}", ran.stderr);
    }
}

#[test]
fn what_was_fitted_is_reported() {
    let dir = trained();
    fs::write(dir.path().join("c.json"), "{\n\"warmup_iters\": 50, \"lr_decay_iters\": 99}")
        .unwrap();
    let flags = SMALL.replace("--warmup-iters 5 ", "");
    let args = format!("{flags} --config-file c.json --out-dir new --learning-rate 5e-5");
    let ran = run("train", dir.path(), &args).ok();
    for note in [
        "note: warmup_iters is 20 instead of 50 (c.json line 2), as the run has only 20 steps\n",
        "note: min_lr is 5e-6 instead of 0.0001 (default), a tenth of learning_rate\n",
    ] {
        assert!(ran.stderr.contains(note), "{note}: {}", ran.stderr);
    }
}

/// Floats as f32 would show as 0.20000000298023224.
#[test]
fn numbers_are_printed_as_they_are_typed() {
    let dir = trained();
    for binary in ["prepare", "train", "sample"] {
        for args in ["--help", "--show-config"] {
            let ran = run(binary, dir.path(), args).ok();
            let is_digit = |c: char| c.is_ascii_digit();
            let numbers = ran.stdout.split(|c| !is_digit(c) && c != '.');
            let long: Vec<&str> = numbers.filter(|number| number.len() > 11).collect();
            assert_eq!(long, [] as [&str; 0], "{binary} {args}");
        }
    }
    assert_eq!(shown(dir.path(), "")["dropout"]["value"], 0.2);
    let ran = run("train", dir.path(), "--dropout 1.00000001 --learning-rate 1e300 --min-lr 2e300");
    for fault in ["`dropout` is 1.00000001", "`min_lr` is 2e300", "`learning_rate` (1e300)"] {
        assert!(ran.stderr.contains(fault), "{fault}: {}", ran.stderr);
    }
    for file in ["config.json", "state.json"] {
        let text = fs::read_to_string(dir.path().join("out/last").join(file)).unwrap();
        assert!(text.contains("0.1,") && !text.contains("0.1000"), "{text}");
    }
}

#[test]
fn show_config_of_sample_looks_like_this() {
    let dir = tempfile::tempdir().unwrap();
    let args = "--show-config --top-k 0 --start=\"Hi\" --stop a --show-probs --stop b";
    let ran = run("sample", dir.path(), args).ok();
    let expected = r#"{
  "out_dir":              { "value": "out-tiny-stories", "origin": "default" },
  "checkpoint":           { "value": "best", "origin": "default" },
  "quantize":             { "value": null, "origin": "default" },
  "start":                { "value": "\"Hi\"", "origin": "flag" },
  "num_samples":          { "value": 10, "origin": "default" },
  "max_new_tokens":       { "value": 500, "origin": "default" },
  "temperature":          { "value": 0.8, "origin": "default" },
  "top_k":                { "value": 0, "origin": "flag" },
  "top_p":                { "value": 1.0, "origin": "default" },
  "min_p":                { "value": 0.0, "origin": "default" },
  "repetition_penalty":   { "value": 1.0, "origin": "default" },
  "presence_penalty":     { "value": 0.0, "origin": "default" },
  "frequency_penalty":    { "value": 0.0, "origin": "default" },
  "no_repeat_ngram_size": { "value": 0, "origin": "default" },
  "stop":                 { "value": ["a","b"], "origin": "flag" },
  "seed":                 { "value": 1337, "origin": "default" },
  "show_probs":           { "value": 5, "origin": "flag" },
  "json":                 { "value": false, "origin": "default" },
  "interactive":          { "value": false, "origin": "default" },
  "chat":                 { "value": false, "origin": "default" },
  "system":               { "value": null, "origin": "default" },
  "grade":                { "value": null, "origin": "default" },
  "score":                { "value": null, "origin": "default" },
  "stride":               { "value": null, "origin": "default" },
  "novelty":              { "value": null, "origin": "default" },
  "serve":                { "value": null, "origin": "default" },
  "api_key":              { "value": null, "origin": "default" },
  "device":               { "value": "cpu", "origin": "default" },
  "dtype":                { "value": "bfloat16", "origin": "default" },
  "threads":              { "value": null, "origin": "default" },
  "export":               { "value": null, "origin": "default" },
  "type":                 { "value": null, "origin": "default" },
  "overwrite":            { "value": false, "origin": "default" }
}
"#;
    assert_eq!(ran.stdout, expected);
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing is done");
}

/// The help of both binaries that compute promises a thread for each physical core; `prepare` has no such
/// flag. A key and a flag are used as they are.
#[test]
fn threads_are_what_the_help_says() {
    let dir = trained();
    let path = dir.path();
    for (binary, has_flag) in [("prepare", false), ("train", true), ("sample", true)] {
        let help = run(binary, path, "--help").ok().stdout;
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(help.contains("--threads"), has_flag, "{binary}");
        assert_eq!(help.contains("[default: one per physical core"), has_flag, "{binary}");
        let shown = run(binary, path, "--show-config").ok().stdout;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown.get("threads").is_some(), has_flag, "{binary}");
        assert!(shown["threads"]["value"].is_null(), "{binary}: {shown}");
    }
    assert_eq!(TrainConfig::default().resolved_threads(), tinygpt_train::physical_cores());
    fs::write(path.join("three.json"), "{\"threads\": 3}").unwrap();
    let sample = "--out-dir out --num-samples 1 --max-new-tokens 5";
    for (more, expected) in [
        // A model as small as this one is faster without company.
        ("", "on 1 thread\n"),
        ("--threads 2", "on 2 threads\n"),
        ("--config-file three.json", "on 3 threads\n"),
        ("--quantize q8_0 --threads 2", "on 2 threads\n"),
    ] {
        let ran = run("sample", path, &format!("{sample} {more}")).ok();
        assert!(ran.stderr.ends_with(expected), "{more}: {}", ran.stderr);
    }
}

#[test]
fn the_original_s_config_loads_as_it_is() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/train_tiny_stories.json");
    let file = ConfigFile::read::<TrainOptions>(&path).unwrap();
    let layered = Layered::new(&TrainOptions::default(), Some(file)).unwrap();
    let (config, _) = layered.resolve().unwrap();
    assert_eq!(config.device, DeviceSpec::Metal(0));
    assert_eq!(TrainConfig { device: DeviceSpec::Cpu, ..config }, TrainConfig::default());
}

#[test]
fn every_shipped_config_is_valid() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let mut n_configs = 0;
    for entry in fs::read_dir(configs).unwrap() {
        let file = ConfigFile::read::<TrainOptions>(&entry.unwrap().path()).unwrap();
        let layered = Layered::new(&TrainOptions::default(), Some(file)).unwrap();
        layered.resolve().unwrap();
        n_configs += 1;
    }
    assert!(n_configs >= 4);
}

#[test]
fn help_goes_to_stdout_and_names_the_way_to_start() {
    let dir = trained();
    let ran = run("train", dir.path(), "--help").ok();
    assert!(ran.stderr.is_empty());
    assert!(ran.stdout.contains("config/quickstart.json"), "{}", ran.stdout);
    assert!(ran.stdout.contains("[default: 0.001]"), "{}", ran.stdout);
}
