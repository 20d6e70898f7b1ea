//! `prepare`: from a recipe to a tokenizer and shards, in bounded memory.
//!
//! Each time a text is read, one thread reads, all others work, and results are taken in order
//! (`pipeline.rs`), so that the files are the same whatever the number of threads. All files are
//! written into a staging directory that becomes `data/<name>/<encoding>/` by one rename at the end,
//! so nothing half-written is ever visible.
//!
//! `whole.rs` prepares a text that is on this disk, `by_file.rs` one that is larger than it.

mod ahead;
mod by_file;
#[cfg(test)]
mod by_file_tests;
mod chat;
mod corpus;
mod divide;
mod dry_run;
mod files;
mod origin;
mod passes;
mod pipeline;
mod plan;
mod publish;
mod reading;
mod request;
mod sample;
mod saved;
mod split;
#[cfg(test)]
mod split_tests;
mod split_writer;
mod subset;
mod summary;
mod unseen;
mod whole;

use std::path::Path;
use std::time::Instant;

pub use dry_run::{DryRun, Estimate, Existing, dry_run};
pub use files::{SourceFile, SourceFiles};
pub use request::PrepareRequest;
pub use summary::PrepareSummary;

use crate::clock;
use crate::encoding::Encoding;
use crate::error::DataError;
use crate::prepared::{BpeSample, HeldOut, META_FORMAT, Meta, Prepared, Settings, SplitMeta};
use crate::progress::PrepareProgress;
use crate::shard::SHARD_TOKENS;
use crate::source::SourceStats;
use crate::tokenizer::Tokenizer;

use chat::ChatEncoding;
use plan::Plan;
use publish::Staging;
use split::Split;
use split_writer::SplitWriter;

/// Prepares a dataset.
///
/// The same preparation, if it is there and undamaged, is kept unless `force` says otherwise;
/// one with other settings is replaced only with `force`.
///
/// # Errors
/// [`DataError`] of every kind. Whatever happens, an existing preparation stays whole.
pub fn prepare(
    request: &PrepareRequest,
    progress: &dyn PrepareProgress,
) -> Result<PrepareSummary, DataError> {
    prepare_within(request, &Limits::default(), progress)
}

/// The sizes that bound a preparation. Tests have smaller ones.
struct Limits {
    /// The most text that byte-pair encoding is learned from, in bytes.
    sample_bytes: u64,
    /// The most tokens in a shard.
    shard_tokens: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sample_bytes: sample::SAMPLE_BYTES, shard_tokens: SHARD_TOKENS }
    }
}

fn prepare_within(
    request: &PrepareRequest,
    limits: &Limits,
    progress: &dyn PrepareProgress,
) -> Result<PrepareSummary, DataError> {
    let started = Instant::now();
    let plan = Plan::of(request, progress)?;
    let staging = Staging::begin(request, &plan, progress)?;
    let settings = plan.settings_with(plan.origin.describe(progress)?);
    let dir = staging.target().to_path_buf();
    if dir.exists() && !request.force {
        let meta = same_preparation(request, &dir, &plan.dataset, plan.encoding, &settings)?;
        staging.mark_prepared_last()?;
        let files = plan.origin.files();
        return Ok(PrepareSummary { dir, meta, kept: true, files, elapsed: started.elapsed() });
    }
    let job = Job { request, limits, progress, plan, settings, staging, started };
    if request.keep_downloads { whole::prepare(job) } else { by_file::prepare(job) }
}

/// A preparation that is being made.
struct Job<'a> {
    request: &'a PrepareRequest,
    limits: &'a Limits,
    progress: &'a dyn PrepareProgress,
    plan: Plan,
    settings: Settings,
    staging: Staging,
    started: Instant,
}

/// What is known at the end, besides the settings.
struct Outcome {
    train: SplitMeta,
    val: SplitMeta,
    stats: SourceStats,
    held_out: Option<HeldOut>,
    source_commit: Option<String>,
    bpe_sample: Option<BpeSample>,
    files: SourceFiles,
    /// How long earlier runs took that this one has continued, in seconds.
    seconds_before: f64,
}

