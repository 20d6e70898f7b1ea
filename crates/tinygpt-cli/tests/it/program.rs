//! Runs a binary in a separate directory; tables of calls that must fail with a good message.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// The command of a binary in `dir`, without network and without the user's caches.
pub(crate) fn command(binary: &str, dir: &Path) -> Command {
    let path = match binary {
        "prepare" => env!("CARGO_BIN_EXE_prepare"),
        "train" => env!("CARGO_BIN_EXE_train"),
        "sample" => env!("CARGO_BIN_EXE_sample"),
        other => panic!("no binary {other}"),
    };
    let mut command = Command::new(path);
    command.current_dir(dir).env("HF_HOME", dir.join("hf"));
    command.env("HF_ENDPOINT", "http://127.0.0.1:9");
    for variable in ["HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(variable).env_remove(variable.to_lowercase());
    }
    command
}

/// Runs a binary with flags that are split at spaces.
pub(crate) fn run(binary: &str, dir: &Path, args: &str) -> Ran {
    run_command(command(binary, dir).args(args.split_whitespace()))
}

pub(crate) fn run_command(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A model of 2 layers and a run of 20 steps over `text.txt`.
pub(crate) const SMALL: &str = "--dataset-name text --out-dir out --n-layer 2 --n-head 2 \
    --n-embd 32 --block-size 16 --batch-size 4 --max-iters 20 --eval-interval 10 --eval-iters 2 \
    --warmup-iters 5 --log-interval 5 --threads 1 --dropout 0.1 --dtype float32";

/// A few hundred lines of plain sentences, with a character outside ASCII.
pub(crate) fn small_text() -> String {
    let line =
        |i: usize| format!("Line {i}: the café cat number {} sat on mat {}.\n", i * 7, i % 5);
    (0..300).map(line).collect()
}

/// A copy of a directory with `text.txt`, its characters prepared, and a trained `out`.
pub(crate) fn trained() -> TempDir {
    static ORIGINAL: OnceLock<TempDir> = OnceLock::new();
    let original = ORIGINAL.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("text.txt"), small_text()).unwrap();
        run("prepare", dir.path(), "--source text.txt").ok();
        run("train", dir.path(), SMALL).ok();
        dir
    });
    let copy = tempfile::tempdir().unwrap();
    copy_tree(original.path(), copy.path());
    copy
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_symlink() {
            #[cfg(unix)]
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below `dir` with its bytes.
pub(crate) fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else if path.is_file() {
                files.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    files
}

/// A call that must fail: its flags, its exit code, and what its message must contain.
pub(crate) type Bad<'a> = (&'a str, i32, &'a [&'a str]);

/// Makes each call in `dir` and checks that it fails as the table says and changes no file.
#[track_caller]
pub(crate) fn check_all(binary: &str, dir: &Path, table: &[Bad<'_>]) {
    let before = snapshot(dir);
    let mut wrong = String::new();
    for &(args, code, says) in table {
        let ran = run(binary, dir, args);
        let missing: Vec<_> = says.iter().filter(|word| !ran.stderr.contains(**word)).collect();
        let is_clean = !ran.stderr.contains("panicked") && !ran.stderr.contains("a bug in");
        if ran.code != code || !missing.is_empty() || !is_clean || !ran.stderr.contains("error: ") {
            let got = ran.code;
            wrong +=
                &format!("{binary} {args}\n  code {got}, expected {code}; missing {missing:?}\n");
            wrong += &format!("  {}\n", ran.stderr.trim().replace('\n', "\n  "));
        }
    }
    let after = snapshot(dir);
    for (path, bytes) in &before {
        if after.get(path) != Some(bytes) {
            wrong += &format!("{} has changed\n", path.display());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
