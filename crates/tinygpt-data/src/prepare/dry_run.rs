//! What `prepare` would do, found out without writing or downloading anything.
//!
//! The start of the text, if it is on this machine, is read, tokenized and timed; the rest
//! is assumed to be similar.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::encoding::Encoding;
use crate::error::DataError;
use crate::prepared::{MASK_VALUES, Prepared};
use crate::progress::PrepareProgress;
use crate::source::{LeftOut, Piece, Text};
use crate::tokenizer::{Tokenizer, TokenizerTrainer};

use super::chat::{self, ChatEncoding};
use super::files::SourceFile;
use super::origin::Located;
use super::plan::{self, Plan};
use super::{PrepareRequest, chat_encoding};

/// How much text is sampled, in bytes.
const SAMPLE_BYTES: usize = 8 << 20;

/// What `prepare` would do.
#[derive(Debug, Clone, PartialEq)]
pub struct DryRun {
    /// The dataset.
    pub dataset: String,
    /// How its text would become tokens.
    pub encoding: Encoding,
    /// The directory that would be written.
    pub dir: PathBuf,
    /// What is there now.
    pub existing: Existing,
    /// The files that would be read; none for a built-in dataset.
    pub files: Vec<SourceFile>,
    /// The files of the source that would not be read.
    pub left_out: Vec<LeftOut>,
    /// How many bytes of them would have to be downloaded.
    pub n_download_bytes: u64,
    /// The estimated result, from the start of the text; `None` if that has
    /// yet to be downloaded.
    pub estimate: Option<Estimate>,
}

/// What is where `prepare` would write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existing {
    /// Nothing.
    Nothing,
    /// The same preparation; it would be kept.
    Same,
    /// One with other settings, each as `key: there → asked`; it would be an error or,
    /// with `force`, replaced.
    Other(Vec<String>),
    /// One that cannot be used, and why.
    Damaged(String),
}

/// An estimate from the start of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// How many bytes of text were sampled.
    pub n_sample_bytes: u64,
    /// The documents there will be.
    pub n_documents: u64,
    /// The bytes of text.
    pub n_text_bytes: u64,
    /// The tokens.
    pub n_tokens: u64,
    /// The bytes of all shards.
    pub n_shard_bytes: u64,
    /// The time for all but a download.
    pub time: Duration,
}

/// Finds out what [`prepare`](super::prepare) would do with this request.
///
/// # Errors
/// As `prepare` up to the point where it would read all of the text.
pub fn dry_run(
    request: &PrepareRequest,
    progress: &dyn PrepareProgress,
) -> Result<DryRun, DataError> {
    let mut plan = Plan::of(request, progress)?;
    let dir = request.data_dir.join(&plan.dataset).join(plan.encoding.as_str());
    let existing = existing(request, &plan, &dir, progress)?;
    let Located { files, left_out, texts } =
        plan.origin.locate(&plan.read_as, &request.hub, progress)?;
    let remote = files.iter().filter(|file| file.is_remote);
    let n_download_bytes = remote.map(|file| file.n_bytes).sum();
    let estimate = match &texts {
        Some((train, val)) => Some(estimate(request, &mut plan, train, val.as_ref())?),
        None => None,
    };
    let (dataset, encoding) = (plan.dataset, plan.encoding);
    Ok(DryRun { dataset, encoding, dir, existing, files, left_out, n_download_bytes, estimate })
}

fn existing(
    request: &PrepareRequest,
    plan: &Plan,
    dir: &Path,
    progress: &dyn PrepareProgress,
) -> Result<Existing, DataError> {
    if !dir.exists() {
        return Ok(Existing::Nothing);
    }
    let there = Prepared::open(&request.data_dir, &plan.dataset, Some(plan.encoding));
    let there = match there {
        Ok(prepared) => prepared.meta.settings,
        Err(error) => return Ok(Existing::Damaged(error.to_string())),
    };
    let asked = plan.settings_with(plan.origin.describe(progress)?);
    let differences = plan::differences(&there, &asked);
    Ok(if differences.is_empty() { Existing::Same } else { Existing::Other(differences) })
}

