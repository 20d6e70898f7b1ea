//! `prepare`: from a recipe to a tokenizer and shards, in bounded memory.
//!
//! The text is streamed twice: once for the tokenizer, once into shards; once more before that
//! if the end of it is to validate and its length is not known. Each time one thread reads, all
//! others work, and results are taken in order (`pipeline.rs`), so that the files are the same
//! whatever the number of threads. All files are written into a
//! staging directory that becomes `data/<name>/<encoding>/` by one rename at the end, so nothing
//! half-written is ever visible, and an interrupted run is simply started again.

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
mod split;
#[cfg(test)]
mod split_tests;
mod subset;
mod summary;
mod unseen;

use std::path::Path;
use std::time::Instant;

pub use dry_run::{DryRun, Estimate, Existing, dry_run};
pub use files::{SourceFile, SourceFiles};
pub use request::PrepareRequest;
pub use summary::PrepareSummary;

use crate::clock;
use crate::encoding::Encoding;
use crate::error::DataError;
use crate::prepared::{HeldOut, META_FORMAT, Meta, Prepared, Settings, ValSplit};
use crate::progress::PrepareProgress;
use crate::tokenizer::Tokenizer;

use chat::ChatEncoding;
use corpus::Corpus;
use divide::Boundary;
use passes::Passes;
use plan::Plan;
use publish::Staging;

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
    let dir = staging.target().to_path_buf();
    if dir.exists() && !request.force {
        let meta = same_preparation(request, &dir, &plan.dataset, plan.encoding, &settings)?;
        staging.mark_prepared_last()?;
        let files = plan.origin.files();
        return Ok(PrepareSummary { dir, meta, kept: true, files, elapsed: started.elapsed() });
    }

    let fetched = plan.origin.fetch(&plan.read_as, &request.hub, progress)?;
    let corpus = Corpus {
        train: fetched.texts.0,
        validation: fetched.texts.1,
        is_one_document: plan.is_one_document,
        val_fraction: plan.val_fraction,
        val_split: plan.val_split,
        data_percentage: request.data_percentage,
        seed: request.seed,
        is_chat: plan.settings.chat.is_some(),
    };
    if corpus.validation.is_some() && (request.val_fraction, request.val_split) != (None, None) {
        progress.notice(
            "the source has a validation split: `val_fraction` and `val_split` are not used",
        );
    }
    let boundary = corpus.boundary(progress)?;
    let passes =
        Passes { corpus: &corpus, boundary, parses_special: request.parse_special, progress };
    let is_new = plan.reused.is_none();
    let tokenizer = match plan.reused {
        Some(tokenizer) => tokenizer,
        None => passes.make_tokenizer(plan.encoding, request.vocab_size)?,
    };
    let tokenizer = match plan.settings.chat {
        Some(_) => tokenizer.for_chat()?,
        None => tokenizer,
    };
    let chat = chat_encoding(&plan.settings, &tokenizer);
    tokenizer.save(staging.dir())?;
    let (train, seen) = passes.encode_train(&tokenizer, chat, is_new, staging.dir())?;
    let val = passes.encode_validation(&tokenizer, chat, staging.dir(), &seen)?;
    let (mut stats, mut held_out) = (train.stats, None);
    match boundary {
        Boundary::Separate { .. } => stats += &val.stats,
        // One text was read, and its gaps counted, for both splits.
        Boundary::Drawn { .. } => held_out = Some(ValSplit::Random),
        Boundary::Character { .. } | Boundary::Document { .. } => held_out = Some(ValSplit::End),
    }
    let cut_document = val.cut_document.map(|idx| idx + 1);
    let meta = Meta {
        format: META_FORMAT,
        dataset: plan.dataset,
        encoding: plan.encoding,
        vocab_size: tokenizer.vocab_size(),
        tokenizer_sha256: tokenizer.sha256().to_owned(),
        settings,
        source_commit: fetched.commit,
        stats,
        held_out: held_out.map(|split| HeldOut { split, cut_document }),
        made_at: clock::now(),
        seconds: started.elapsed().as_secs_f64(),
        train: train.meta,
        val: val.meta,
    };
    staging.publish(&meta)?;
    let files = fetched.files;
    Ok(PrepareSummary { dir, meta, kept: false, files, elapsed: started.elapsed() })
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
    let asked = meta.settings.val_fraction.filter(|_| meta.held_out.is_none())?;
    let (train, val) = (meta.train.n_characters, meta.val.n_characters);
    let share = val as f64 / (train + val) as f64;
    // Of a part of the training documents the whole is not known.
    let is_whole = meta.settings.data_percentage >= 100.0;
    let is_cut = meta.train.n_documents == 1 && meta.val.n_documents == 1;
    (is_whole && !is_cut && !divide::is_close(share, asked))
        .then(|| format!("validation share: {share:.3} → {asked}"))
}
