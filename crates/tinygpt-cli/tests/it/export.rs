//! `sample --export`: exports are read back, and wrong paths are refused.

use std::fs::{self, File};
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};

use crate::program::{Bad, check_all, run, snapshot, trained};

fn read_gguf(path: &Path) -> Content {
    Content::read(&mut File::open(path).unwrap()).unwrap()
}

fn texts(content: &Content, key: &str) -> Vec<String> {
    let list = content.metadata[key].to_vec().unwrap();
    list.iter().map(|text| text.to_string().unwrap().clone()).collect()
}

fn kinds(content: &Content) -> Vec<i32> {
    let list = content.metadata["tokenizer.ggml.token_type"].to_vec().unwrap();
    list.iter().map(|kind| kind.to_i32().unwrap()).collect()
}

fn text<'a>(content: &'a Content, key: &str) -> &'a str {
    content.metadata[key].to_string().unwrap()
}

#[test]
fn a_gguf_file_holds_weights_and_characters() {
    let dir = trained();
    let args = "--out-dir out --export gguf new/model.gguf --type q8_0";
    let ran = run("sample", dir.path(), args).ok();
    assert!(ran.stdout.is_empty(), "no samples: {}", ran.stdout);
    for part in ["written: new/model.gguf", "llama-completion -m new/model.gguf -c 16"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1, "nothing else is left");
    let content = read_gguf(&dir.path().join("new/model.gguf"));
    assert_eq!(text(&content, "general.name"), "text");
    assert_eq!(text(&content, "tokenizer.ggml.model"), "llama");
    let tokens = texts(&content, "tokenizer.ggml.tokens");
    let table = &content.tensor_infos["token_embd.weight"];
    assert_eq!(table.shape.dims(), [tokens.len(), 32]);
    assert_eq!(table.ggml_dtype, candle_core::quantized::GgmlDType::Q8_0);
    assert_eq!(tokens[0], "<|endoftext|>");
    for token in ["\u{2581}", "é", "<0xFF>"] {
        assert_eq!(tokens.iter().filter(|found| *found == token).count(), 1, "{token}");
    }
    let kinds = kinds(&content);
    assert_eq!((kinds.len(), kinds[0], kinds[1], *kinds.last().unwrap()), (tokens.len(), 3, 1, 6));
    assert!(matches!(content.metadata["tokenizer.ggml.add_bos_token"], Value::Bool(false)));
}

/// The same text in byte pairs, with a padded table.
fn train_bpe(dir: &Path) {
    run("prepare", dir, "--source text.txt --encoding-type bpe --vocab-size 300").ok();
    let shape =
        "--n-layer 1 --n-head 2 --n-embd 24 --block-size 16 --batch-size 2 --vocab-size 400";
    let rest = "--max-iters 4 --warmup-iters 1 --eval-interval 2 --eval-iters 1 --threads 1";
    run("train", dir, &format!("--dataset-name text --out-dir out-bpe {shape} {rest}")).ok();
}

