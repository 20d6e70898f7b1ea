//! Messages stay short for inputs of megabytes: lines, keys, values, names and flags.

use std::fs;
use std::path::Path;

use crate::program::{command, run_command, trained};

/// More than that is not printed about any input.
const MOST_BYTES: usize = 2048;

/// A system's limit on one argument is below the size of the files.
const LONG_FLAG: usize = if cfg!(windows) { 20_000 } else { 100_000 };
const LONG: usize = 2_000_000;

/// Runs a refused call: a code of our own, few words, all of them ours.
fn refused(binary: &str, dir: &Path, args: &[&str]) -> String {
    let ran = run_command(command(binary, dir).args(args));
    let all = format!("{}{}", ran.stdout, ran.stderr);
    let what = args.iter().map(|arg| arg.chars().take(30).collect::<String>());
    let what = format!("{binary} {:?}", what.collect::<Vec<_>>());
    assert!((2..=7).contains(&ran.code), "{what}: code {}: {:.2000}", ran.code, all);
    assert!(all.len() <= MOST_BYTES, "{what}: {} bytes: {:.2500}", all.len(), all);
    assert!(ran.stderr.contains("error: "), "{what}: {all}");
    assert!(!all.contains("panicked") && !all.contains("a bug in"), "{what}: {all}");
    all
}

/// The longest run of one repeated character.
fn longest_run(text: &str) -> usize {
    let mut longest = 0;
    let (mut length, mut last) = (0, '\0');
    for c in text.chars() {
        length = if c == last { length + 1 } else { 1 };
        last = c;
        longest = longest.max(length);
    }
    longest
}

#[test]
fn long_flags_and_their_values_are_quoted_in_part() {
    let dir = trained();
    let long = "x".repeat(LONG_FLAG);
    let words = "words and ".repeat(LONG_FLAG / 10);
    let flag = format!("--{long}");
    let half = &long[..LONG_FLAG / 2];
    let with_value = format!("--{half}={half}");
    for binary in ["prepare", "train", "sample"] {
        for value in [&long, &words] {
            let table: [&[&str]; 6] = [
                &[&flag],
                &[&with_value],
                &[value],
                &["--seed", value],
                &["--config-file", value],
                &["--show-config", value],
            ];
            for args in table {
                assert!(longest_run(&refused(binary, dir.path(), args)) <= 80);
            }
        }
    }
    let own: [(&str, &[&str]); 12] = [
        ("prepare", &["--encoding-type", &long]),
        ("prepare", &["--dataset-name", &long, "--source", "text.txt"]),
        ("prepare", &["--source", &long]),
        ("prepare", &["--val-fraction", &long]),
        ("train", &["--out-dir", &long, "--dataset-name", "text"]),
        ("train", &["--dataset-name", &long]),
        ("train", &["--device", &long]),
        ("train", &["--dataset-name", "text", "--init-from", &long, "--out-dir", "new"]),
        ("train", &["--on-non-finite", &words]),
        ("sample", &["--out-dir", &long]),
        ("sample", &["--out-dir", "out", "--checkpoint", &long]),
        ("sample", &["--out-dir", "out", "--serve", &long]),
    ];
    for (binary, args) in own {
        refused(binary, dir.path(), args);
    }
}

