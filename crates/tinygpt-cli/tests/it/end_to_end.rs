//! All steps with the real binaries: text, shards, training, resuming, samples.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::program::{SMALL, command, run, run_command, small_text, trained};

fn losses(dir: &Path) -> Vec<f64> {
    let metrics = fs::read_to_string(dir.join("out/metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["event"] == "step")
        .map(|line| line["loss"].as_f64().unwrap())
        .collect()
}

#[test]
fn prepare_train_resume_and_sample_in_both_encodings() {
    for encoding in ["simple", "bpe --vocab-size 300"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::write(path.join("text.txt"), small_text()).unwrap();
        let ran =
            run("prepare", path, &format!("--source text.txt --encoding-type {encoding}")).ok();
        for part in ["document", "tokens", "bytes per token", "time"] {
            assert!(ran.stdout.contains(part), "{}", ran.stdout);
        }
        let half = run("train", path, &format!("{SMALL} --max-iters 10 --lr-decay-iters 20")).ok();
        for flag in ["\n", " --serve\n", " --interactive\n"] {
            let command = format!("cargo run --bin sample -- --out-dir out{flag}");
            assert!(half.stderr.contains(&command), "{command}: {}", half.stderr);
        }
        assert!(half.stderr.contains("best: val loss "), "{}", half.stderr);
        assert!(half.stderr.contains("ETA") && half.stderr.contains("tok/s"), "{}", half.stderr);
        assert!(!half.stdout.trim().is_empty(), "a story");
        let whole = format!("{SMALL} --init-from resume --lr-decay-iters 20");
        run("train", path, &whole).ok();
        assert_eq!(losses(path).len(), 20);
        let again = run("train", path, &whole).ok();
        assert!(again.stderr.contains("already"), "{}", again.stderr);
        assert!(!again.stdout.trim().is_empty(), "a story");
        let sample = "--out-dir out --num-samples 2 --max-new-tokens 30 --start Line";
        let first = run("sample", path, sample).ok();
        assert_eq!(first.stdout.matches(&"-".repeat(40)).count(), 1, "{}", first.stdout);
        assert!(first.stdout.starts_with("Line") && first.stderr.contains("tokens/s"));
        assert_eq!(first.stdout, run("sample", path, sample).ok().stdout, "same seed, same text");
        assert!(path.join("out/loss.svg").is_file());
    }
}

#[test]
fn a_resumed_run_equals_the_uninterrupted_one() {
    let dir = trained();
    let resumed = tempfile::tempdir().unwrap();
    fs::write(resumed.path().join("text.txt"), small_text()).unwrap();
    run("prepare", resumed.path(), "--source text.txt").ok();
    let half = format!("{SMALL} --max-iters 10 --lr-decay-iters 20");
    run("train", resumed.path(), &half).ok();
    run("train", resumed.path(), &format!("{SMALL} --init-from auto")).ok();
    assert_eq!(losses(dir.path()), losses(resumed.path()));
    let weights = |dir: &Path| fs::read(dir.join("out/last/model.safetensors")).unwrap();
    assert!(weights(dir.path()) == weights(resumed.path()), "bit for bit");
}

/// The steps' own time, not that of the evaluations around them.
#[test]
fn a_profile_accounts_for_the_time_of_the_steps() {
    let dir = trained();
    let ran = run("train", dir.path(), &format!("{SMALL} --overwrite --profile --threads 1")).ok();
    let table: Vec<&str> =
        ran.stderr.lines().skip_while(|line| !line.starts_with("profile of 20 steps")).collect();
    let share = |line: &&str| {
        let share = line.split_whitespace().find_map(|word| word.strip_suffix('%'))?;
        share.parse::<f64>().ok()
    };
    let total: f64 =
        table.iter().skip(2).take_while(|l| l.starts_with("  ")).filter_map(share).sum();
    assert!((total - 100.0).abs() < 2.0, "{total}: {table:#?}");
    for op in ["linear x W", "attention, backward", "head and loss", "AdamW", "waiting, other"] {
        assert!(table.iter().any(|line| line.contains(op)), "{op}: {table:#?}");
    }
    let metrics = fs::read_to_string(dir.path().join("out/metrics.jsonl")).unwrap();
    let step = metrics.lines().find(|line| line.contains("\"step\"")).unwrap();
    let step: Value = serde_json::from_str(step).unwrap();
    let mfu = step["mfu"].as_f64().unwrap();
    assert!(mfu > 0.0 && mfu <= 1.0, "{step}");
    let quiet = run("train", dir.path(), &format!("{SMALL} --overwrite")).ok();
    assert!(!quiet.stderr.contains("profile"), "{}", quiet.stderr);
}

#[test]
fn both_encodings_stand_side_by_side() {
    let dir = trained();
    run("prepare", dir.path(), "--source text.txt --encoding-type bpe --vocab-size 300").ok();
    let again = run("prepare", dir.path(), "--source text.txt").ok();
    assert!(again.stdout.contains("kept"), "{}", again.stdout);
    run("train", dir.path(), &format!("{SMALL} --overwrite --encoding-type bpe --eval-only")).ok();
}

/// The text is one document: no end of one was ever seen, so none is asked for or waited for.
#[test]
fn a_model_of_one_document_starts_with_a_line_break_and_never_ends() {
    let dir = trained();
    let config = fs::read(dir.path().join("out/best/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["eos_token_id"], Value::Null);
    let sample = |args: &str| {
        let flags = "--out-dir out --num-samples 1 --max-new-tokens 300";
        run("sample", dir.path(), &format!("{flags} {args}")).ok()
    };
    let ran = sample("");
    assert!(ran.stderr.starts_with("300 tokens in "), "{}", ran.stderr);
    assert!(!ran.stdout.contains("-----"), "nothing to separate: {}", ran.stdout);
    let mut from_newline = command("sample", dir.path());
    let flags = "--out-dir out --num-samples 1 --max-new-tokens 300 --start";
    let prompted = run_command(from_newline.args(flags.split(' ')).arg("\n")).ok();
    assert_eq!(prompted.stdout, format!("\n{}", ran.stdout));
}

#[test]
#[cfg(unix)]
fn all_files_of_a_checkpoint_have_the_same_permissions() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = trained();
    let entries = fs::read_dir(dir.path().join("out/last")).unwrap().map(Result::unwrap);
    let modes: std::collections::BTreeSet<u32> =
        entries.map(|entry| entry.metadata().unwrap().permissions().mode()).collect();
    assert_eq!(modes.len(), 1, "{modes:?}");
}

#[test]
#[cfg(unix)]
fn a_signal_ends_prepare_with_nothing_to_see() {
    use std::io::{BufRead as _, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let mut prepare = command("prepare", dir.path());
    prepare.args(["--dataset-name", "tiny_tales"]).stderr(Stdio::piped());
    let mut child = prepare.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("tokenizer")), "the encoding has begun");
    run_command(std::process::Command::new("kill").args(["-s", "INT", &child.id().to_string()]))
        .ok();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let names = fs::read_dir(dir.path().join("data/tiny_tales")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name.to_string_lossy().starts_with('.')), "{names:?}");
    let ran = run("train", dir.path(), "--dataset-name text --out-dir out --max-iters 1");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}

#[test]
fn missing_shards_are_prepared_if_no_download_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = dir.path().join("data/letters");
    fs::create_dir_all(&recipe).unwrap();
    fs::write(recipe.join("letters.txt"), small_text()).unwrap();
    let json = "{\"source\": {\"files\": {\"train\": [\"letters.txt\"]}}}";
    fs::write(recipe.join("dataset.json"), json).unwrap();
    let ran = run("train", dir.path(), &format!("{SMALL} --dataset-name letters")).ok();
    assert!(ran.stderr.contains("preparing it now"), "{}", ran.stderr);
}

