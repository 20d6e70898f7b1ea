//! What `prepare` reads, and what it prints about it: files, folders, standard input, formats.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::program::{Ran, command, run_command};

/// Runs `prepare` with arguments that may hold spaces.
fn prepare(dir: &Path, args: &[&str]) -> Ran {
    run_command(command("prepare", dir).args(args))
}

/// The documents that were read for what was prepared as `name`.
fn n_documents(dir: &Path, name: &str) -> u64 {
    let meta = fs::read_to_string(dir.join("data").join(name).join("simple/meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    meta["tally"]["n_documents"].as_u64().unwrap()
}

fn story(i: usize) -> String {
    format!("Story {i} of the cat that sat and sat.")
}

#[test]
fn a_summary_says_which_files_train_and_validate_and_which_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("texts");
    fs::create_dir(&folder).unwrap();
    let lines = |name: &str, n: usize| {
        let line = |i: usize| format!("{{\"text\": \"{} {}\"}}\n", story(i), name);
        fs::write(folder.join(name), (0..n).map(line).collect::<String>()).unwrap();
    };
    for (name, n) in [("train-0.jsonl", 20), ("validation-0.jsonl", 4), ("test-0.jsonl", 6)] {
        lines(name, n);
    }
    fs::write(folder.join("README.md"), "About the data.").unwrap();
    let ran = prepare(dir.path(), &["--source", "texts", "--dry-run"]).ok();
    for part in [
        "read        train-0.jsonl (",
        "B, to validate on)",
        "skipped     2 files: README.md (about the data), test-0.jsonl (the test split)",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let ran = prepare(dir.path(), &["--source", "texts"]).ok();
    for part in [
        "train       20 documents",
        "validation  4 documents",
        "files       1 file to train on: train-0.jsonl",
        "1 file to validate on: validation-0.jsonl",
        "skipped     2 files: README.md (about the data), test-0.jsonl (the test split)",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let args = ["--source", "texts/train-0.jsonl", "--val-source", "texts/test-0.jsonl"];
    let ran = prepare(dir.path(), &[&args[..], &["--dataset-name", "other"]].concat()).ok();
    assert!(ran.stdout.contains("validation  6 documents"), "{}", ran.stdout);
}

#[test]
fn sources_are_a_list_for_flags_and_for_config_files() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let text = format!("{}\n<|endoftext|>\n", story(1)).repeat(10);
        fs::write(dir.path().join(format!("{name}.txt")), text).unwrap();
    }
    let ran = prepare(dir.path(), &["--source", "a.txt", "--source", "b.txt"]).ok();
    assert!(ran.stdout.contains("2 files to train on: a.txt, b.txt"), "{}", ran.stdout);
    assert!(dir.path().join("data/a/simple").is_dir());
    for (value, printed) in [
        ("[\"a.txt\", \"b.txt\"]", "and kept"),
        ("\"b.txt\"", "already prepared with other settings"),
        ("5", "a path in quotes or a list of them"),
    ] {
        let config = format!("{{\"source\": {value}, \"dataset_name\": \"a\"}}");
        fs::write(dir.path().join("c.json"), config).unwrap();
        let ran = prepare(dir.path(), &["--config-file", "c.json"]);
        assert!((ran.stdout.clone() + &ran.stderr).contains(printed), "{printed}: {ran:?}");
    }
}

#[test]
fn standard_input_is_read_and_known_again() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..20).map(|i| format!("{{\"text\": \"{}\"}}\n", story(i))).collect();
    fs::write(dir.path().join("lines"), &lines).unwrap();
    let piped = |args: &[&str]| {
        let stdin = fs::File::open(dir.path().join("lines")).unwrap();
        let mut prepare = command("prepare", dir.path());
        run_command(prepare.args(["--source", "-"]).args(args).stdin(Stdio::from(stdin)))
    };
    piped(&["--format", "jsonl"]).ok();
    assert_eq!(n_documents(dir.path(), "stdin"), 20);
    assert!(piped(&["--format", "jsonl"]).ok().stdout.contains("and kept"));
    // The same bytes as plain text, which they are unless something is specified.
    let ran = piped(&["--dataset-name", "text"]).ok();
    assert!(ran.stdout.contains("note: the text is one document"), "{}", ran.stdout);
    fs::write(dir.path().join("lines"), lines.replace("cat", "cow")).unwrap();
    let ran = piped(&["--format", "jsonl"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("stdin ("), "{}", ran.stderr);
}