#[test]
fn byte_pairs_keep_their_merges_and_rows_without_a_token_go() {
    let dir = trained();
    let path = dir.path();
    train_bpe(path);
    run("sample", path, "--out-dir out-bpe --export gguf model.gguf").ok();
    let content = read_gguf(&path.join("model.gguf"));
    assert_eq!(text(&content, "tokenizer.ggml.model"), "gpt2");
    assert_eq!(text(&content, "tokenizer.ggml.pre"), "gpt-2");
    let tokens = texts(&content, "tokenizer.ggml.tokens");
    assert_eq!(content.tensor_infos["token_embd.weight"].shape.dims(), [tokens.len(), 24]);
    assert_eq!(tokens.len(), 300);
    let merges = texts(&content, "tokenizer.ggml.merges");
    assert_eq!(merges.len(), 300 - 257);
    assert_eq!(merges[0].replace(' ', ""), tokens[257]);
    assert_eq!(content.metadata["tokenizer.ggml.eos_token_id"].to_u32().unwrap(), 0);

    // As for transformers, which would give rows without a token a probability.
    run("sample", path, "--out-dir out-bpe --export hf exported").ok();
    let rows = |dir: &str| {
        let text = fs::read_to_string(path.join(dir).join("config.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["vocab_size"].as_u64()
    };
    assert_eq!((rows("out-bpe/best"), rows("exported")), (Some(400), Some(300)));
    let sample = "--num-samples 2 --max-new-tokens 12";
    let original = run("sample", path, &format!("--out-dir out-bpe {sample}")).ok();
    let copy = run("sample", path, &format!("--checkpoint exported {sample}")).ok();
    assert_eq!(copy.stdout, original.stdout);
}

#[test]
fn eight_bits_that_do_not_fit_are_reported_and_not_claimed() {
    let dir = trained();
    let path = dir.path();
    let shape = "--n-layer 1 --n-head 5 --n-embd 50 --block-size 16 --batch-size 2 --threads 1";
    let rest = "--max-iters 2 --warmup-iters 1 --eval-interval 2 --eval-iters 1";
    run("train", path, &format!("--dataset-name text --out-dir out-50 {shape} {rest}")).ok();
    let export = |out_dir: &str, kind: &str| {
        let args =
            format!("--out-dir {out_dir} --export gguf model.gguf --type {kind} --overwrite");
        let ran = run("sample", path, &args).ok();
        let content = read_gguf(&path.join("model.gguf"));
        (ran.stderr, content.metadata["general.file_type"].to_u32().unwrap())
    };
    let (printed, file_type) = export("out-50", "q8_0");
    assert!(printed.contains("note: 5 of 5 matrices are stored as f16"), "{printed}");
    assert!(printed.contains("n_embd is 50"), "{printed}");
    assert_eq!(file_type, 1);
    for (out_dir, kind, expected) in [("out", "q8_0", 7), ("out-50", "f16", 1), ("out", "f32", 0)] {
        let (printed, file_type) = export(out_dir, kind);
        assert!(!printed.contains("note:") && file_type == expected, "{kind}: {printed}");
    }
}

#[test]
fn what_transformers_needs_to_know_of_lengths_is_written() {
    let dir = trained();
    let path = dir.path();
    run("sample", path, "--out-dir out --export hf exported").ok();
    for folder in ["exported", "out/best"] {
        let text = fs::read_to_string(path.join(folder).join("tokenizer_config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["model_max_length"], 16, "{folder}");
        assert_eq!(config["pad_token"], "<|endoftext|>", "{folder}");
        assert_eq!(config["padding_side"], "left", "{folder}");
    }
    let card = fs::read_to_string(path.join("exported/README.md")).unwrap();
    // Sixteen characters are all that this model sees, so the example starts with a line break.
    for part in ["tokenizer(\"\\n\", ", "max_new_tokens=min(200, room)", "model.config.n_positions"]
    {
        assert!(card.contains(part), "{part}:\n{card}");
    }
}

#[test]
fn a_directory_for_transformers_samples_the_same_and_has_a_model_card() {
    let dir = trained();
    let path = dir.path();
    run("sample", path, "--out-dir out --export hf exported").ok();
    let sample = "--num-samples 2 --max-new-tokens 30";
    let original = run("sample", path, &format!("--out-dir out {sample}")).ok();
    let copy = run("sample", path, &format!("--checkpoint exported {sample}")).ok();
    assert_eq!(copy.stdout, original.stdout);
    let card = fs::read_to_string(path.join("exported/README.md")).unwrap();
    for part in [
        "library_name: transformers",
        "Dataset `text`",
        "source: text.txt",
        "steps: 20 of 20 planned",
        "64 per step, 1,280 in total",
        "After 20 steps",
        "No licence is stated",
    ] {
        assert!(card.contains(part), "{part}:\n{card}");
    }
    // The figures are those of the run.
    let metrics = fs::read_to_string(path.join("out/metrics.jsonl")).unwrap();
    let last = metrics.lines().rfind(|line| line.contains("\"eval\"")).unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    let bits = last["val_bits_per_byte"].as_f64().unwrap();
    assert!(card.contains(&format!("| {bits:.4} |")), "{bits}:\n{card}");

    // A model of which nothing is known says so, and so does one whose data is gone.
    run("sample", path, "--checkpoint exported --export hf again").ok();
    let card = fs::read_to_string(path.join("again/README.md")).unwrap();
    assert!(card.contains("Unknown") && !card.contains("steps:"), "{card}");
    fs::remove_dir_all(path.join("data")).unwrap();
    run("sample", path, "--out-dir out --export hf exported --overwrite").ok();
    let card = fs::read_to_string(path.join("exported/README.md")).unwrap();
    assert!(card.contains("no longer available") && !card.contains("source:"), "{card}");
}

#[test]
fn nothing_is_replaced_unless_it_is_asked_for() {
    let dir = trained();
    let path = dir.path();
    run("sample", path, "--out-dir out --export gguf model.gguf").ok();
    run("sample", path, "--out-dir out --export hf exported").ok();
    fs::create_dir(path.join("mine")).unwrap();
    fs::write(path.join("mine/diary.txt"), "dear diary").unwrap();
    let table: &[Bad<'_>] = &[
        (
            "--out-dir out --export gguf model.gguf",
            2,
            &["model.gguf already exists", "--overwrite"],
        ),
        ("--out-dir out --export hf exported", 2, &["exported already exists", "--overwrite"]),
        ("--out-dir out --export gguf mine --overwrite", 2, &["mine is a directory", "a file"]),
        (
            "--out-dir out --export hf model.gguf --overwrite",
            2,
            &["model.gguf is a file", "name a directory"],
        ),
        ("--out-dir out --export hf mine --overwrite", 2, &["diary.txt", "another directory"]),
        ("--out-dir out --export onnx x", 2, &["`export`", "onnx", "gguf and a file"]),
        ("--out-dir out --export gguf", 2, &["2 values required", "--export <FORMAT> <PATH>"]),
        ("--out-dir out --type q8_0", 2, &["--type needs --export gguf"]),
        ("--out-dir out --export hf x --type f16", 2, &["--type needs --export gguf"]),
        ("--out-dir out --export gguf x --type q4_0", 2, &["--type", "q8_0"]),
        ("--out-dir nowhere --export gguf x", 2, &["nowhere", "train it first"]),
        ("--out-dir out --export gguf text.txt/x", 4, &["text.txt", "name another path"]),
    ];
    check_all("sample", path, table);
    let before = snapshot(path);
    run("sample", path, "--out-dir out --export gguf model.gguf --overwrite --type f16").ok();
    run("sample", path, "--out-dir out --export hf exported --overwrite").ok();
    let after = snapshot(path);
    let names: Vec<_> = after.keys().collect();
    assert_eq!(names, before.keys().collect::<Vec<_>>(), "no leftovers");
    assert!(after[&path.join("model.gguf")].len() < before[&path.join("model.gguf")].len());
}