#[test]
fn a_reader_that_leaves_is_not_an_error() {
    let dir = trained();
    let args = "--out-dir out --num-samples 50 --max-new-tokens 200";
    let mut sample = command("sample", dir.path());
    sample.args(args.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = sample.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_reported_with_a_hint() {
    let dir = trained();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut sample = command("sample", dir.path());
    let output = sample.args(["--out-dir", "out"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("standard output") && stderr.contains("free some space"), "{stderr}");
}

#[test]
fn a_time_budget_ends_the_run_with_a_hint() {
    let dir = trained();
    let args = "--overwrite --max-iters 1000000 --eval-interval 1000000 --max-seconds 0.5";
    let ran = run("train", dir.path(), &format!("{SMALL} {args}")).ok();
    assert!(ran.stderr.contains("--max-seconds reached after "), "{}", ran.stderr);
    let resume = ran.stderr.lines().find(|line| line.starts_with("to resume: ")).expect("a hint");
    assert!(resume.ends_with("-- --init-from resume --out-dir out --max-seconds 0.5"), "{resume}");
    assert_eq!(ran.stdout, "", "a story is for the end of a run");
}

#[test]
#[cfg(unix)]
fn a_signal_stops_the_run_with_everything_saved() {
    use std::io::{BufRead as _, BufReader};
    let dir = trained();
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let args = format!("{SMALL} --overwrite --max-iters 1000000 --eval-interval 1000000");
        let mut train = command("train", dir.path());
        train.args(args.split_whitespace()).stderr(Stdio::piped());
        let mut child = train.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("iter")), "the first step is done");
        let pid = child.id().to_string();
        run_command(std::process::Command::new("kill").args(["-s", name, &pid])).ok();
        let rest: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{rest:?}");
        assert!(rest.iter().any(|line| line.starts_with("stopping after this step")), "{rest:?}");
        let resume = rest.iter().find(|line| line.starts_with("to resume: ")).expect("a hint");
        assert!(resume.ends_with("--bin train -- --init-from resume --out-dir out"), "{resume}");
        run("sample", dir.path(), "--out-dir out --checkpoint last --num-samples 1").ok();
    }
}
