//! Sources of prompts and stop texts, notes about them, and the checkpoint that is used.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::program::{Ran, command, copy_tree, run, run_command, trained};

const ARGS: &str = "--out-dir out --num-samples 1 --max-new-tokens 30";

fn sample(dir: &Path, args: &[&str]) -> Ran {
    run_command(command("sample", dir).args(ARGS.split_whitespace()).args(args)).ok()
}

fn from_stdin(dir: &Path, start: &str, input: &[u8]) -> Ran {
    let mut command = command("sample", dir);
    command.args(ARGS.split_whitespace()).args(["--start", start]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap_or(-1);
    Ran { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn a_file_or_standard_input_is_the_prompt_that_its_text_is() {
    let dir = trained();
    let path = dir.path();
    let typed = sample(path, &["--start", "Line 1:\nthe"]).stdout;
    for (name, bytes) in [
        ("unix", &b"Line 1:\nthe\n"[..]),
        ("bare", b"Line 1:\nthe"),
        ("windows", b"\xef\xbb\xbfLine 1:\r\nthe\r\n"),
    ] {
        fs::write(path.join(name), bytes).unwrap();
        let from_file = sample(path, &["--start", &format!("FILE:{name}")]);
        assert_eq!(from_file.stdout, typed, "{name}");
        assert!(!from_file.stderr.contains("note:"), "{}", from_file.stderr);
        for start in ["-", "FILE:-"] {
            assert_eq!(from_stdin(path, start, bytes).ok().stdout, typed, "{name} {start}");
        }
    }
    let refused = from_stdin(path, "-", b"caf\xe9");
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("standard input is not UTF-8"), "{}", refused.stderr);
}

#[test]
fn what_looks_like_more_than_text_is_pointed_out() {
    let dir = trained();
    fs::write(dir.path().join("p.txt"), "Line").unwrap();
    for (start, part) in [
        (r"Line\nthe", "two characters each"),
        (r"Line\tthe", "two characters each"),
        ("file:p.txt", "FILE: in capitals"),
        ("Größe", "3 characters of the prompt are not in the model's vocabulary (\"G\""),
        ("Line 1: the caf\u{e9} cat", "the model sees the last 16"),
    ] {
        let ran = sample(dir.path(), &["--start", start]);
        assert!(ran.stdout.starts_with(start), "taken as it is: {}", ran.stdout);
        assert_eq!(ran.stderr.matches(part).count(), 1, "{start}: {}", ran.stderr);
    }
    for start in ["Line 1", "Line ", "Line\nthe"] {
        let ran = sample(dir.path(), &["--start", start]);
        assert!(!ran.stderr.contains("note:"), "{start}: {}", ran.stderr);
    }
    let no_file = sample(dir.path(), &["--start", "file:no"]).stderr;
    assert!(!no_file.contains("in capitals"), "{no_file}");
}

#[test]
fn a_byte_pair_model_knows_its_training_text() {
    let dir = trained();
    let path = dir.path();
    run("prepare", path, "--source text.txt --encoding-type bpe --vocab-size 300").ok();
    let shape = "--n-layer 1 --n-head 2 --n-embd 24 --block-size 16 --batch-size 2";
    let rest = "--max-iters 4 --warmup-iters 1 --eval-interval 2 --eval-iters 1 --threads 1";
    run("train", path, &format!("--dataset-name text --out-dir out-bpe {shape} {rest}")).ok();
    let args = ["--out-dir", "out-bpe"];
    let notes = |start: &str| sample(path, &[&args[..], &["--start", start]].concat()).stderr;
    assert!(notes("Line café").starts_with("30 tokens"), "{}", notes("Line café"));
    let both = notes("Qua日 ");
    for part in ["(\"Q\", \"日\")", "ends in a space"] {
        assert!(both.contains(part), "{part}: {both}");
    }
    fs::remove_dir_all(path.join("data")).unwrap();
    assert!(!notes("Qua日").contains("note:"), "what is not known is not printed");
}

#[test]
fn a_stop_text_has_escapes() {
    let dir = trained();
    let args = ["--start", "Line 1", "--max-new-tokens", "300"];
    let whole = sample(dir.path(), &args).stdout;
    let (first, _) = whole.split_once('\n').expect("a second line");
    for stop in [r"\n", "\n"] {
        let ran = sample(dir.path(), &[&args[..], &["--stop", stop]].concat());
        assert_eq!(ran.stdout, format!("{first}\n"), "{stop:?}");
    }
    let literal = sample(dir.path(), &[&args[..], &["--stop", r"\\n"]].concat());
    assert_eq!(literal.stdout, whole);
}

#[test]
fn a_checkpoint_is_an_out_dir_and_an_untrained_one_says_so() {
    let dir = trained();
    let path = dir.path();
    let args = "--num-samples 1 --max-new-tokens 30";
    let expected = run("sample", path, &format!("--out-dir out {args}")).ok();
    assert!(!expected.stderr.contains("0 steps"), "{}", expected.stderr);
    for out_dir in ["out/best", "out/last", "out/best/", "./out/checkpoints/step-00000020"] {
        let ran = run("sample", path, &format!("--out-dir {out_dir} {args}")).ok();
        assert_eq!(ran.stdout, expected.stdout, "{out_dir}");
    }
    // A link that is a file, as where links are not to be had.
    fs::remove_file(path.join("out/best")).unwrap();
    fs::write(path.join("out/best"), "checkpoints/step-00000020\n").unwrap();
    let ran = run("sample", path, &format!("--out-dir out/best {args}")).ok();
    assert_eq!(ran.stdout, expected.stdout);

    let copy = path.join("copy");
    fs::create_dir(&copy).unwrap();
    copy_tree(&path.join("out/checkpoints/step-00000020"), &copy);
    fs::remove_file(copy.join("manifest.json")).unwrap();
    let state = fs::read_to_string(copy.join("state.json")).unwrap();
    fs::write(copy.join("state.json"), state.replacen("\"step\": 20", "\"step\": 0", 1)).unwrap();
    let ran = run("sample", path, &format!("--out-dir copy {args}")).ok();
    assert!(ran.stderr.contains("trained for 0 steps"), "{}", ran.stderr);
    assert_eq!(ran.stdout, expected.stdout);
}
