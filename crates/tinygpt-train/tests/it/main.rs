//! Complete runs of the trainer, on a text of a few kilobytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod adamw;
mod config;
mod damage;
mod disk;
mod examples;
mod laws;
mod non_finite;
mod resume;
mod saving;
mod start;
mod threads;
mod verify;
mod world;
