//! The emulator's own promises: what is right stays right in every order, what is wrong is reported.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod kernels;
mod libraries;
mod program;