impl Job<'_> {
    /// Reports that the source has a validation split, if a part of the text was asked for.
    fn report_unused_split(&self) {
        if (self.request.val_fraction, self.request.val_split) != (None, None) {
            self.progress.notice(
                "the source has a validation split: `val_fraction` and `val_split` are not used",
            );
        }
    }

    /// A tokenizer with the special tokens of conversations, if the documents are conversations.
    fn with_chat_tokens(&self, tokenizer: Tokenizer) -> Result<Tokenizer, DataError> {
        if self.settings.chat.is_some() { tokenizer.for_chat() } else { Ok(tokenizer) }
    }

    /// A writer of the shards of a split.
    fn writer(&self, split: Split, tokenizer: &Tokenizer) -> SplitWriter {
        let is_chat = self.settings.chat.is_some();
        SplitWriter::new(split, tokenizer, is_chat, self.staging.dir(), self.limits.shard_tokens)
    }

    /// Gives the files their final names.
    fn publish(self, tokenizer: &Tokenizer, outcome: Outcome) -> Result<PrepareSummary, DataError> {
        let meta = Meta {
            format: META_FORMAT,
            dataset: self.plan.dataset,
            encoding: self.plan.encoding,
            vocab_size: tokenizer.vocab_size(),
            tokenizer_sha256: tokenizer.sha256().to_owned(),
            settings: self.settings,
            source_commit: outcome.source_commit,
            stats: outcome.stats,
            held_out: outcome.held_out,
            bpe_sample: outcome.bpe_sample,
            made_at: clock::now(),
            seconds: outcome.seconds_before + self.started.elapsed().as_secs_f64(),
            train: outcome.train,
            val: outcome.val,
        };
        let dir = self.staging.publish(&meta)?;
        let (files, elapsed) = (outcome.files, self.started.elapsed());
        Ok(PrepareSummary { dir, meta, kept: false, files, elapsed })
    }
}

/// How conversations become tokens, if the documents are conversations.
fn chat_encoding<'a>(settings: &Settings, tokenizer: &'a Tokenizer) -> Option<ChatEncoding<'a>> {
    let mask_prompt = settings.chat.as_ref()?.mask_prompt;
    Some(ChatEncoding { template: tokenizer.chat_template()?, mask_prompt })
}

/// The preparation that is there, if it is sound and the one asked for.
fn same_preparation(
    request: &PrepareRequest,
    dir: &Path,
    dataset: &str,
    encoding: Encoding,
    settings: &Settings,
) -> Result<Meta, DataError> {
    let meta = Prepared::open(&request.data_dir, dataset, Some(encoding))?.meta;
    let mut differences = plan::differences(&meta.settings, settings);
    differences.extend(other_share(&meta));
    if differences.is_empty() {
        return Ok(meta);
    }
    Err(DataError::AlreadyPrepared { dir: dir.to_path_buf(), differences })
}

/// How the validation share differs from the one asked for, in a preparation made when only whole
/// documents validated, whatever their lengths.
fn other_share(meta: &Meta) -> Option<String> {
    // A repository may have had a split of its own, which the settings do not know.
    let is_unknown = meta.held_out.is_none() && meta.source_commit.is_none();
    let asked = meta.settings.val_fraction.filter(|_| is_unknown)?;
    let (train, val) = (meta.train.n_characters, meta.val.n_characters);
    let share = val as f64 / (train + val) as f64;
    // Of a part of the training documents the whole is not known.
    let is_whole = meta.settings.data_percentage >= 100.0;
    let is_cut = meta.train.n_documents == 1 && meta.val.n_documents == 1;
    (is_whole && !is_cut && !divide::is_close(share, asked))
        .then(|| format!("validation share: {share:.3} → {asked}"))
}
