//! Training a GPT-2: the loop, its checkpoints and its metrics.
//!
//! [`Trainer`] ties the model and the data together: schedule, gradient accumulation, clipping,
//! [`AdamW`], evaluation on fixed windows, metrics, checkpoints that are written whole or not at
//! all, and a resume that equals the uninterrupted run. Its only output is a [`Report`]: nothing
//! here prints, reads a flag or exits.
//!
//! ```no_run
//! use tinygpt_data::Prepared;
//! use tinygpt_train::{Silent, StopFlag, TrainConfig, Trainer};
//!
//! let config = TrainConfig { dataset_name: "tiny_tales".into(), ..TrainConfig::default() };
//! let prepared = Prepared::open(&config.data_dir, &config.dataset_name, config.encoding_type)?;
//! let mut trainer = Trainer::new(config, prepared)?;
//! let outcome = trainer.run(&StopFlag::new(), &mut Silent)?;
//! # Ok::<(), tinygpt_train::TrainError>(())
//! ```

mod adamw;
pub mod checkpoint;
mod config;
mod document;
mod error;
mod evaluate;
mod excerpt;
mod finite;
pub mod metrics;
pub mod plot;
mod report;
mod resume;
pub mod schedule;
mod start;
mod stop;
mod threads;
mod trainer;
mod verify;

pub use adamw::{AdamW, AdamWConfig, train_step};
pub use config::{InitFrom, Key, KeyValue, Kind, OnNonFinite, Range, TrainConfig};
pub use error::{ErrorKind, Fault, Rejected, TrainError};
pub use evaluate::{EvalSet, SplitLoss};
pub use excerpt::{MAX_QUOTED, excerpt, excerpt_quoted, middle_cut};
pub use report::{
    EvalRecord, Profile, Report, ResumeRecord, RunSummary, Saved, Silent, SkipRecord, StepRecord,
    as_typed, few_digits,
};
pub use resume::{Recorded, recorded};
pub use start::model_shape;
pub use stop::StopFlag;
pub use threads::physical_cores;
pub use tinygpt_kernels::profile::{Entry as ProfileEntry, Op as ProfileOp};
pub use trainer::{Outcome, Trainer, check_block_size};
pub use verify::{Compared, compare_runs, verify_resume};
