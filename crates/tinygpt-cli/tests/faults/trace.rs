//! A command under `strace`: its system calls, and a fault at one of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The calls that change something outside the process. With a question mark those that not every
/// processor has.
const CHANGING: [&str; 20] = [
    "openat",
    "write",
    "?pwrite64",
    "?writev",
    "ftruncate",
    "fsync",
    "fdatasync",
    "?rename",
    "renameat",
    "?renameat2",
    "?mkdir",
    "mkdirat",
    "?unlink",
    "unlinkat",
    "?rmdir",
    "?symlink",
    "symlinkat",
    "?chmod",
    "fchmod",
    "flock",
];

/// One call of the main thread.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// Between the brackets: file descriptors carry their path in `<>`.
    pub(crate) args: String,
    /// Whether it succeeded.
    pub(crate) is_ok: bool,
    /// How many of this name the thread had made with it, as strace counts for `when=`.
    pub(crate) nth: usize,
}

impl Call {
    /// The paths in the arguments: of descriptors, and quoted ones.
    pub(crate) fn paths(&self) -> Vec<&str> {
        let mut paths = Vec::new();
        let mut rest = self.args.as_str();
        while let Some(at) = rest.find(['<', '"']) {
            let close = if rest[at..].starts_with('<') { '>' } else { '"' };
            let Some(length) = rest[at + 1..].find(close) else { break };
            paths.push(&rest[at + 1..at + 1 + length]);
            rest = &rest[at + 2 + length..];
        }
        paths
    }

    /// The quoted arguments alone.
    pub(crate) fn quoted(&self) -> Vec<&str> {
        self.args.split('"').skip(1).step_by(2).collect()
    }

    /// Whether the call can change a file.
    pub(crate) fn changes(&self) -> bool {
        self.name != "openat" || self.args.contains("O_CREAT") || self.args.contains("O_TRUNC")
    }
}

/// Why strace cannot be used here, if it cannot.
pub(crate) fn why_not() -> Option<&'static str> {
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "-e", "trace=fsync", "true"]);
    match strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Err(_) => Some("strace is not installed"),
        Ok(status) if !status.success() => Some("strace may not trace here"),
        Ok(_) => None,
    }
}

/// `command` under strace, writing its changing calls to `log`, with `faults` as `-e inject=`.
pub(crate) fn under_strace(command: &Command, log: &Path, faults: &[String]) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-s", "300", "-e", "signal=none", "-o"]).arg(log);
    strace.arg("-e").arg(format!("trace={}", CHANGING.join(",")));
    for fault in faults {
        strace.arg("-e").arg(format!("inject={fault}"));
    }
    strace.arg("--").arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(key, value),
            None => strace.env_remove(key),
        };
    }
    strace.current_dir(command.get_current_dir().unwrap());
    strace
}

/// The calls of the main thread in a log, in their order. What other threads do is not ours.
pub(crate) fn calls(log: &Path) -> Vec<Call> {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    let mut main = None;
    let mut counts = BTreeMap::new();
    let mut unfinished = None;
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        if pid != *main.get_or_insert(pid) {
            continue;
        }
        let mut whole = rest.trim_start().to_owned();
        if let Some(begin) = whole.strip_suffix(" <unfinished ...>") {
            unfinished = Some(begin.to_owned());
            continue;
        }
        if whole.starts_with("<... ") {
            let begin: String = unfinished.take().unwrap_or_default();
            let (_, end) = whole.split_once(" resumed>").unwrap();
            whole = format!("{begin}{end}");
        }
        let Some((name, rest)) = whole.split_once('(') else { continue };
        let Some((args, result)) = rest.rsplit_once(" = ") else { continue };
        let nth = counts.entry(name.to_owned()).and_modify(|n| *n += 1).or_insert(1_usize);
        calls.push(Call {
            name: name.to_owned(),
            args: args.trim_end().trim_end_matches(')').to_owned(),
            is_ok: !result.starts_with('-'),
            nth: *nth,
        });
    }
    calls
}
