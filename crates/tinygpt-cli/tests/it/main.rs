//! Tests that run the binaries and check exit code, output and files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bad_files;
mod bad_prepare;
mod bad_sample;
mod bad_shards;
mod bad_texts;
mod bad_train;
mod chat;
mod cuda;
mod end_to_end;
mod export;
#[path = "../../../tinygpt-data/tests/it/fake_hub.rs"]
#[allow(dead_code, reason = "its faults are for the data crate's tests")]
mod fake_hub;
mod fine_tuning;
mod flags;
mod horizons;
mod hostile_tokenizers;
mod hub;
mod interactive;
mod interrupted;
mod judging;
mod limits;
mod long_inputs;
mod many_samples;
mod next_step;
mod ollama;
mod plans;
mod pretrained;
mod program;
mod prompts;
mod quantize;
mod ranks;
mod reports;
mod resuming;
mod run_report;
mod samples;
mod serve;
mod shown_text;
mod sources;
mod special_files;
mod watch;
