//! Integration tests of the data crate: whole preparations, bad inputs, real files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod fake_hub;
mod hub;
mod prepare;