#[test]
fn one_document_is_noted_in_one_line_and_separators_change_it() {
    let dir = tempfile::tempdir().unwrap();
    let names: String = (0..50).map(|i| format!("name {i}\n")).collect();
    fs::write(dir.path().join("names.txt"), names).unwrap();
    let ran = prepare(dir.path(), &["--source", "names.txt"]).ok();
    let notes: Vec<&str> = ran.stdout.lines().filter(|line| line.contains("note")).collect();
    assert_eq!(notes.len(), 1, "{}", ran.stdout);
    for part in ["one document", "<|endoftext|>", "--separator line"] {
        assert!(notes[0].contains(part), "{}", notes[0]);
    }
    let args = ["--source", "names.txt", "--separator", "line", "--force", "--report"];
    let ran = prepare(dir.path(), &args).ok();
    assert!(!ran.stdout.contains("one document"), "{}", ran.stdout);
    assert_eq!(n_documents(dir.path(), "names"), 50);
    // The report counts the same in the shards.
    let counted = ran.stdout.lines().filter_map(|line| line.trim().strip_prefix("documents "));
    let counted: u64 = counted.map(|count| count.trim().parse::<u64>().unwrap()).sum();
    assert_eq!(counted, 50, "{}", ran.stdout);
}

#[test]
fn records_that_are_left_out_are_counted_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let line = |i: usize| match i {
        7 => "{\"title\": \"no text\"}\n".to_owned(),
        _ => format!("{{\"text\": \"{}\\ud83d\\u0000\", \"x\": NaN}}\n", story(i)),
    };
    let lines = (0..200).map(line).collect::<String>() + "{\"text\": \"cut o";
    fs::write(dir.path().join("a.jsonl"), lines).unwrap();
    let ran = prepare(dir.path(), &["--source", "a.jsonl"]).ok();
    for part in [
        "skipped     2 records that cannot be used:",
        "a.jsonl line 8: no `text`; it has `title`",
        "a.jsonl line 201: the last line is cut off",
        "replaced    199 places with half a surrogate pair",
        "199 NUL characters",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let ran =
        prepare(dir.path(), &["--source", "a.jsonl", "--max-bad-fraction", "0.001", "--force"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("--max-bad-fraction to 0.01"), "{}", ran.stderr);
}

#[test]
fn parquet_of_every_codec_is_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for codec in ["gzip", "brotli", "lz4"] {
        let dir = tempfile::tempdir().unwrap();
        let source = fixtures.join(format!("{codec}.parquet"));
        prepare(dir.path(), &["--source", source.to_str().unwrap()]).ok();
        assert_eq!(n_documents(dir.path(), codec), 3);
    }
}

#[test]
fn nothing_that_is_printed_is_as_long_as_the_input() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(2 << 20);
    let keys: String = (0..20_000).map(|i| format!("\"key number {i}\": 1, ")).collect();
    let columns: String = (0..20_000).map(|i| format!("column {i},")).collect();
    for (name, content) in [
        ("string.jsonl", format!("\"{long}")),
        ("word.jsonl", long.clone()),
        ("key.jsonl", format!("{{\"{long}\": 1}}")),
        ("keys.jsonl", format!("{{{keys}\"a\": 1}}")),
        ("value.jsonl", format!("{{\"text\": [\"{long}\"]}}")),
        ("list.json", format!("{{\"{long}\": [{{}}]}}")),
        ("columns.csv", columns),
        ("column.csv", format!("{long}\na")),
        ("control.jsonl", format!("{{\"\u{1b}[2J\u{7}{long}\": 1}}")),
    ] {
        fs::write(dir.path().join(name), content).unwrap();
        let ran = prepare(dir.path(), &["--source", name]);
        assert!(matches!(ran.code, 2 | 3), "{name}: {}", ran.code);
        let printed = ran.stdout + &ran.stderr;
        assert!(printed.len() < 2048, "{name}: {} bytes", printed.len());
        assert!(!printed.contains('\u{1b}'), "{name}");
    }
    // The longest arguments that a command line can have.
    let long = "x".repeat(100_000);
    for args in [
        ["--source", &long],
        ["--val-source", &long],
        ["--separator", &format!("{long}\\x")],
        ["--text-template", &format!("{{{long}")],
        ["--text-column", &long],
    ] {
        fs::write(dir.path().join("a.jsonl"), "{\"a\": \"b\"}\n").unwrap();
        let ran = prepare(dir.path(), &[&["--source", "a.jsonl"][..], &args[..]].concat());
        assert_ne!(ran.code, 0);
        assert!(ran.stderr.len() < 2048, "{}: {} bytes", args[0], ran.stderr.len());
    }
}
