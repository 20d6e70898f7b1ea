//! Every kernel but attention, against the CPU function that is its oracle.
//!
//! The kernels run in the emulator, with three orders of threads that must give the same bits, or on a GPU with
//! `TINYGPT_TEST_CUDA=1`. All outputs start as NaN.
#![allow(clippy::unwrap_used, reason = "tests")]

mod attention;
mod classifier;
mod common;
mod decode;
mod embedding;
mod gelu;
mod norm;
mod optimizer;
mod sums;
