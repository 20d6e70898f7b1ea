//! Prepares a dataset of the hub file by file, for one that is larger than the disk.
//!
//! A file is downloaded while the one before it is encoded, and removed when its tokens are in the
//! shards. Then the shards are synced and the progress is saved (`saved.rs`), so that a run that ends
//! anywhere is continued after the last file that was done, with the same result.
//!
//! The text is read once, so nothing can be measured first: if the dataset has no validation split,
//! each document validates with the same chance.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;

use tinygpt_fs::{create_dir_all, remove, sync_contents};

use crate::error::DataError;
use crate::hub::{self, FileStore, HubFile, HubListing};
use crate::prepared::{BpeSample, HeldOut, ValSplit};
use crate::progress::Stage;
use crate::quote::Shown;
use crate::source::{Format, Piece, ReadAs, Text, TextFile};
use crate::tokenizer::{FILE_NAME, Tokenizer, TokenizerTrainer};

use super::ahead::{Ahead, Unshown};
use super::corpus::Corpus;
use super::divide::Boundary;
use super::files::SourceFiles;
use super::origin::Origin;
use super::passes::{Passes, report_dropped, report_slow};
use super::sample::Sample;
use super::saved::{self, Saved};
use super::split::Split;
use super::split_writer::SplitWriter;
use super::{Job, Outcome, PrepareSummary, chat_encoding, plan};

/// How many files are on the disk at once: one is encoded, and the next one downloaded.
const FILES_ON_DISK: usize = 2;

/// Prepares the dataset of `job`, or continues to.
pub(super) fn prepare(mut job: Job<'_>) -> Result<PrepareSummary, DataError> {
    let mut work = match Work::interrupted(&job)? {
        Some(work) => work,
        None => Work::begin(&mut job)?,
    };
    report_slow(&work.tokenizer, job.progress);
    let encoded = work.encode_files(&job).and_then(|()| work.check_records(&job));
    let (n_done, n_files) = (work.saved.n_files, work.saved.listing.files().count());
    match encoded {
        Ok(()) => work.finish(job),
        Err(DataError::Stopped) => Err(DataError::StoppedBetweenFiles { n_done, n_files }),
        Err(error) => {
            let done = "files are done; the same command continues there";
            job.progress.notice(&format!("{n_done} of {n_files} {done}"));
            Err(error)
        }
    }
}

/// A preparation file by file.
struct Work {
    saved: Saved,
    tokenizer: Tokenizer,
    boundary: Boundary,
    train: SplitWriter,
    val: SplitWriter,
}

impl Work {
    /// Lists the files, and makes the tokenizer.
    fn begin(job: &mut Job<'_>) -> Result<Self, DataError> {
        let dir = job.staging.dir();
        remove(dir)?;
        create_dir_all(dir)?;
        create_dir_all(job.staging.files_dir())?;
        let listing = match &job.plan.origin {
            Origin::Hub(it) => it.ask(|it| hub::list(it, &job.request.hub, job.progress))?,
            _ => return Err(check_failed()),
        };
        let boundary = boundary(job, &listing)?;
        if boundary == (Boundary::Separate { is_one_document: false }) {
            job.report_unused_split();
        }
        let (tokenizer, bpe_sample) = match job.plan.reused.take() {
            Some(tokenizer) => (tokenizer, None),
            None => learn_tokenizer(job, &listing, boundary)?,
        };
        let tokenizer = job.with_chat_tokens(tokenizer)?;
        tokenizer.save(job.staging.dir())?;
        sync_contents(job.staging.dir())?;
        let saved = Saved::new(job.settings.clone(), listing, tokenizer.sha256(), bpe_sample);
        saved.write(job.staging.files_dir())?;
        let train = job.writer(Split::Train, &tokenizer);
        let val = job.writer(Split::Val, &tokenizer);
        Ok(Self { saved, tokenizer, boundary, train, val })
    }

    /// What an interrupted run has left, if there is one that can be continued.
    fn interrupted(job: &Job<'_>) -> Result<Option<Self>, DataError> {
        let path = saved::path_in(job.staging.files_dir());
        let start_again = |what: &str| {
            let again = "the preparation starts again at the first file";
            job.progress.notice(&format!("{}: {what}; {again}", Shown(&path)));
            job.staging.clear()
        };
        let saved = match Saved::read(job.staging.files_dir()) {
            Ok(None) => return Ok(None),
            Ok(Some(saved)) => saved,
            Err(what) => return start_again(&what).map(|()| None),
        };
        let differences = plan::differences(&saved.settings, &job.settings);
        if !differences.is_empty() && !job.request.force {
            let (dir, differences) = (Shown(job.staging.dir()), differences.join(", "));
            return Err(DataError::usage(
                format!("{dir} is an interrupted preparation with other settings ({differences})"),
                "repeat its settings to continue it, or use `force` to start again",
            ));
        }
        if !differences.is_empty() {
            return job.staging.clear().map(|()| None);
        }
        let (n_done, n_files) = (saved.n_files, saved.listing.files().count());
        match Self::restore(job, saved) {
            Ok(work) => {
                let done = "an interrupted preparation is continued";
                job.progress.notice(&format!("{done}: {n_done} of {n_files} files are done"));
                Ok(Some(work))
            }
            Err(error) if is_damage(&error) => start_again(&error.to_string()).map(|()| None),
            Err(error) => Err(error),
        }
    }

