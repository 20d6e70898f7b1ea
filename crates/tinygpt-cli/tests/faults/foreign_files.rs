//! Other files where the programs would write: none of them is replaced or removed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{begun, home, tempdir, train};
use crate::program::{Bad, check_all, command, copy_tree, run, run_command, snapshot};
use crate::report::conclude;

/// The name that is refused, and how it comes into the directory.
type OfOthers = (&'static str, fn(&Path));

/// What somebody has in a directory where no run of ours is.
const OF_OTHERS: [OfOthers; 10] = [
    ("best", |u| fs::write(u.join("best"), "my best photograph").unwrap()),
    ("last", |u| fs::create_dir(u.join("last")).unwrap()),
    ("best", |u| symlink("/etc", u.join("best")).unwrap()),
    ("metrics.jsonl", |u| fs::write(u.join("metrics.jsonl"), "{\"step\": 1}\n").unwrap()),
    ("metrics.jsonl", |u| {
        fs::write(u.join("numbers"), "1\n").unwrap();
        symlink("numbers", u.join("metrics.jsonl")).unwrap();
    }),
    ("loss.svg", |u| fs::write(u.join("loss.svg"), "<svg/>").unwrap()),
    ("checkpoints/notes.txt", |u| in_checkpoints(u, "notes.txt")),
    ("checkpoints/.tmp-x", |u| in_checkpoints(u, ".tmp-x")),
    ("checkpoints/step-00001000", |u| in_checkpoints(u, "step-00001000/lit_model.pth")),
    (".last.part", |u| fs::create_dir(u.join(".last.part")).unwrap()),
];

fn in_checkpoints(u: &Path, name: &str) {
    let path = u.join("checkpoints").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "mine").unwrap();
}

fn names(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = snapshot(dir);
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.extend(entries.map(|path| (path, Vec::new())));
    files
}

#[test]
fn a_directory_that_holds_files_of_others_is_refused_by_name() {
    let mut failures = Vec::new();
    for (name, put) in OF_OTHERS {
        for flags in ["", "--overwrite --init-from scratch"] {
            let dir = tempdir();
            let out_dir = dir.path().join("u");
            fs::create_dir(&out_dir).unwrap();
            put(&out_dir);
            let before = names(&out_dir);
            let ran = run_command(train(&out_dir).args(flags.split_whitespace()));
            let is_named = ran.stderr.contains(&format!("error: {}", out_dir.join(name).display()));
            if ran.code != 2 || !is_named || !ran.stderr.contains("hint: ") {
                failures.push(format!("{name} {flags}: code {}: {}", ran.code, ran.stderr));
            }
            if names(&out_dir) != before {
                failures.push(format!("{name} {flags}: something has changed"));
            }
        }
    }
    conclude("files of others in a new run's directory", 2 * OF_OTHERS.len(), &failures);
}

#[test]
fn other_files_next_to_a_run_stay_and_stop_nothing() {
    let begun = begun(4);
    let out_dir = begun.path().join("out");
    let mine = ["notes.txt", "checkpoints/.tmp-x", "checkpoints/notes.txt", "checkpoints/step-7"];
    mine.iter().for_each(|name| fs::write(out_dir.join(name), "mine").unwrap());
    run_command(&mut train(&out_dir)).ok();
    let lost = mine.iter().filter(|name| fs::read(out_dir.join(name)).unwrap() != b"mine");
    let failures: Vec<String> = lost.map(|name| format!("{name} is lost")).collect();
    // A run that was killed before its first checkpoint leaves its first lines, and starts again.
    let early = tempdir();
    run_command(&mut train(&early.path().join("out"))).ok();
    let (killed, whole) = (early.path().join("killed"), early.path().join("out"));
    fs::create_dir(&killed).unwrap();
    let metrics = fs::read(whole.join("metrics.jsonl")).unwrap();
    fs::write(killed.join("metrics.jsonl"), &metrics[..300]).unwrap();
    run_command(&mut train(&killed)).ok();
    conclude("other files next to a run", mine.len() + 1, &failures);
}

/// A directory with the prepared text, a run and an export.
fn work() -> tempfile::TempDir {
    let dir = begun(4);
    copy_tree(&home().join("data"), &{
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        data
    });
    dir
}

#[test]
fn nothing_is_put_into_what_is_removed_as_a_whole() {
    let dir = work();
    let path = dir.path();
    let mut prepared =
        fs::read_dir(path.join("data/text")).unwrap().map(|entry| entry.unwrap().path());
    let prepared = prepared.find(|path| path.is_dir()).unwrap();
    fs::write(prepared.join("t.txt"), "A text in a preparation.\n").unwrap();
    let within = format!("data/text/{}", prepared.file_name().unwrap().to_str().unwrap());
    let train: Vec<String> = [
        "out/best",
        "out/best/run",
        "out/checkpoints",
        "out/checkpoints/new",
        "out/checkpoints/step-00000004/a/b",
        &within,
        &format!("{within}/run"),
        "out/../out/last/x",
    ]
    .map(|out_dir| format!("--dataset-name text --init-from scratch --out-dir {out_dir}"))
    .into();
    let refused: &[&str] = &["would be deleted with it", "--out-dir"];
    let table: Vec<Bad<'_>> = train.iter().map(|args| (args.as_str(), 2, refused)).collect();
    check_all("train", path, &table);
    let sources = [format!("--source {within}/t.txt --force"), format!("--source {within}")];
    let mut table: Vec<Bad<'_>> = Vec::new();
    for args in &sources {
        table.push((args, 2, &["would be deleted with it", "--source"]));
    }
    table.push(("--source out/best/tokenizer.json", 2, &["would be deleted", "--source"]));
    table.push((
        "--source t.txt --data-dir out --dataset-name best",
        2,
        &["would be deleted", "--data-dir"],
    ));
    fs::write(path.join("t.txt"), "A text.\n".repeat(50)).unwrap();
    check_all("prepare", path, &table);
}

