//! `prepare`: turns text into a tokenizer and shards, and prints a summary.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, Result};
use indicatif::HumanBytes;
use tinygpt_data::{
    DataError, DatasetReport, Meta, PrepareRequest, PrepareSummary, Prepared, Recipe, Source,
    Sources, SplitMeta, ValSplit,
};
use tinygpt_train::StopFlag;

use super::inside::check_outside;
use super::next_step;
use super::prepare_report::{dry_run_text, report_text};
use super::source_report::{files_text, stats_text};
use crate::exit::Ended;
use crate::hub_environment;
use crate::options::{Layered, Origin, PrepareOptions};
use crate::pool;
use crate::progress::PrepareBars;
use crate::signals::Signals;
use crate::terminal::{Output, escape_controls, grouped, say, spoken};
use crate::usage::UsageError;

/// Runs `prepare`.
///
/// # Errors
/// Wrong options, and the errors of [`tinygpt_data::prepare`].
pub fn prepare(layered: &Layered<PrepareOptions>) -> Result<Ended> {
    let mut request = layered.resolve()?;
    check_derived_name(layered, &request)?;
    check_places(&request)?;
    pool::start(pool::default_threads())?;
    let stop = StopFlag::new();
    // The first signal removes incomplete files; the second ends the process at once.
    Signals::install(&stop).context("cannot listen for signals")?.ask_first();
    request.hub = hub_environment::read()?;
    let reads_stdin = request.source.iter().flat_map(Sources::iter).any(|it| *it == Source::Stdin);
    if reads_stdin && io::stdin().is_terminal() {
        say("reading the text from the keyboard; end it with Ctrl-D on a line of its own");
    }
    let result = carry_out(&request, &layered.options, &PrepareBars::new(stop.clone()));
    let is_stop =
        |it: &DataError| matches!(it, DataError::Stopped | DataError::StoppedBetweenFiles { .. });
    if let (Some(error), Some(signal)) =
        (result.as_ref().err().filter(|it| is_stop(it)), stop.signal())
    {
        say(&error.to_string());
        return Ok(Ended::Stopped(signal));
    }
    let (text, meta) = result.map_err(|error| with_source(&request, error))?;
    note_derived_name(layered, &request);
    Output::lock().print(&escape_controls(&text))?;
    if let Some(meta) = meta {
        next_step::lines(&request, &meta).iter().for_each(|line| say(line));
    }
    Ok(Ended::Done)
}

/// Refuses a dataset or a text inside a directory that is replaced as a whole.
fn check_places(request: &PrepareRequest) -> Result<()> {
    check_outside("--data-dir", &request.data_dir.join(&request.dataset_name))?;
    for source in request.source.iter().flat_map(Sources::iter) {
        if let Source::Path(path) = source {
            check_outside("--source", path)?;
        }
    }
    Ok(())
}

/// Adds what could not be prepared, unless the error already names it.
fn with_source(request: &PrepareRequest, error: DataError) -> anyhow::Error {
    let name = match &request.source {
        Some(source) => source.to_string(),
        None => format!("`{}`", request.dataset_name),
    };
    let is_named = error.to_string().contains(&name);
    let error = anyhow::Error::from(error);
    if is_named { error } else { error.context(format!("cannot prepare {name}")) }
}

/// Refuses a dataset name that is derived from the source and is the name of a recipe.
fn check_derived_name(layered: &Layered<PrepareOptions>, request: &PrepareRequest) -> Result<()> {
    let name = &request.dataset_name;
    if !is_name_derived(layered) || !Recipe::names(&request.data_dir).contains(name) {
        return Ok(());
    }
    let what = format!("`{name}` is the name of a dataset with its own recipe");
    let hint = format!("choose another name for this text, such as --dataset-name my_{name}");
    Err(UsageError::new(what).hint(hint).into())
}

/// Reports a dataset name that was derived from the source and differs from it.
fn note_derived_name(layered: &Layered<PrepareOptions>, request: &PrepareRequest) {
    let (name, source) = (&request.dataset_name, &request.source);
    let is_plain = source.as_ref().is_some_and(|it| it.to_string().contains(name.as_str()));
    if is_name_derived(layered) && !is_plain {
        say(&format!("note: the dataset is named {name}; --dataset-name chooses another name"));
    }
}

fn is_name_derived(layered: &Layered<PrepareOptions>) -> bool {
    layered.options.source.is_some() && layered.origin("dataset_name") == Origin::Default
}

