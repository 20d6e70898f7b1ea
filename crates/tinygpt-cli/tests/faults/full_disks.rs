//! Full disks: a file system that is too small, and a limit on the size of files.

use std::path::Path;
use std::process::Command;

use crate::common::{nothing_lost, reported, tempdir, train, undisturbed};
use crate::program::{Ran, run_command};
use crate::report::{Random, conclude, skip, times};

/// Checks a run that had too little room: it says so, and what it saved is there.
fn check(out_dir: &Path, ran: &Ran, room: impl FnOnce()) -> Result<(), String> {
    let is_reported = match ran.code {
        0 => true,
        4 => ran.stderr.contains("error: ") && ran.stderr.contains(&out_dir.display().to_string()),
        _ => false,
    };
    if !is_reported {
        return Err(format!("code {}: {}", ran.code, ran.stderr));
    }
    room();
    nothing_lost(out_dir, reported(&ran.stderr)).map_err(|what| format!("{what}: {}", ran.stderr))
}

#[test]
fn a_limit_on_the_size_of_files_loses_nothing() {
    undisturbed();
    let n = times(4, 60);
    let (mut n_refused, mut failures) = (0, Vec::new());
    for number in 0..n {
        let mut random = Random::of("limits", number);
        let dir = tempdir();
        let out_dir = dir.path().join("out");
        // Blocks of 512 bytes: from less than any file to more than most.
        let blocks = 1 + random.below(150);
        let train = train(&out_dir);
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
        limited.arg(train.get_program()).args(train.get_args());
        limited.current_dir(train.get_current_dir().unwrap());
        let ran = run_command(&mut limited);
        n_refused += usize::from(ran.code == 4);
        let outcome = check(&out_dir, &ran, || {});
        failures.extend(outcome.err().map(|what| format!("{blocks} blocks: {what}")));
    }
    assert!(n_refused > 0, "no limit was too tight");
    conclude("a limit on the size of files (RLIMIT_FSIZE)", n, &failures);
}

/// A file system in memory, unmounted when dropped.
struct Tmpfs(String);

impl Tmpfs {
    fn mount(dir: &Path, options: &str) -> Option<Self> {
        let dir = dir.to_str().unwrap().to_owned();
        let args = ["-t", "tmpfs", "-o", options, "tmpfs", &dir];
        let mounted = Command::new("mount").args(args).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }

    fn grow(&self) {
        let args = ["-o", "remount,size=64m", &self.0];
        assert!(Command::new("mount").args(args).status().unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let is_gone = Command::new("umount").arg(&self.0).status().is_ok_and(|s| s.success());
        assert!(is_gone || std::thread::panicking(), "{} stays mounted", self.0);
    }
}

#[test]
fn a_disk_that_fills_loses_nothing() {
    const WHAT: &str = "a file system that is too small";
    undisturbed();
    let n = times(4, 60);
    let (mut n_refused, mut failures) = (0, Vec::new());
    for number in 0..n {
        let mut random = Random::of("full disks", number);
        let dir = tempdir();
        // A checkpoint takes about 150 KB, and there are three for a moment.
        let kilobytes = 8 + random.below(500);
        let options = format!("size={kilobytes}k");
        let Some(disk) = Tmpfs::mount(dir.path(), &options) else {
            return skip(WHAT, "only root can mount one");
        };
        let out_dir = dir.path().join("out");
        let ran = run_command(&mut train(&out_dir));
        n_refused += usize::from(ran.code == 4);
        let outcome = check(&out_dir, &ran, || disk.grow());
        failures.extend(outcome.err().map(|what| format!("{options}: {what}")));
    }
    assert!(n_refused > 0, "no disk was too small");
    conclude(WHAT, n, &failures);
}