#[test]
fn long_config_files_are_quoted_in_part() {
    let dir = trained();
    let long = "x".repeat(LONG);
    let words = "words and ".repeat(LONG / 10);
    let many: Vec<String> = (0..20_000).map(|i| format!("\"key{i}\": {i}")).collect();
    let twice: Vec<String> = (0..20_000).map(|i| format!("\"seed\": {i}")).collect();
    let mut files = vec![
        long.clone(),
        words.clone(),
        format!("\"{words}\""),
        format!("{{\"{long}\": 1}}"),
        format!("{{\"{words}\": 1}}"),
        format!("{{\"seed\": \"{long}\"}}"),
        format!("{{\"seed\": \"{words}\"}}"),
        format!("{{\"seed\": \"`{words}` \\\"{words}\\\"\"}}"),
        format!("{{\"seed\": {}}}", "1".repeat(LONG)),
        format!("{{\"device\": \"{long}\", \"threads\": 0}}"),
        format!("{{{}}}", many.join(",\n")),
        format!("{{{}}}", twice.join(",\n")),
    ];
    let own: [(&str, &[&str]); 3] = [
        ("prepare", &["encoding_type", "dataset_name", "text_column", "source", "data_dir"]),
        ("train", &["dataset_name", "out_dir", "init_from", "device", "dtype", "data_dir"]),
        ("sample", &["out_dir", "checkpoint", "device", "quantize", "serve", "type"]),
    ];
    let path = dir.path().join("c.json");
    for (binary, keys) in own {
        for text in &files {
            fs::write(&path, text).unwrap();
            assert!(longest_run(&refused(binary, dir.path(), &["--config-file", "c.json"])) <= 80);
        }
        for key in keys {
            for value in [&long, &words] {
                fs::write(&path, format!("{{\"{key}\": \"{value}\"}}")).unwrap();
                let args = ["--config-file", "c.json"];
                let source = ["--source", "text.txt", "--config-file", "c.json"];
                let is_prepare = binary == "prepare" && *key != "source";
                refused(binary, dir.path(), if is_prepare { &source } else { &args });
            }
        }
    }
    files.clear();
}

#[test]
fn long_lines_and_names_of_a_source_are_quoted_in_part() {
    let dir = trained();
    let long = "x".repeat(LONG);
    let words = "words and ".repeat(LONG / 10);
    for (i, line) in [
        format!("\"{words}\""),
        long.clone(),
        format!("{{\"{long}\": \"text\"}}"),
        format!("{{\"{words}\": 1, \"{long}\": 2}}"),
        format!("{{\"text\": \"{words}"),
        format!("{{\"text\": {}}}", "1".repeat(LONG)),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("line{i}.jsonl");
        fs::write(dir.path().join(&name), line + "\n").unwrap();
        let ran = run_command(command("prepare", dir.path()).args(["--source", &name]));
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(all.len() <= MOST_BYTES, "{name}: {} bytes: {:.2500}", all.len(), all);
    }
    let recipe = format!("{{\"source\": {{\"{long}\": []}}}}");
    fs::create_dir_all(dir.path().join("data/mine")).unwrap();
    fs::write(dir.path().join("data/mine/dataset.json"), recipe).unwrap();
    for binary in ["prepare", "train"] {
        refused(binary, dir.path(), &["--dataset-name", "mine"]);
    }
}

/// What a run and a model are described by may be damaged into anything.
#[test]
fn long_values_in_a_checkpoint_are_quoted_in_part() {
    let long = "x".repeat(LONG);
    for (file, text) in [
        ("state.json", format!("{{\"{long}\": 1}}")),
        ("manifest.json", format!("{{\"format_version\": 2, \"{long}\": 1}}")),
        ("manifest.json", format!("{{\"format_version\": 2, \"files\": [\"{long}\"]}}")),
        ("config.json", format!("{{\"model_type\": \"{long}\"}}")),
        ("tokenizer.json", format!("{{\"model\": \"{long}\"}}")),
    ] {
        let dir = trained();
        for step in fs::read_dir(dir.path().join("out/checkpoints")).unwrap() {
            fs::write(step.unwrap().path().join(file), &text).unwrap();
        }
        refused("train", dir.path(), &["--init-from", "resume", "--out-dir", "out"]);
        refused("sample", dir.path(), &["--out-dir", "out"]);
        // As a model of somebody else's, without a manifest.
        let model = dir.path().join("out/last").canonicalize().unwrap();
        if file != "manifest.json" {
            fs::remove_file(model.join("manifest.json")).unwrap();
        }
        if file == "config.json" || file == "tokenizer.json" {
            let model = model.to_str().unwrap();
            refused("sample", dir.path(), &["--checkpoint", model]);
            let tune = ["--dataset-name", "text", "--out-dir", "new", "--init-from", model];
            refused("train", dir.path(), &tune);
        }
    }
}
