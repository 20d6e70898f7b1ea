//! The crate over the emulated driver, or over a real GPU with `TINYGPT_TEST_CUDA=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "what was tested where, and tables")]
#![allow(unsafe_code, reason = "launches of the kernels below")]

mod children;
mod errors;
mod graphs;
mod kernel;
mod memory;
mod modules;
mod products;

use std::env;
use std::path::PathBuf;

use tinygpt_cuda::{Gpu, Search, Setup};

/// Whether the tests run on a real GPU.
fn is_real() -> bool {
    env::var("TINYGPT_TEST_CUDA").is_ok_and(|value| value == "1")
}

/// The folder of the emulator; none on a real GPU, and where it cannot be built.
fn emulator() -> Option<PathBuf> {
    if is_real() { None } else { tinygpt_cuda_emulator::libraries() }
}

/// The setup of a test with this cache of kernels.
fn setup(cache: Option<PathBuf>) -> Option<Setup> {
    let search = if is_real() { Search::from_env() } else { Search::only(&emulator()?) };
    Some(Setup { search, cache, synchronous: false })
}

/// A GPU for a test; none where there is neither a GPU nor a C++ compiler.
fn gpu() -> Option<Gpu> {
    Some(Gpu::open_with(0, &setup(None)?).unwrap())
}

/// Numbers in -1..1 that look random, the same for the same seed.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}
