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
pub mod html_report;
pub mod metrics;
mod pace;
pub mod plot;
mod plot_rates;
pub mod ranks;
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
pub use config::{Budget, InitFrom, Key, KeyValue, Kind, OnNonFinite, Range, Rows, TrainConfig};
pub use document::SampleStart;
pub use error::{ErrorKind, Fault, Rejected, TrainError, chain};
pub use evaluate::{EvalSet, SplitLoss};
pub use pace::Pace;
pub use plot_rates::draw_rates;
pub use report::{
    Both, EvalRecord, HorizonRecord, Operations, Profile, Report, ResumeRecord, RunSummary,
    SampleRecord, SaveRecord, Silent, SkipRecord, StepRecord, as_typed, few_digits,
};
pub use start::{Recorded, model_shape, recorded, recorded_plateau};
pub use step::{clip_factor, token_batch, train_step};
pub use stop::StopFlag;
pub use threads::physical_cores;
pub use tinygpt_kernels::profile::{Entry as ProfileEntry, Op as ProfileOp};
pub use tinygpt_model::{KernelTime, Work};
pub use trainer::{
    BUDGET_TARGET, Outcome, RatePoint, Trainer, Trial, check_block_size, suggested_rate,
};
pub use verify::{Compared, compare_runs, verify_resume};
