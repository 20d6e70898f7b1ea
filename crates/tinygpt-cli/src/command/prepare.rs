//! `prepare`: turns text into a tokenizer and shards, and says what came of it.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, Result};
use tinygpt_data::{
    DataError, PrepareRequest, PrepareSummary, Prepared, Report, Source, Sources, SplitMeta,
};
use tinygpt_train::StopFlag;

use super::prepare_report::{dry_run_text, report_text};
use super::source_report::{files_text, tally_text};
use crate::exit::Ended;
use crate::hub_environment;
use crate::layer::Layered;
use crate::options::PrepareOptions;
use crate::progress::PrepareBars;
use crate::signals::Signals;
use crate::terminal::{Output, grouped, say, spoken};

/// Does what `prepare` was asked to do.
///
/// # Errors
/// Wrong options, and whatever [`tinygpt_data::prepare`] cannot do.
pub fn prepare(layered: &Layered<PrepareOptions>) -> Result<Ended> {
    let mut request = layered.resolve()?;
    let stop = StopFlag::new();
    // What is half-written is cleared away at the first signal; the second ends at once.
    Signals::install(&stop).context("cannot listen for signals")?.ask_first();
    request.hub = hub_environment::read()?;
    let reads_stdin = request.source.iter().flat_map(Sources::iter).any(|it| *it == Source::Stdin);
    if reads_stdin && io::stdin().is_terminal() {
        say("reading the text from the keyboard; end it with Ctrl-D on a line of its own");
    }
    let result = carry_out(&request, &layered.options, &PrepareBars::new(stop.clone()));
    if let (Err(error @ DataError::Stopped), Some(signal)) = (&result, stop.signal()) {
        say(&error.to_string());
        return Ok(Ended::Stopped(signal));
    }
    let text = result.map_err(|error| with_source(&request, error))?;
    Output::lock().print(&text)?;
    if layered.options.dry_run != Some(true) {
        say(&format!("next: {}", train_command(&request)));
    }
    Ok(Ended::Done)
}

/// Adds what could not be prepared, unless the error names it itself.
fn with_source(request: &PrepareRequest, error: DataError) -> anyhow::Error {
    let name = match &request.source {
        Some(source) => source.to_string(),
        None => format!("`{}`", request.dataset_name),
    };
    let is_named = error.to_string().contains(&name);
    let error = anyhow::Error::from(error);
    if is_named { error } else { error.context(format!("cannot prepare {name}")) }
}

/// Prepares, or says what that would be, or reports on what is there; returns what to print.
fn carry_out(
    request: &PrepareRequest,
    options: &PrepareOptions,
    bars: &PrepareBars,
) -> Result<String, DataError> {
    if options.dry_run == Some(true) {
        return Ok(dry_run_text(&tinygpt_data::dry_run(request, bars)?));
    }
    if options.report != Some(true) {
        return Ok(closing_summary(&tinygpt_data::prepare(request, bars)?));
    }
    // What is there can be reported on though its source is not at hand.
    let open = || Prepared::open(&request.data_dir, &request.dataset_name, request.encoding_type);
    let (prepared, summary) = match open() {
        Ok(prepared) if request.source.is_none() && !request.force => (prepared, String::new()),
        _ => {
            let summary = closing_summary(&tinygpt_data::prepare(request, bars)?);
            (open()?, summary)
        }
    };
    let heading = format!("{}, encoding {}\n", prepared.meta.dataset, prepared.meta.encoding);
    let heading = if summary.is_empty() { heading } else { summary };
    Ok(heading + &report_text(&Report::of(&prepared)?))
}

/// What to do where a text of many documents was taken for one.
const ONE_DOCUMENT: &str = "note: the text is one document; separate documents with lines \
                            `<|endoftext|>`, or choose `--separator line` or `blank`\n";

/// What was made, or was there already.
pub(super) fn closing_summary(summary: &PrepareSummary) -> String {
    let meta = &summary.meta;
    let mut text = String::new();
    if summary.kept {
        text.push_str("already prepared with these settings, kept as it is\n");
    }
    text.push_str(&format!("{}: {}\n", meta.dataset, summary.dir.display()));
    text.push_str(&format!("  tokenizer   {}, {} tokens\n", meta.encoding, meta.vocab_size));
    text.push_str(&format!("  train       {}\n", split_line(&meta.train)));
    text.push_str(&format!("  validation  {}\n", split_line(&meta.val)));
    text.push_str(&files_text(&summary.files));
    text.push_str(&tally_text(&meta.tally));
    text.push_str(&format!("  time        {}\n", spoken(summary.elapsed.as_secs_f64())));
    if summary.files.is_plain_text && meta.tally.n_documents == 1 {
        text.push_str(ONE_DOCUMENT);
    }
    text
}

fn split_line(split: &SplitMeta) -> String {
    let stories = if split.n_documents == 1 { "story" } else { "stories" };
    format!(
        "{} {stories}, {} tokens, {:.2} bytes per token",
        grouped(split.n_documents),
        grouped(split.n_tokens),
        split.bytes_per_token()
    )
}

/// The command that trains on what was prepared.
fn train_command(request: &PrepareRequest) -> String {
    let mut command = "cargo run --bin train --".to_owned();
    command.push_str(&format!(" --dataset-name {}", request.dataset_name));
    if request.data_dir != PrepareRequest::default().data_dir {
        command.push_str(&format!(" --data-dir {}", request.data_dir.display()));
    }
    command
}
