//! Damaged files: they are reported by name and never overwritten.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use crate::program::{SMALL, check_all, trained};

/// The name of a file and what is done to it.
type Damage = (&'static str, fn(&Path));

/// The first file below `dir` with this name.
fn find(dir: &Path, name: &str) -> PathBuf {
    let files = crate::program::snapshot(dir);
    files.into_keys().find(|path| path.ends_with(name)).expect(name)
}

fn truncate(path: &Path) {
    let length = fs::metadata(path).unwrap().len();
    OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_preparation_names_the_file_and_how_to_make_it_again() {
    let train = format!("{SMALL} --out-dir new");
    let damages: [Damage; 5] = [
        ("train-00000.bin", truncate),
        ("train-00000.bin", flip),
        ("tokenizer.json", flip),
        ("meta.json", truncate),
        ("meta.json", |path| fs::write(path, "{\"format\": 99}").unwrap()),
    ];
    for (name, damage) in damages {
        let dir = trained();
        damage(&find(&dir.path().join("data"), name));
        check_all("train", dir.path(), &[(&train, 3, &[name, "prepare", "--force"])]);
    }
    let dir = trained();
    fs::remove_file(find(&dir.path().join("data"), "val-00000.bin")).unwrap();
    let says = ["val-00000.bin", "--dataset-name text --force"];
    check_all("train", dir.path(), &[(&train, 4, &says)]);
}

#[test]
fn a_damaged_checkpoint_is_not_used() {
    let damages: [Damage; 5] = [
        ("model.safetensors", truncate),
        ("model.safetensors", flip),
        ("tokenizer.json", |path| fs::remove_file(path).unwrap()),
        ("config.json", |path| fs::write(path, "{}").unwrap()),
        ("config.json", truncate),
    ];
    for (name, damage) in damages {
        let dir = trained();
        for step in fs::read_dir(dir.path().join("out/checkpoints")).unwrap() {
            damage(&step.unwrap().path().join(name));
        }
        check_all("sample", dir.path(), &[("--out-dir out", 3, &[name, "use another checkpoint"])]);
        let resume = format!("{SMALL} --init-from resume --max-iters 30");
        check_all("train", dir.path(), &[(&resume, 3, &[name, "--overwrite"])]);
    }
}

#[test]
fn a_running_training_keeps_its_directory() {
    let dir = trained();
    let lock = find(&dir.path().join("out"), ".lock");
    let held = OpenOptions::new().read(true).write(true).open(lock).unwrap();
    held.lock().unwrap();
    let resume = format!("{SMALL} --init-from resume --max-iters 30");
    check_all("train", dir.path(), &[(&resume, 7, &["out is in use", "choose another --out-dir"])]);
}