/// Prepares, or makes a dry run or a report. Returns the text to print and the prepared dataset, if
/// there is one.
fn carry_out(
    request: &PrepareRequest,
    options: &PrepareOptions,
    bars: &PrepareBars,
) -> Result<(String, Option<Meta>), DataError> {
    if options.dry_run == Some(true) {
        return Ok((dry_run_text(&tinygpt_data::dry_run(request, bars)?), None));
    }
    if options.report != Some(true) {
        let summary = tinygpt_data::prepare(request, bars)?;
        return Ok((closing_summary(&summary), Some(summary.meta)));
    }
    // A report on a prepared dataset does not need its source.
    let open = || Prepared::open(&request.data_dir, &request.dataset_name, request.encoding_type);
    let (prepared, summary) = match open() {
        Ok(prepared) if request.source.is_none() && !request.force => (prepared, String::new()),
        _ => {
            let summary = closing_summary(&tinygpt_data::prepare(request, bars)?);
            (open()?, summary)
        }
    };
    let heading = format!("{}, encoding {}\n", prepared.meta.dataset, prepared.meta.encoding);
    let heading = heading + &sample_text(&prepared.meta);
    let heading = if summary.is_empty() { heading } else { summary };
    Ok((heading + &report_text(&DatasetReport::of(&prepared)?), Some(prepared.meta)))
}

/// What to do where a text of many documents was taken for one.
const ONE_DOCUMENT: &str = "note: the text is one document; separate documents with lines \
                            `<|endoftext|>`, or choose `--separator line` or `blank`\n";

/// What was made, or was there already.
pub(super) fn closing_summary(summary: &PrepareSummary) -> String {
    let meta = &summary.meta;
    let mut text = String::new();
    if summary.kept {
        text.push_str("already prepared with these settings, and kept\n");
    }
    text.push_str(&format!("{}: {}\n", meta.dataset, summary.dir.display()));
    text.push_str(&format!("  tokenizer   {}\n", tokenizer_line(meta)));
    text.push_str(&sample_text(meta));
    text.push_str(&format!("  train       {}\n", split_line(&meta.train)));
    text.push_str(&format!("  validation  {}\n", split_line(&meta.val)));
    if let Some(line) = held_out_line(meta) {
        text.push_str(&format!("  held out    {line}\n"));
    }
    text.push_str(&files_text(&summary.files));
    text.push_str(&stats_text(&meta.stats));
    text.push_str(&format!("  time        {}\n", spoken(summary.elapsed.as_secs_f64())));
    if summary.files.is_plain_text && meta.stats.n_documents == 1 {
        text.push_str(ONE_DOCUMENT);
    }
    text
}

fn tokenizer_line(meta: &Meta) -> String {
    let (encoding, size) = (meta.encoding, grouped(meta.vocab_size as u64));
    match meta.settings.vocab_size {
        Some(asked) if asked > meta.vocab_size => {
            let asked = grouped(asked as u64);
            format!("{encoding}, {size} tokens, not {asked}: no other pair of tokens occurs twice")
        }
        _ => format!("{encoding}, {size} tokens"),
    }
}

/// What the tokenizer was learned from, if that was not all of the training text.
fn sample_text(meta: &Meta) -> String {
    meta.bpe_sample.as_ref().map_or_else(String::new, |sample| {
        format!(
            "              learned on a sample: {} documents, {} of the training text\n",
            grouped(sample.n_documents),
            HumanBytes(sample.n_bytes)
        )
    })
}

fn split_line(split: &SplitMeta) -> String {
    let documents = if split.n_documents == 1 { "document" } else { "documents" };
    format!(
        "{} {documents}, {} tokens, {:.2} bytes per token",
        grouped(split.n_documents),
        grouped(split.n_tokens),
        split.bytes_per_token()
    )
}

/// Which part of the text validates, if it was taken out of the training text.
fn held_out_line(meta: &Meta) -> Option<String> {
    let held_out = meta.held_out.as_ref()?;
    let (train, val) = (meta.train.n_characters, meta.val.n_characters);
    // Of a part of the training documents the whole is not known: what was asked for is close.
    let share = match meta.settings.val_fraction {
        Some(asked) if meta.settings.data_percentage < 100.0 => asked,
        _ => val as f64 / (train + val) as f64,
    };
    // A small part of a large text has more digits.
    let percent = match share * 100.0 {
        percent if percent < 1.0 => format!("{percent:.2}%"),
        percent => format!("{percent:.1}%"),
    };
    let is_only_document = meta.train.n_documents == 1 && meta.val.n_documents == 1;
    let cut = match held_out.cut_document {
        Some(_) if is_only_document => ", cut inside the only document".to_owned(),
        Some(n) => format!(", cut inside document {}", grouped(n)),
        None => String::new(),
    };
    Some(match held_out.split {
        ValSplit::End => format!("the last {percent} of the text{cut}"),
        ValSplit::Random => {
            let seed = meta.settings.seed.unwrap_or_default();
            format!("{percent} of the text, documents chosen with seed {seed}{cut}")
        }
    })
}