#[test]
fn a_preparation_replaces_only_a_preparation() {
    const CASES: [OfOthers; 4] = [
        ("notes.txt", |at| fs::write(at.join("notes.txt"), "mine").unwrap()),
        ("train-00000.bin", |at| symlink("/etc/hostname", at.join("train-00000.bin")).unwrap()),
        ("meta.json", |at| fs::create_dir(at.join("meta.json")).unwrap()),
        ("", |at| {
            fs::remove_dir(at).unwrap();
            fs::write(at, "a file").unwrap();
        }),
    ];
    let mut failures = Vec::new();
    for (name, put) in CASES {
        for flags in ["", "--force"] {
            let dir = tempdir();
            let at = dir.path().join("data/t/simple");
            fs::create_dir_all(&at).unwrap();
            fs::write(dir.path().join("t.txt"), "A text.\nAnother line.\n".repeat(40)).unwrap();
            put(&at);
            let before = names(dir.path());
            let ran = run("prepare", dir.path(), &format!("--source t.txt {flags}"));
            let path: PathBuf = Path::new("data/t/simple").join(name).components().collect();
            let refusal = format!("{} is not part of a prepared dataset", path.display());
            let is_refused = ran.code == 2 && ran.stderr.contains(&refusal);
            if !is_refused || names(dir.path()) != before {
                failures.push(format!("{name} {flags}: code {}: {}", ran.code, ran.stderr));
            }
        }
    }
    conclude("files of others where a preparation goes", 2 * CASES.len(), &failures);
}

#[test]
fn an_export_replaces_only_an_export() {
    let dir = work();
    let path = dir.path();
    run("sample", path, "--out-dir out --export gguf model.gguf").ok();
    fs::write(path.join("poem.txt"), "GGU").unwrap();
    fs::write(path.join("empty"), "").unwrap();
    symlink("model.gguf", path.join("link")).unwrap();
    // Not a device of the machine: a program that fails this test replaces what it is given.
    assert!(Command::new("mkfifo").arg(path.join("pipe")).status().unwrap().success());
    fs::create_dir_all(path.join(".new.gguf.part/mine")).unwrap();
    let mut table: Vec<Bad<'_>> = Vec::new();
    for args in ["poem.txt", "empty", "link", "out/metrics.jsonl", "pipe"] {
        table.push((args, 2, &["not replaced", "hint: "]));
    }
    for args in ["out/best/model.safetensors", "out/last/new.gguf", "out/checkpoints/new.gguf"] {
        table.push((args, 2, &["would be deleted with it"]));
    }
    table.push(("new.gguf", 2, &[".new.gguf.part", "in the way"]));
    let commands: Vec<String> = table
        .iter()
        .map(|(target, ..)| format!("--out-dir out --overwrite --export gguf {target}"))
        .collect();
    let rows = commands.iter().zip(&table);
    let table: Vec<Bad<'_>> =
        rows.map(|(args, (_, code, says))| (args.as_str(), *code, *says)).collect();
    check_all("sample", path, &table);
    assert!(path.join("link").is_symlink() && path.join(".new.gguf.part/mine").is_dir());
    run("sample", path, "--out-dir out --overwrite --export gguf model.gguf --type f16").ok();
}

#[test]
#[cfg(target_os = "linux")]
fn help_that_cannot_be_written_is_an_error() {
    for binary in ["prepare", "train", "sample"] {
        for flag in ["--help", "-h", "--version"] {
            let full = fs::File::options().write(true).open("/dev/full").unwrap();
            let output = command(binary, home()).arg(flag).stdout(full).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(4), "{binary} {flag}: {stderr}");
            assert!(stderr.contains("standard output"), "{binary} {flag}: {stderr}");
        }
    }
}

#[test]
fn a_proof_that_was_killed_is_tidied_up_by_the_next_one() {
    let dir = tempdir();
    let temp = dir.path().join("temp");
    let left = temp.join("tinygpt-verify-killed");
    fs::create_dir_all(left.join("whole")).unwrap();
    fs::write(left.join(".lock"), "").unwrap();
    fs::create_dir_all(temp.join("tinygpt-verify-mine")).unwrap();
    let mut proof = train(&dir.path().join("out"));
    proof.args(["--init-from", "scratch", "--verify-resume", "2"]).env("TMPDIR", &temp);
    run_command(&mut proof).ok();
    let left: Vec<_> =
        fs::read_dir(&temp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tinygpt-verify-mine"]);
}
