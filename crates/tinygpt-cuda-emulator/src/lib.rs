//! Stand-ins for the CUDA driver, NVRTC and cublasLt that run kernels on the CPU, for tests.
#![doc = include_str!("../README.md")]

mod build;
mod control;

use std::path::PathBuf;
use std::sync::OnceLock;

pub use control::{fail, last_message, set_order};

/// The folder with `libcuda.so.1`, `libnvrtc.so.13` and `libcublasLt.so.13`, for `TINYGPT_CUDA_LIBS`.
///
/// The first call compiles them (a few seconds) unless an earlier process has. None, with a line on
/// standard error, if this is not Linux or there is no C++ compiler: tests are skipped then.
///
/// # Panics
/// If there is a compiler and the libraries do not compile.
#[must_use]
pub fn libraries() -> Option<PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(build::folder).clone()
}

/// The C++ compiler that [`libraries`] uses, which may be several words: for programs of tests.
#[must_use]
pub fn compiler() -> Option<String> {
    build::compiler().map(|compiler| compiler.program)
}
