//! Prepares a text that is on this disk as a whole, after its download if need be.
//!
//! The text is streamed twice: once for the tokenizer, once into shards; once more before that if
//! the end of it is to validate and its length is not known. An interrupted run starts again.

use crate::encoding::Encoding;
use crate::error::DataError;
use crate::prepared::{BpeSample, HeldOut, ValSplit};
use crate::tokenizer::{Tokenizer, TokenizerTrainer};

use super::corpus::Corpus;
use super::divide::Boundary;
use super::passes::{Passes, report_dropped, report_slow};
use super::sample::Sample;
use super::split::Split;
use super::{Job, Outcome, PrepareSummary, chat_encoding};

/// Prepares the text of `job`.
pub(super) fn prepare(mut job: Job<'_>) -> Result<PrepareSummary, DataError> {
    let (request, progress) = (job.request, job.progress);
    let fetched = job.plan.origin.fetch(&job.plan.read_as, &request.hub, progress)?;
    let corpus = Corpus {
        train: fetched.texts.0,
        validation: fetched.texts.1,
        is_one_document: job.plan.is_one_document,
        val_fraction: job.plan.val_fraction,
        val_split: job.plan.val_split,
        data_percentage: request.data_percentage,
        seed: request.seed,
        is_chat: job.settings.chat.is_some(),
        first_idx: 0,
    };
    if corpus.validation.is_some() {
        job.report_unused_split();
    }
    let boundary = corpus.boundary(progress)?;
    let passes =
        Passes { corpus: &corpus, boundary, parses_special: request.parse_special, progress };
    let reused = job.plan.reused.take();
    let is_new = reused.is_none();
    let (tokenizer, bpe_sample) = match reused {
        Some(tokenizer) => (tokenizer, None),
        None => learn_tokenizer(&passes, &job)?,
    };
    let tokenizer = job.with_chat_tokens(tokenizer)?;
    tokenizer.save(job.staging.dir())?;
    report_slow(&tokenizer, progress);
    let chat = chat_encoding(&job.settings, &tokenizer);
    let mut writer = job.writer(Split::Train, &tokenizer);
    let (train, seen) = passes.encode_train(&tokenizer, chat, is_new, &mut writer)?;
    let train_meta = writer.finish()?;
    let mut writer = job.writer(Split::Val, &tokenizer);
    let val = passes.encode_validation(&tokenizer, chat, &seen, &mut writer)?;
    let val_meta = writer.finish()?;
    let (mut stats, mut held_out) = (train.stats, None);
    match boundary {
        Boundary::Separate { .. } => stats += &val.stats,
        // One text was read, and its gaps counted, for both splits.
        Boundary::Drawn { .. } => held_out = Some(ValSplit::Random),
        Boundary::Character { .. } | Boundary::Document { .. } => held_out = Some(ValSplit::End),
    }
    let cut_document = val.cut_document.map(|idx| idx + 1);
    let outcome = Outcome {
        train: train_meta,
        val: val_meta,
        stats,
        held_out: held_out.map(|split| HeldOut { split, cut_document }),
        source_commit: fetched.commit,
        bpe_sample,
        files: fetched.files,
        seconds_before: 0.0,
    };
    job.publish(&tokenizer, outcome)
}

/// Makes a tokenizer from the training text.
fn learn_tokenizer(
    passes: &Passes<'_>,
    job: &Job<'_>,
) -> Result<(Tokenizer, Option<BpeSample>), DataError> {
    let encoding = job.plan.encoding;
    // Characters are few: they are taken from all of the text.
    let max_bytes = match encoding {
        Encoding::Simple => u64::MAX,
        Encoding::Bpe => job.limits.sample_bytes,
    };
    let n_file_bytes = passes.corpus.n_bytes(Split::Train);
    let mut sample = Sample::new(max_bytes, n_file_bytes, job.request.seed)?;
    let mut trainer = TokenizerTrainer::new(encoding, job.request.parse_special)?;
    passes.count_words(&mut trainer, encoding, &mut sample)?;
    report_dropped(trainer.dropped(), job.progress);
    Ok((trainer.train(job.request.vocab_size)?, sample.drawn()))
}
