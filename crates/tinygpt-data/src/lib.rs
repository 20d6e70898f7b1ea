//! From text to batches of tokens: sources, tokenizers, shards and a loader, without tensors.
//!
//! The way of a text: a [`Recipe`] names the source; [`prepare()`] streams it twice, once to train a
//! [`Tokenizer`] and once to write shards; [`Prepared`] opens the result; a [`Loader`] makes the
//! [`Batch`] of each step.
//!
//! ```no_run
//! use tinygpt_data::{NoProgress, PrepareRequest, Prepared, prepare};
//! let request = PrepareRequest { dataset_name: "tiny_tales".into(), ..Default::default() };
//! prepare(&request, &NoProgress)?;
//! let data = Prepared::open("data".as_ref(), "tiny_tales", None)?;
//! println!("{} training tokens", data.train.len());
//! # Ok::<(), tinygpt_data::DataError>(())
//! ```
#![doc = include_str!("../README.md")]

mod catch_panic;
pub mod chat;
mod clock;
mod document_rows;
mod encoding;
mod error;
mod escape;
#[cfg(test)]
#[path = "../tests/it/fake_hub.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "its faults are for other tests")]
mod fake_hub;
mod held_out;
pub mod hub;
mod json;
mod loader;
mod name;
mod prepare;
mod prepared;
mod progress;
mod quote;
mod random;
mod recipe;
mod regular;
mod report;
mod runs;
mod shard;
mod source;
pub mod tales;
pub mod talks;
mod tokenizer;
mod windows;

pub use catch_panic::is_in_library;
pub use encoding::Encoding;
pub use error::{DataError, ErrorKind};
pub use json::nearest;
pub use loader::{Batch, IGNORED_TARGET, Loader};
pub use name::{DATASET_NAME_RULE, dataset_name_fault};
pub use prepare::{
    DryRun, Estimate, Existing, PrepareRequest, PrepareSummary, SourceFile, SourceFiles, dry_run,
    prepare,
};
pub use prepared::{
    BpeSample, HeldOut, Meta, Prepared, Settings, SplitMeta, ValSplit, is_preparation,
};
pub use progress::{NoProgress, PrepareProgress, Stage};
pub use quote::{MAX_QUOTED, Shown, excerpt, excerpt_quoted, middle_cut, shell_word};
pub use recipe::{BuiltInSource, FilesSource, Generator, HubSource, Recipe, SourceSpec};
pub use regular::{FileError, open_regular, read_limited, read_regular};
pub use report::{DatasetReport, FrequentToken, Lengths, SplitReport};
pub use runs::{Run, longest_runs};
pub use shard::{ShardInfo, TokenDataset};
pub use source::{Format, LeftOut, Separator, Source, SourceStats, Sources};
pub use tokenizer::{
    CONFIG_FILE_NAME, END_OF_TEXT, Encoder, FILE_NAME, FILE_SETS, OPTIONAL_FILES, PromptNote,
    StopStream, StreamDecoder, StreamedText, TokenKind, Tokenizer, Vocabulary,
};
pub use windows::Windows;