    /// Opens what was written, after a check of all of it.
    fn restore(job: &Job<'_>, saved: Saved) -> Result<Self, DataError> {
        let dir = job.staging.dir();
        let tokenizer = Tokenizer::from_dir(dir)?;
        if tokenizer.sha256() != saved.tokenizer_sha256 {
            let what = "it is not the tokenizer that made the shards";
            return Err(DataError::corrupt(&dir.join(FILE_NAME), what, ""));
        }
        let boundary = boundary(job, &saved.listing)?;
        let train = job.writer(Split::Train, &tokenizer).continue_after(&saved.train)?;
        let val = job.writer(Split::Val, &tokenizer).continue_after(&saved.val)?;
        for entry in fs::read_dir(dir).map_err(DataError::io("list", dir))? {
            let path = entry.map_err(DataError::io("list", dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".bin") && !saved.shards().any(|shard| shard == name) {
                remove(&path)?;
            }
        }
        Ok(Self { saved, tokenizer, boundary, train, val })
    }

    /// Encodes the files that are not done, while the next one is downloaded.
    fn encode_files(&mut self, job: &Job<'_>) -> Result<(), DataError> {
        let store = store(job, &self.saved.listing)?;
        let files: Vec<HubFile> = self.saved.listing.files().cloned().collect();
        let remaining = |n_done: usize| &files[n_done..files.len().min(n_done + FILES_ON_DISK)];
        store.keep_only(remaining(self.saved.n_files))?;
        let unshown = Unshown::new(job.progress);
        thread::scope(|scope| {
            let mut ahead = Ahead::new(scope, &store, &unshown);
            if let Some(file) = remaining(self.saved.n_files).first() {
                ahead.start(file)?;
            }
            while let [file, next @ ..] = remaining(self.saved.n_files) {
                let number = self.saved.n_files + 1;
                job.progress.notice(&format!("file {number} of {}: {}", files.len(), file.name));
                let path = ahead.wait(file)?;
                if let Some(next) = next.first() {
                    ahead.start(next)?;
                }
                self.encode_file(job, file, path)?;
                self.save(job)?;
                store.keep_only(next)?;
            }
            Ok(())
        })
    }

    /// Appends the tokens of a file to the shards.
    fn encode_file(
        &mut self,
        job: &Job<'_>,
        file: &HubFile,
        path: PathBuf,
    ) -> Result<(), DataError> {
        let validates = self.saved.n_files >= self.saved.listing.train.len();
        let corpus = corpus_of(job, file, path, self.saved.next_idx);
        let passes = passes(job, &corpus, self.boundary);
        let encoding = (&self.tokenizer, chat_encoding(&job.settings, &self.tokenizer));
        let watch = |_: &mut (), _: &Piece, _: &[u32]| Ok(());
        if !validates {
            let read = passes.encode(Split::Train, encoding, &mut self.train, watch, |()| ())?;
            self.saved.next_idx = read.next_idx;
            self.saved.stats += &read.stats;
        }
        if validates || matches!(self.boundary, Boundary::Drawn { .. }) {
            let read = passes.encode(Split::Val, encoding, &mut self.val, watch, |()| ())?;
            if validates {
                self.saved.stats += &read.stats;
            }
        }
        Ok(())
    }

    /// Makes another file durable.
    fn save(&mut self, job: &Job<'_>) -> Result<(), DataError> {
        self.saved.train = self.train.written()?;
        self.saved.val = self.val.written()?;
        self.saved.n_files += 1;
        sync_contents(job.staging.dir())?;
        let mut saved = self.saved.clone();
        saved.seconds += job.started.elapsed().as_secs_f64();
        saved.write(job.staging.files_dir())
    }

    /// Checks how many records of all files could not be used.
    fn check_records(&self, job: &Job<'_>) -> Result<(), DataError> {
        let stats = &self.saved.stats;
        if !stats.exceeds(job.request.max_bad_fraction) {
            return Ok(());
        }
        let (refused, allowing) = stats.too_many_bad();
        let first = stats.examples.first().map_or("", String::as_str);
        Err(DataError::usage(format!("{refused}, first {first}"), allowing))
    }

    /// Gives the shards their final names.
    fn finish(self, job: Job<'_>) -> Result<PrepareSummary, DataError> {
        let is_drawn = matches!(self.boundary, Boundary::Drawn { .. });
        let held_out = HeldOut { split: ValSplit::Random, cut_document: None };
        let names = |files: &[HubFile]| files.iter().map(|file| file.name.clone()).collect();
        let HubListing { commit, train, validation } = &self.saved.listing;
        let outcome = Outcome {
            train: self.train.finish()?,
            val: self.val.finish()?,
            stats: self.saved.stats,
            held_out: is_drawn.then_some(held_out),
            source_commit: Some(commit.clone()),
            bpe_sample: self.saved.bpe_sample,
            files: SourceFiles {
                train: names(train),
                validation: names(validation),
                ..SourceFiles::default()
            },
            seconds_before: self.saved.seconds,
        };
        job.publish(&self.tokenizer, outcome)
    }
}

/// Where the files of a listing are, or will be.
fn store(job: &Job<'_>, listing: &HubListing) -> Result<FileStore, DataError> {
    let Origin::Hub(repository) = &job.plan.origin else { return Err(check_failed()) };
    let dir = job.staging.files_dir().join("hub");
    let store = repository.ask(|it| FileStore::new(it, &listing.commit, &dir, &job.request.hub))?;
    Ok(store)
}

/// [`plan::Plan::of`] lets only datasets of the hub pass.
fn check_failed() -> DataError {
    DataError::usage("`keep_downloads` is false", "leave `keep_downloads` out")
}

/// Which documents of the files validate.
fn boundary(job: &Job<'_>, listing: &HubListing) -> Result<Boundary, DataError> {
    if !listing.validation.is_empty() {
        return Ok(Boundary::Separate { is_one_document: false });
    }
    if job.plan.val_split == ValSplit::Random {
        return Ok(Boundary::one_by_one(job.plan.val_fraction, job.request.seed));
    }
    Err(DataError::usage(
        "`keep_downloads` is false, but the dataset has no validation split, and where its end \
         starts is known only when all files were read",
        "set `val_split` to `random`",
    ))
}

/// Learns byte-pair encoding from the first files, as many as the sample needs. The first of them
/// stays, since it is encoded next; the others are downloaded again when it is their turn.
fn learn_tokenizer(
    job: &Job<'_>,
    listing: &HubListing,
    boundary: Boundary,
) -> Result<(Tokenizer, Option<BpeSample>), DataError> {
    let store = store(job, listing)?;
    let n_file_bytes = listing.train.iter().map(|file| file.size).sum();
    let mut sample = Sample::new(job.limits.sample_bytes, Some(n_file_bytes), job.request.seed)?;
    let mut trainer = TokenizerTrainer::new(job.plan.encoding, job.request.parse_special)?;
    let mut next_idx = 0;
    let first = listing.train.get(..1).unwrap_or_default();
    store.keep_only(first)?;
    for file in &listing.train {
        job.progress.begin(Stage::Download, Some(store.n_missing(file)));
        let path = store.get(file, job.progress)?;
        job.progress.finish();
        let corpus = corpus_of(job, file, path, next_idx);
        let passes = passes(job, &corpus, boundary);
        next_idx = passes.count_words(&mut trainer, job.plan.encoding, &mut sample)?;
        store.keep_only(first)?;
        if sample.is_full() {
            break;
        }
    }
    report_dropped(trainer.dropped(), job.progress);
    Ok((trainer.train(job.request.vocab_size)?, sample.drawn()))
}

/// The text of a file; the first document in it has the number `first_idx`.
fn corpus_of(job: &Job<'_>, file: &HubFile, path: PathBuf, first_idx: u64) -> Corpus {
    let name = file.name.rsplit('/').next().unwrap_or(&file.name).to_owned();
    let files = vec![TextFile { path, format: Format::Parquet, name }];
    // The records of all files are checked at the end.
    let read_as = ReadAs { max_bad_fraction: 1.0, ..job.plan.read_as.clone() };
    Corpus {
        train: Text::Files { files, read_as },
        validation: None,
        is_one_document: false,
        val_fraction: job.plan.val_fraction,
        val_split: job.plan.val_split,
        data_percentage: job.request.data_percentage,
        seed: job.request.seed,
        is_chat: job.settings.chat.is_some(),
        first_idx,
    }
}

fn passes<'a>(job: &'a Job<'_>, corpus: &'a Corpus, boundary: Boundary) -> Passes<'a> {
    let (parses_special, progress) = (job.request.parse_special, job.progress);
    Passes { corpus, boundary, parses_special, progress }
}

/// Whether an error means that files are not what they were, and not that the disk refuses.
fn is_damage(error: &DataError) -> bool {
    !matches!(error, DataError::Io { source, .. } if source.kind() != io::ErrorKind::NotFound)
}
