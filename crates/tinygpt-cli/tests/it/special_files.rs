//! Links to devices, FIFOs and huge files in place of small files: refused at once by name, never read
//! without end.
#![cfg(unix)]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Ran, SMALL, command, run, run_command, snapshot, trained};

/// Longer than any refusal takes on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Runs a binary that may hang or eat memory: with a limit on both.
fn run_limited(binary: &str, dir: &Path, args: &str) -> Ran {
    let program = command(binary, dir);
    let mut shell = Command::new("timeout");
    shell.args(["-s", "KILL", "20"]).arg(program.get_program()).args(args.split_whitespace());
    for (key, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    run_command(shell.current_dir(dir))
}

/// Something without an end, or with one far away, in the place of a file.
type Replacement = (&'static str, fn(&Path));

const REPLACEMENTS: [Replacement; 3] = [
    ("regular file", |path| symlink("/dev/zero", path).unwrap()),
    ("regular file", |path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }),
    // Takes no room on the disk.
    ("bytes", |path| File::create(path).unwrap().set_len(100 << 30).unwrap()),
];

fn files(dir: &Path, names: &[&str]) -> Vec<PathBuf> {
    let has = |path: &PathBuf| names.iter().any(|name| path.ends_with(name));
    snapshot(dir).into_keys().filter(has).collect()
}

#[test]
fn a_preparation_of_devices_pipes_and_giants_is_refused_by_name() {
    let train = format!("{SMALL} --out-dir new");
    for name in ["meta.json", "tokenizer.json", "train-00000.bin", "val-00000.bin"] {
        for (says, replace) in REPLACEMENTS {
            let dir = trained();
            let path = files(&dir.path().join("data"), &[name]).pop().unwrap();
            fs::remove_file(&path).unwrap();
            replace(&path);
            let begin = Instant::now();
            let ran = run_limited("train", dir.path(), &train);
            assert_eq!(ran.code, 3, "{name}: {}", ran.stderr);
            // The giant is all zeros.
            let is_reported = ran.stderr.contains(says) || ran.stderr.contains("not a token shard");
            assert!(ran.stderr.contains(name) && is_reported, "{}", ran.stderr);
            assert!(begin.elapsed() < AT_ONCE);
        }
    }
    // Which encoding was prepared last can be found out without it.
    let dir = trained();
    let marker = dir.path().join("data/text/prepared-last");
    fs::remove_file(&marker).unwrap();
    symlink("/dev/zero", &marker).unwrap();
    assert_eq!(run_limited("train", dir.path(), &train).code, 0);
}

#[test]
fn a_checkpoint_of_devices_pipes_and_giants_is_refused_by_name() {
    let names = [
        "manifest.json",
        "state.json",
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "tokenizer.json",
    ];
    for name in names {
        for (says, replace) in REPLACEMENTS {
            let dir = trained();
            for path in files(&dir.path().join("out/checkpoints"), &[name]) {
                fs::remove_file(&path).unwrap();
                replace(&path);
            }
            let resume = format!("{SMALL} --init-from resume --max-iters 30");
            for (binary, args) in [("sample", "--out-dir out"), ("train", resume.as_str())] {
                let ran = run_limited(binary, dir.path(), args);
                assert_eq!(ran.code, 3, "{binary} {name}: {}", ran.stderr);
                assert!(ran.stderr.contains(name) && ran.stderr.contains(says), "{}", ran.stderr);
            }
        }
    }
}

#[test]
fn a_model_of_others_made_of_devices_pipes_and_giants_is_refused_by_name() {
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        for (says, replace) in REPLACEMENTS {
            let dir = trained();
            let model = dir.path().join("model");
            fs::create_dir(&model).unwrap();
            for copied in ["config.json", "model.safetensors", "tokenizer.json"] {
                fs::copy(dir.path().join("out/best").join(copied), model.join(copied)).unwrap();
            }
            fs::remove_file(model.join(name)).unwrap();
            replace(&model.join(name));
            let ran = run_limited("sample", dir.path(), "--checkpoint model");
            // 2 if its names are not those of a model's directory at all.
            let is_refused = ran.code == 3 || says == "regular file" && ran.code == 2;
            assert!(is_refused && ran.stderr.contains(name), "{name}: {}", ran.stderr);
        }
    }
}

#[test]
fn a_header_of_a_million_tensors_is_refused_at_once() {
    let dir = trained();
    let model = dir.path().join("model");
    fs::create_dir(&model).unwrap();
    for copied in ["config.json", "tokenizer.json"] {
        fs::copy(dir.path().join("out/best").join(copied), model.join(copied)).unwrap();
    }
    let tensor =
        |i: usize| format!("\"t{i}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let tensors: Vec<String> = (0..1_000_000).map(tensor).collect();
    let header = format!("{{{}}}", tensors.join(","));
    let mut file = File::create(model.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let begin = Instant::now();
    let ran = run("sample", dir.path(), "--checkpoint model");
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    for words in ["model.safetensors", "header of", "more than"] {
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
    assert!(begin.elapsed() < AT_ONCE);
}

#[test]
fn configs_and_prompts_without_end_are_refused_and_pipes_are_read() {
    let dir = trained();
    let refused = |binary: &str, args: &str, words: &[&str]| {
        let ran = run_limited(binary, dir.path(), args);
        assert_eq!(ran.code, 2, "{args}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{args}: {}", ran.stderr);
        }
    };
    refused("train", "--config-file /dev/zero", &["/dev/zero", "more than the 1048576 bytes"]);
    let prompt = "--out-dir out --max-new-tokens 1 --start FILE:";
    refused("sample", &format!("{prompt}/dev/zero"), &["/dev/zero", "more than", "tail -c"]);
    let mut sample = command("sample", dir.path());
    sample.args(["--out-dir", "out", "--start", "-"]).stdin(File::open("/dev/zero").unwrap());
    let ran = run_command(&mut sample);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("standard input has more than"), "{}", ran.stderr);
    // As `<(…)` of a shell gives them.
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (binary, args, content) in [
        ("sample", format!("{prompt}fifo"), "The cat"),
        ("train", "--config-file fifo --show-config".to_owned(), "{\"n_layer\": 3}"),
    ] {
        let mut program = command(binary, dir.path());
        program.args(args.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = program.spawn().unwrap();
        File::options().write(true).open(&fifo).unwrap().write_all(content.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
