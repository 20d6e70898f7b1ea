//! `prepare`: from a recipe to a tokenizer and shards, in bounded memory.
//!
//! The text is streamed twice: once for the tokenizer, once into shards; once more before that
//! if the end of it is to validate and its length is not known. Each time one thread reads, all
//! others work, and results are taken in order (`pipeline.rs`), so that the files are the same
//! whatever the number of threads. All files are written into a
//! staging directory that becomes `data/<name>/<encoding>/` by one rename at the end, so nothing
//! half-written is ever visible, and an interrupted run is simply started again.

mod corpus;
mod dry_run;
mod origin;
mod passes;
mod pipeline;
mod plan;
mod publish;
mod reading;
mod request;
mod split;

use std::path::Path;
use std::time::Instant;

pub use dry_run::{DryRun, Estimate, Existing, SourceFile, dry_run};
pub use request::{PrepareRequest, PrepareSummary};

use crate::clock;
use crate::encoding::Encoding;
use crate::error::DataError;
use crate::prepared::{META_FORMAT, Meta, Prepared, Settings};
use crate::progress::PrepareProgress;
use crate::source::ReadAs;

use corpus::Corpus;
use passes::Passes;
use plan::Plan;
use publish::Staging;
use split::{Boundary, Split};

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
    let started = Instant::now();
    let plan = Plan::of(request, progress)?;
    let staging = Staging::begin(&request.data_dir, &plan.dataset, plan.encoding, progress)?;
    let settings = plan.settings_with(plan.origin.describe(progress)?);
    let dir = staging.target();
    if dir.exists() && !request.force {
        let meta = same_preparation(request, &dir, &plan.dataset, plan.encoding, &settings)?;
        staging.mark_prepared_last()?;
        return Ok(PrepareSummary { dir, meta, kept: true, elapsed: started.elapsed() });
    }

    let read_as = ReadAs { text_column: settings.text_column.clone(), lossy: settings.lossy };
    let brought = plan.origin.bring(&read_as, &request.hub, progress)?;
    let corpus = Corpus {
        train: brought.texts.0,
        validation: brought.texts.1,
        val_fraction: plan.val_fraction,
        data_percentage: request.data_percentage,
        seed: request.seed,
    };
    let boundary = corpus.boundary(progress)?;
    let passes = Passes { corpus: &corpus, boundary, progress };
    let tokenizer = match plan.reused {
        Some(tokenizer) => tokenizer,
        None => passes.make_tokenizer(plan.encoding, request.vocab_size)?,
    };
    tokenizer.save(staging.dir())?;
    let (train, mut tally) = passes.encode(Split::Train, &tokenizer, staging.dir())?;
    let (val, tally_of_val) = passes.encode(Split::Val, &tokenizer, staging.dir())?;
    // One text that is split by position was read, and its gaps counted, for both splits.
    if boundary == Boundary::Separate {
        tally += tally_of_val;
    }
    let meta = Meta {
        format: META_FORMAT,
        dataset: plan.dataset,
        encoding: plan.encoding,
        vocab_size: tokenizer.vocab_size(),
        tokenizer_sha256: tokenizer.sha256().to_owned(),
        settings,
        source_commit: brought.commit,
        tally,
        made_at: clock::now(),
        seconds: started.elapsed().as_secs_f64(),
        train,
        val,
    };
    staging.publish(&meta)?;
    Ok(PrepareSummary { dir, meta, kept: false, elapsed: started.elapsed() })
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
    let differences = plan::differences(&meta.settings, settings);
    if differences.is_empty() {
        return Ok(meta);
    }
    Err(DataError::AlreadyPrepared { dir: dir.to_path_buf(), differences })
}
