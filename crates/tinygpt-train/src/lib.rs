//! Training a GPT-2: the loop, its checkpoints and its metrics.
//!
#![doc = include_str!("../README.md")]

mod adamw;
pub mod checkpoint;
mod config;
mod document;
mod error;
mod evaluate;
mod finite;
pub mod metrics;
pub mod plot;
mod report;
mod rows;
pub mod schedule;
mod start;
mod step;
mod stop;
mod threads;
mod trainer;
mod verify;

pub use adamw::{AdamW, AdamWConfig};
pub use config::{InitFrom, Key, KeyValue, Kind, OnNonFinite, Range, Rows, TrainConfig};
pub use error::{ErrorKind, Fault, Rejected, TrainError, chain};
pub use evaluate::{EvalSet, SplitLoss};
pub use report::{
    EvalRecord, Profile, Report, ResumeRecord, RunSummary, SaveRecord, Silent, SkipRecord,
    StepRecord, as_typed, few_digits,
};
pub use start::{Recorded, model_shape, recorded};
pub use step::{clip_factor, token_batch, train_step};
pub use stop::StopFlag;
pub use threads::physical_cores;
pub use tinygpt_kernels::profile::{Entry as ProfileEntry, Op as ProfileOp};
pub use trainer::{Outcome, Trainer, check_block_size};
pub use verify::{Compared, compare_runs, verify_resume};
