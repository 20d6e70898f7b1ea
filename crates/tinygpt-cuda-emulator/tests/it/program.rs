//! Programs in C++ that the tests compile and run.

use std::path::PathBuf;
use std::process::{Command, Output};

/// A program of `tests/programs`.
pub(crate) struct Program {
    path: PathBuf,
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The orders of threads that every test of a right kernel runs.
pub(crate) const ORDERS: [&str; 4] = ["up", "down", "shuffled:1", "shuffled:2"];

impl Program {
    /// Compiles `tests/programs/<name>.cpp`, linked with the stand-ins if it uses them. None where the
    /// emulator does not run.
    pub(crate) fn new(name: &str, uses_libraries: bool) -> Option<Self> {
        let folder = tinygpt_cuda_emulator::libraries()?;
        let compiler = tinygpt_cuda_emulator::compiler()?;
        let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut words = compiler.split_whitespace();
        let mut command = Command::new(words.next()?);
        command.args(words).args("-std=c++17 -O1 -g -Wall -Wextra -Werror -pthread".split(' '));
        command.args(["-fno-strict-aliasing", "-fstack-clash-protection", "-I"]).arg(&folder);
        command.arg(manifest.join("tests/programs").join(format!("{name}.cpp")));
        command.arg("-o").arg(&path);
        if uses_libraries {
            // One library with three names.
            command
                .arg(folder.join("libcuda.so.1"))
                .arg(format!("-Wl,-rpath,{}", folder.display()));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(Self { path })
    }

    /// Runs a case: arguments, and variables of the environment.
    pub(crate) fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut command = Command::new(&self.path);
        command.args(arguments).envs(environment.iter().copied());
        let Output { status, stdout, stderr } = command.output().unwrap();
        Run {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    /// Runs a case that has to end with "ok".
    pub(crate) fn passes(&self, arguments: &[&str], environment: &[(&str, &str)]) {
        let run = self.run(arguments, environment);
        let passed = run.code == Some(0) && run.stdout.ends_with("ok\n");
        assert!(passed, "{arguments:?} {environment:?}: {run:#?}");
    }
}
