//! Directories that cannot be written, and a clock that goes backwards.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::common::{begun, end, tempdir, train, undisturbed};
use crate::program::{command, copy_tree, run_command};
use crate::report::{conclude, skip};

/// Nobody's number: root may write anywhere, so that it has to be somebody else who may not.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_before_the_first_step() {
    const WHAT: &str = "a read-only directory";
    let begun = begun(4);
    let dir = tempdir();
    copy_tree(begun.path(), dir.path());
    let used = dir.path().join("out");
    let read_only = dir.path().join("read-only");
    fs::create_dir(&read_only).unwrap();
    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(dir.path(), 0o755);
    set(&read_only, 0o555);
    set(&used, 0o555);
    set(&used.join(".lock"), 0o444);
    let mut failures = Vec::new();
    for out_dir in [read_only.clone(), read_only.join("new/place"), used.clone()] {
        let mut train = train(&out_dir);
        if is_root() {
            train.uid(NOBODY).gid(NOBODY);
            let mut help = command("train", dir.path());
            if !help.arg("--help").uid(NOBODY).output().is_ok_and(|help| help.status.success()) {
                return skip(WHAT, "root may write anywhere, and nobody else may run the binary");
            }
        }
        let ran = run_command(&mut train);
        let is_named = ran.stderr.contains(&read_only.display().to_string())
            || ran.stderr.contains(&used.display().to_string());
        if ran.code != 4 || !is_named || ran.stderr.contains("iter ") {
            failures.push(format!("{}: code {}: {}", out_dir.display(), ran.code, ran.stderr));
        }
    }
    set(&read_only, 0o755);
    set(&used, 0o755);
    conclude(WHAT, 3, &failures);
}

/// Each look at the time of day is an hour earlier than the one before.
const BACKWARDS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <sys/time.h>
static long looks;
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec -= 3600 * ++looks;
    return rc;
}
"#;

#[test]
#[cfg(target_os = "linux")]
fn a_clock_that_goes_backwards_changes_nothing() {
    const WHAT: &str = "a clock that goes backwards";
    let dir = tempdir();
    let (source, library) = (dir.path().join("backwards.c"), dir.path().join("backwards.so"));
    fs::write(&source, BACKWARDS).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    match cc.output() {
        Ok(output) if output.status.success() => {}
        _ => return skip(WHAT, "no C compiler makes the library that turns the clock"),
    }
    let out_dir = dir.path().join("out");
    let mut failures = Vec::new();
    // In two parts, so that the second finds files from its future.
    for max_iters in ["12", "24"] {
        let mut train = train(&out_dir);
        // A save after each step, should the clock say so: a millisecond or less is a step.
        train.args(["--max-iters", max_iters, "--checkpoint-minutes", "0.000001"]);
        let ran = run_command(train.env("LD_PRELOAD", &library));
        if ran.code != 0 || ran.stderr.matches("saved ").count() < 11 {
            failures.push(format!("code {}: {}", ran.code, ran.stderr));
        }
    }
    failures.extend(end(&out_dir).unwrap().differs_from(undisturbed()));
    fs::write(dir.path().join("text.txt"), "A cat sat on a mat.\n".repeat(40)).unwrap();
    let mut prepare = command("prepare", dir.path());
    prepare.args(["--source", "text.txt"]).env("LD_PRELOAD", &library);
    let ran = run_command(&mut prepare);
    if ran.code != 0 {
        failures.push(format!("prepare: {}", ran.stderr));
    }
    conclude(WHAT, 3, &failures);
}
