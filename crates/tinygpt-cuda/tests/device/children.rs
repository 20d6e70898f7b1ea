//! Tests in a process of their own: the emulator reads its environment once.

use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tinygpt_cuda::Gpu;

use crate::{emulator, setup};

/// Starts one ignored test of this binary with these variables.
pub(crate) fn start(test: &str, variables: &[(&str, &str)]) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for a child and returns what it printed.
#[track_caller]
pub(crate) fn finish(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "{text}\n{errors}");
    text
}

/// Runs one ignored test of this binary with these variables. Does nothing without the emulator.
#[track_caller]
pub(crate) fn assert_passes(test: &str, variables: &[(&str, &str)]) {
    if emulator().is_some() {
        finish(start(test, variables));
    }
}

/// Opens the GPU of `TEST_INDEX` with the libraries of `TEST_FOLDER`, and prints the error.
#[test]
#[ignore = "a child of the tests of errors"]
fn open() {
    let index = env::var("TEST_INDEX").map_or(0, |index| index.parse().unwrap());
    let Some(mut setup) = setup(None) else { return };
    if let Ok(folder) = env::var("TEST_FOLDER") {
        setup.search = tinygpt_cuda::Search::only(Path::new(&folder));
    }
    match Gpu::open_with(index, &setup) {
        Ok(gpu) => println!("opened {:?}", gpu.info()),
        Err(error) => {
            println!("error: {error}\nhint: {}\n{error:?}", error.hint().unwrap_or_default());
        }
    }
}