/// Samples the start of the training text and assumes that all text is similar.
fn estimate(
    request: &PrepareRequest,
    plan: &mut Plan,
    train: &Text,
    validation: Option<&Text>,
) -> Result<Estimate, DataError> {
    let started = Instant::now();
    let mut documents = train.open();
    let (mut pieces, mut n_bytes, mut is_all) = (Vec::<Piece>::new(), 0, false);
    while n_bytes < SAMPLE_BYTES && !is_all {
        match documents.next_piece()? {
            Some(piece) => {
                n_bytes += piece.text.len();
                pieces.push(piece);
            }
            None => is_all = true,
        }
    }
    let n_file_bytes = documents.n_bytes_read();
    let reading = started.elapsed();
    let n_documents = pieces.iter().filter(|piece| piece.ends_document).count() as u64;
    let share = request.data_percentage / 100.0;
    let of_train = if is_all { 1.0 } else { train.in_units_of(n_file_bytes, n_documents) };
    let of_val = validation.map_or(0.0, |text| text.in_units_of(n_file_bytes, n_documents));
    let (tokenizer, counting) = make_tokenizer(plan, request, &pieces)?;
    let chat = chat_encoding(&plan.settings, &tokenizer);
    let started = Instant::now();
    let sample = match chat {
        Some(chat) => measure_chats(&tokenizer, chat, &pieces)?,
        None => measure(&tokenizer, request.parse_special, &pieces)?,
    };
    let encoding = started.elapsed();
    let written = of_train * share + of_val;
    let scaled = |count: u64| (count as f64 * written).round() as u64;
    // Once through the text to find its end, unless that is known; once for the tokenizer, once
    // for the shards. Reading and working share the threads.
    let n_reads = 2.0 + f64::from(u8::from(validation.is_none()));
    let n_threads = rayon::current_num_threads() as f64;
    let seconds = (n_reads * reading.as_secs_f64() + encoding.as_secs_f64()) * (of_train + of_val)
        + counting.as_secs_f64() * of_train * share;
    let width = |n_values| if n_values <= 1 << 16 { 2 } else { 4 };
    let n_bytes_each = width(tokenizer.vocab_size()) + chat.map_or(0, |_| width(MASK_VALUES));
    Ok(Estimate {
        n_sample_bytes: sample.n_text_bytes,
        n_documents: scaled(n_documents),
        n_text_bytes: scaled(sample.n_text_bytes),
        n_tokens: scaled(sample.n_tokens),
        n_shard_bytes: scaled(sample.n_tokens) * n_bytes_each,
        time: Duration::from_secs_f64(seconds / n_threads),
    })
}

/// The tokenizer that would be used, with the time that grows with the text; merging hardly does.
fn make_tokenizer(
    plan: &mut Plan,
    request: &PrepareRequest,
    pieces: &[Piece],
) -> Result<(Tokenizer, Duration), DataError> {
    let started = Instant::now();
    let is_chat = plan.settings.chat.is_some();
    // If one is reused, only the time of counting is of interest.
    let encoding = if plan.reused.is_none() { plan.encoding } else { Encoding::Simple };
    let mut trainer = TokenizerTrainer::new(encoding, request.parse_special)?;
    for piece in pieces {
        match is_chat {
            true => chat::count(&mut trainer, piece)?,
            false => trainer.count(&piece.text),
        }
    }
    let counting = started.elapsed();
    let tokenizer = match plan.reused.take() {
        Some(reused) => reused,
        None => trainer.train(request.vocab_size)?,
    };
    Ok((if is_chat { tokenizer.for_chat()? } else { tokenizer }, counting))
}

/// What a sample becomes.
#[derive(Default)]
struct Measured {
    n_text_bytes: u64,
    n_tokens: u64,
}

fn measure(
    tokenizer: &Tokenizer,
    parses_special: bool,
    pieces: &[Piece],
) -> Result<Measured, DataError> {
    let mut encoder = tokenizer.encoder().parsing_special(parses_special);
    let (mut ids, mut measured) = (Vec::new(), Measured::default());
    for piece in pieces {
        ids.clear();
        encoder.encode_into(&piece.text, &mut ids)?;
        measured.n_text_bytes += piece.text.len() as u64;
        measured.n_tokens += ids.len() as u64 + u64::from(piece.ends_document);
    }
    Ok(measured)
}

/// The same of conversations: the text of their messages, and the tokens that the template makes of them.
fn measure_chats(
    tokenizer: &Tokenizer,
    chat: ChatEncoding<'_>,
    pieces: &[Piece],
) -> Result<Measured, DataError> {
    let mut measured = Measured::default();
    for piece in pieces {
        let encoded = chat.encode(tokenizer, piece)?;
        measured.n_text_bytes += encoded.text.text.len() as u64;
        // The last one ends the document.
        measured.n_tokens += encoded.ids.len() as u64 + 1;
    }
    Ok(measured)
}
