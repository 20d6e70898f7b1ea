//! Fine-tuning: the model determines the shape, and flags and files must agree with it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::program::{Bad, check_all, run, trained};

/// All that a run needs but the shape: the model has 2 layers, 2 heads, width 32, 16 positions and
/// 287 rows in its table.
const TUNE: &str = "--dataset-name text --init-from out/best --batch-size 2 --max-iters 2 \
    --eval-interval 1 --eval-iters 1 --threads 1 --dropout 0 --learning-rate 3e-5 \
    --sample-at-eval false --dtype float32";

fn config_json(dir: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.join("tuned/last").join(name)).unwrap()).unwrap()
}

#[test]
fn what_a_model_cannot_take_is_refused_by_the_flag_s_name() {
    let dir = trained();
    let refused = [
        ("--n-layer 4", "`n_layer` is 4 (--n-layer), expected 2 as the model in out/best has"),
        ("--n-head 4", "`n_head` is 4 (--n-head), expected 2"),
        ("--n-embd 64", "`n_embd` is 64 (--n-embd), expected 32"),
        ("--n-embd 33", "`n_embd` is 33 (--n-embd), expected 32"),
        ("--vocab-size 600", "`vocab_size` is 600 (--vocab-size), expected 287"),
        ("--bias false", "`bias` is false (--bias), expected true"),
        ("--block-size 17", "`block_size` is 17 (--block-size), expected at most 16"),
        ("--n-layer 4 --n-embd 64 --block-size 64", "3 errors:"),
        ("--config-file own.json", "`n_layer` is 3 (own.json line 2), expected 2"),
    ];
    let own = "{\"init_from\": \"out/best\",\n\"n_layer\": 3}";
    fs::write(dir.path().join("own.json"), own).unwrap();
    let args = refused.map(|(args, says)| {
        let base = if args.contains("own") {
            TUNE.replace("--init-from out/best ", "")
        } else {
            TUNE.into()
        };
        (format!("{base} --out-dir tuned {args}"), [says])
    });
    let table: Vec<Bad<'_>> = args.iter().map(|(args, says)| (&args[..], 2, &says[..])).collect();
    check_all("train", dir.path(), &table);
    assert!(!dir.path().join("tuned").exists());
}

#[test]
fn settings_of_a_model_are_taken_from_it_or_repeated() {
    let dir = trained();
    for args in ["", "--n-layer 2 --n-head 2 --n-embd 32 --block-size 16 --vocab-size 287 --bias"] {
        let args = format!("{TUNE} --out-dir tuned --overwrite {args}");
        let ran = run("train", dir.path(), &args).ok();
        assert!(!ran.stderr.contains("the shape of"), "{}", ran.stderr);
        let config = config_json(dir.path(), "config.json");
        assert_eq!((&config["n_layer"], &config["n_positions"]), (&2.into(), &16.into()));
    }
}

/// A config file for training from scratch has a shape, too.
#[test]
fn the_shape_of_a_file_yields_to_the_model_with_a_note() {
    let dir = trained();
    let path = dir.path();
    let file = "{\"n_layer\": 3, \"n_head\": 5,\n\"n_embd\": 160, \"vocab_size\": 3072,\n\
                \"block_size\": 128, \"bias\": true, \"log_interval\": 1}";
    fs::write(path.join("c.json"), file).unwrap();
    let args = format!("{TUNE} --config-file c.json --out-dir tuned");
    let ran = run("train", path, &args).ok();
    let note = "note: the shape of out/best is used (n_layer 2, n_head 2, n_embd 32, block_size 16, \
                vocab_size 287), not that of c.json (3, 5, 160, 128, 3072)\n";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    // The same command, resumed: the run has the shape that it has.
    let resumed =
        args.replace("--init-from out/best", "--init-from resume").replace("iters 2 ", "iters 4 ");
    let ran = run("train", path, &resumed).ok();
    assert!(ran.stderr.contains("n_layer 2"), "{}", ran.stderr);
    // A flag is meant for this very run.
    let ran = run("train", path, &format!("{args} --overwrite --n-layer 3"));
    assert!(ran.code == 2 && ran.stderr.contains("--n-layer"), "{}", ran.stderr);
}

#[test]
fn a_smaller_context_is_taken_from_flags_and_files() {
    let dir = trained();
    let path = dir.path();
    let memory = |stderr: &str| -> f64 {
        let text = stderr.split("tokens, about ").nth(1).unwrap();
        text.split(" MiB").next().unwrap().parse().unwrap()
    };
    let whole = run("train", path, &format!("{TUNE} --out-dir whole")).ok();
    fs::write(path.join("c.json"), "{\"block_size\": 8}").unwrap();
    for given in ["--block-size 8", "--config-file c.json"] {
        let args = format!("{TUNE} --out-dir tuned --overwrite {given}");
        let ran = run("train", path, &args).ok();
        let note = "block_size is 8: the model keeps this many of its 16 positions";
        assert!(ran.stderr.contains(note), "{}", ran.stderr);
        assert!(ran.stderr.contains("step     16 tokens"), "{}", ran.stderr);
        assert!(memory(&ran.stderr) < memory(&whole.stderr), "{}", ran.stderr);
        assert_eq!(config_json(path, "config.json")["n_positions"], 8);
        let args = "--init-from resume --out-dir tuned --max-iters 3";
        run("train", path, args).ok();
    }
    run("sample", path, "--out-dir tuned --num-samples 1 --max-new-tokens 20").ok();
    run("sample", path, "--out-dir tuned --export gguf tuned.gguf").ok();
    let ran = run("train", path, "--init-from resume --out-dir tuned --block-size 4");
    assert!(ran.code == 2 && ran.stderr.contains("`block_size` is 8 there"), "{}", ran.stderr);
}

#[test]
fn the_learning_rate_of_a_run_from_scratch_is_pointed_out() {
    let dir = trained();
    let note = "a rate for training from scratch";
    let tune = format!("{TUNE} --out-dir tuned --overwrite");
    let without = tune.replace("--learning-rate 3e-5 ", "");
    fs::write(dir.path().join("scratch.json"), "{\"learning_rate\": 4e-3}").unwrap();
    let own = "{\"learning_rate\": 4e-3, \"init_from\": \"out/best\"}";
    fs::write(dir.path().join("own.json"), own).unwrap();
    for (args, is_reported) in [
        (without.clone(), true),
        (format!("{without} --config-file scratch.json"), true),
        (without.replace("--init-from out/best", "--config-file own.json"), false),
        (tune, false),
    ] {
        let ran = run("train", dir.path(), &args).ok();
        assert_eq!(ran.stderr.contains(note), is_reported, "{args}: {}", ran.stderr);
    }
}
