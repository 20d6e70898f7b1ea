//! Complete runs of the trainer, on a text of a few kilobytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod adamw;
mod common;
mod config;
mod damage;
mod disk;
mod examples;
mod html_report;
mod masked;
mod non_finite;
mod properties;
mod rank_threads;
mod ranks;
mod resume;
mod saving;
mod schedules;
mod start;
mod tensorboard;
mod threads;
mod verify;
