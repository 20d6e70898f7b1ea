//! Faults, tested on the real binaries: kills, full disks, power cuts, damage, races, signals.
//!
//! After each of them the promise of `docs/reliability.md` must hold: nothing that was reported as
//! saved is lost, and a resumed run ends in the same weights, moments, counters and losses as
//! an undisturbed run, bit for bit.
//!
//! ```text
//! cargo test --test faults                                   a quick set, part of `cargo test`
//! TINYGPT_FAULTS=full cargo test --test faults -- --nocapture    all of it, with a table
//! TINYGPT_FAULT_SEED=7 …                                     other moments, bits and orders
//! ```
//!
//! What needs root or a missing tool prints `skipped`. The mutation check, which shows that the suite
//! can fail, is `.ci/mutate`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;
mod damage;
#[cfg(unix)]
#[path = "../../../tinygpt-data/tests/it/fake_hub.rs"]
#[allow(dead_code, reason = "its faults are for the other tests")]
mod fake_hub;
mod odd_runs;
mod overwriting;
#[path = "../it/program.rs"]
#[allow(dead_code, reason = "its tables are for the other tests")]
mod program;
mod races;
mod repeated_kills;
mod report;

#[cfg(unix)]
mod by_file;
#[cfg(unix)]
mod crash_states;
#[cfg(unix)]
mod disk;
#[cfg(unix)]
mod environment;
#[cfg(unix)]
mod foreign_files;
#[cfg(unix)]
mod full_disks;
#[cfg(unix)]
mod lost_directories;
#[cfg(unix)]
mod power_cuts;
#[cfg(unix)]
mod preparations;
#[cfg(unix)]
mod readers;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod system_calls;
#[cfg(unix)]
mod trace;
