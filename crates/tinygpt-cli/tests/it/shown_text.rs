//! File contents and names cannot control the terminal or change a printed command.

use std::fs;

use crate::program::{command, copy_tree, run_command, trained};

/// Renames a tensor of a safetensors file; its JSON header may change its length.
fn rename_tensor(file: &std::path::Path, from: &str, to: &str) {
    let bytes = fs::read(file).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + n].to_vec()).unwrap();
    assert!(header.contains(from), "{header}");
    let header = header.replace(from, to);
    let mut renamed = (header.len() as u64).to_le_bytes().to_vec();
    renamed.extend(header.as_bytes());
    renamed.extend(&bytes[8 + n..]);
    fs::write(file, renamed).unwrap();
}

#[test]
fn control_characters_of_files_do_not_reach_the_terminal() {
    let dir = trained();
    let model = dir.path().join("model");
    fs::create_dir(&model).unwrap();
    copy_tree(&fs::canonicalize(dir.path().join("out/best")).unwrap(), &model);
    fs::remove_file(model.join("manifest.json")).unwrap();
    rename_tensor(&model.join("model.safetensors"), "h.0.ln_1.weight", "h.0.ln_\\u001b[2J\\u0007");
    fs::write(dir.path().join("c.json"), "{\"se\\u001b[2Jed\": 1}").unwrap();
    fs::create_dir_all(dir.path().join("data/evil")).unwrap();
    let recipe = "{\"description\": \"a\", \"source\": {\"nowhere\\u001b[2J\": 1}}";
    fs::write(dir.path().join("data/evil/dataset.json"), recipe).unwrap();
    for (binary, args) in [
        ("sample", ["--checkpoint", "model"]),
        ("sample", ["--config-file", "c.json"]),
        ("train", ["--config-file", "c.json"]),
        ("prepare", ["--config-file", "c.json"]),
        ("prepare", ["--dataset-name", "evil"]),
        ("train", ["--dataset-name", "\u{1b}[2Jx"]),
        ("sample", ["--out-dir", "\u{1b}[2Jx"]),
        ("prepare", ["--source", "\u{1b}[2Jx"]),
    ] {
        let ran = run_command(command(binary, dir.path()).args(args));
        let all = ran.stdout.clone() + &ran.stderr;
        assert!((2..=4).contains(&ran.code), "{binary} {args:?}: {all}");
        let is_bad = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!all.contains(is_bad), "{binary} {args:?}: {all:?}");
    }
}

#[test]
fn a_printed_command_is_one_that_runs_whatever_the_directory_is_called() {
    let dir = trained();
    let name = "my run; echo $(id)";
    fs::rename(dir.path().join("out"), dir.path().join(name)).unwrap();
    let word = if cfg!(windows) { format!("\"{name}\"") } else { format!("'{name}'") };
    let out = dir.path().join(name);
    let resumed = run_command(command("train", dir.path()).args([
        "--init-from",
        "resume",
        "--out-dir",
        name,
    ]))
    .ok();
    assert!(
        resumed.stderr.contains(&format!("sample -- --out-dir {word}\n")),
        "{}",
        resumed.stderr
    );
    let misled = run_command(command("sample", dir.path()).args(["--checkpoint", name]));
    assert!(misled.stderr.contains(&format!("use --out-dir {word}")), "{}", misled.stderr);
    let missing = run_command(command("sample", dir.path()).args(["--out-dir", "other"]));
    assert!(missing.stderr.contains(&format!("use --out-dir {word};")), "{}", missing.stderr);
    let gguf = ["--out-dir", name, "--export", "gguf", "a b.gguf"];
    let exported = run_command(command("sample", dir.path()).args(gguf)).ok();
    let word = word.replace(name, "a b.gguf");
    assert!(exported.stderr.contains(&format!("-m {word} ")), "{}", exported.stderr);
    assert!(out.is_dir());
}
