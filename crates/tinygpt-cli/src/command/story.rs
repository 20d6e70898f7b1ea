//! Generates samples and writes them to standard output: token by token on a terminal, else whole.
//!
//! Samples are generated as a batch and printed one after the other. On a terminal, the first sample
//! is printed as it is generated, then what there is of the second, and so on. `rendering.rs` turns
//! a sample into output.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use anyhow::Result;
use tinygpt_data::Tokenizer;
use tinygpt_model::{Event, Model, SamplingParams, Stop, StopReason, generate_with};

use super::rendering::{OutputFormat, Rendering};
use crate::terminal::Output;

/// Printed between two samples.
const SEPARATOR: &str = "----------------------------------------\n";

/// A sample that was not printed.
#[derive(Debug)]
pub(super) struct Sampled {
    pub(super) index: u64,
    /// The prompt and what was generated.
    pub(super) text: String,
    /// The generated tokens.
    pub(super) ids: Vec<u32>,
    /// Whether the model ended the document.
    pub(super) is_ended: bool,
}

/// A model, its tokenizer, and the prompt of all samples.
#[derive(Debug)]
pub(super) struct SampleWriter<'a> {
    model: &'a dyn Model,
    tokenizer: &'a Tokenizer,
    prompt_ids: Vec<u32>,
    /// The prompt as it is printed; empty at the start of a document.
    prompt_text: String,
}

impl<'a> SampleWriter<'a> {
    /// Samples of new documents, which start with the token `bos`.
    pub(super) fn from_scratch(model: &'a dyn Model, tokenizer: &'a Tokenizer, bos: u32) -> Self {
        Self { model, tokenizer, prompt_ids: vec![bos], prompt_text: String::new() }
    }

    /// Samples that continue `text`, which is not empty; without one, samples of new documents.
    pub(super) fn new(
        model: &'a dyn Model,
        tokenizer: &'a Tokenizer,
        bos: u32,
        text: Option<String>,
    ) -> Result<Self> {
        let Some(prompt_text) = text else { return Ok(Self::from_scratch(model, tokenizer, bos)) };
        let prompt_ids = tokenizer.encode(&prompt_text)?;
        Ok(Self { model, tokenizer, prompt_ids, prompt_text })
    }

    /// Samples that continue these tokens, such as the first turn of a conversation.
    pub(super) fn of_prompt(
        model: &'a dyn Model,
        tokenizer: &'a Tokenizer,
        prompt_ids: Vec<u32>,
    ) -> Result<Self> {
        let prompt_text = tokenizer.decode_text(&prompt_ids)?;
        Ok(Self { model, tokenizer, prompt_ids, prompt_text })
    }

    /// The prompt as text and tokens, if there is one.
    pub(super) fn prompt(&self) -> Option<(&str, &[u32])> {
        Some((self.prompt_text.as_str(), self.prompt_ids.as_slice()))
            .filter(|(text, _)| !text.is_empty())
    }

    /// Samples 0 to `n_samples` as they end, each as text with its prompt, in any order.
    pub(super) fn for_each_sample(
        &self,
        params: &SamplingParams,
        n_samples: u64,
        on_sample: &mut dyn FnMut(Sampled),
    ) -> Result<()> {
        let mut open: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let mut failure = None;
        generate_with(self.model, &self.prompt_ids, params, 0..n_samples, &mut |index, event| {
            let reason = match event {
                Event::Token { id, .. } => {
                    open.entry(index).or_default().push(id);
                    return ControlFlow::Continue(());
                }
                Event::End(reason) => reason,
                // `generate_with` returns the error.
                Event::Failed(_) => return ControlFlow::Continue(()),
            };
            let ids = open.remove(&index).unwrap_or_default();
            match self.tokenizer.decode(&ids) {
                Ok(text) => {
                    let text = format!("{}{text}", self.prompt_text);
                    let is_ended = reason != StopReason::Length;
                    on_sample(Sampled { index, text, ids, is_ended });
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(Stop::All)
                }
            }
        })?;
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Writes samples 0 to `n_samples` in order, each up to the first stop text, and returns the
    /// number of generated tokens.
    pub(super) fn write_samples(
        &self,
        params: &SamplingParams,
        n_samples: u64,
        (format, stops): (OutputFormat, &[String]),
        out: &mut Output,
    ) -> Result<usize> {
        let mut printer = SamplePrinter {
            writer: self,
            format,
            stops,
            out,
            n_samples,
            n_printed: 0,
            samples: VecDeque::new(),
            n_tokens: 0,
            failure: None,
        };
        generate_with(
            self.model,
            &self.prompt_ids,
            params,
            0..n_samples,
            &mut |sample_idx, event| printer.on_event(sample_idx, event),
        )?;
        match printer.failure {
            Some(error) => Err(error),
            None => Ok(printer.n_tokens),
        }
    }
}

/// Collects generated tokens and prints the samples in order.
struct SamplePrinter<'a> {
    writer: &'a SampleWriter<'a>,
    format: OutputFormat,
    stops: &'a [String],
    out: &'a mut Output,
    n_samples: u64,
    /// Samples that are printed completely.
    n_printed: u64,
    /// The samples after them that have tokens; the first is being printed.
    samples: VecDeque<Sample<'a>>,
    n_tokens: usize,
    /// The first error.
    failure: Option<anyhow::Error>,
}

struct Sample<'a> {
    rendering: Rendering<'a>,
    /// Output that is not written yet.
    pending: String,
    is_complete: bool,
}

impl SamplePrinter<'_> {
    fn on_event(&mut self, sample_idx: u64, event: Event) -> ControlFlow<Stop> {
        let added = self.add(sample_idx, event);
        let is_open = added.and_then(|is_open| self.print().map(|()| is_open));
        match is_open {
            Ok(_) if self.out.is_closed() => ControlFlow::Break(Stop::All),
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(Stop::Sample),
            Err(error) => {
                self.failure.get_or_insert(error);
                ControlFlow::Break(Stop::All)
            }
        }
    }

    /// Adds an event to its sample; returns whether the sample continues.
    fn add(&mut self, sample_idx: u64, event: Event) -> Result<bool> {
        let writer = self.writer;
        let place = (sample_idx - self.n_printed) as usize;
        while self.samples.len() <= place {
            let rendering = Rendering::new(self.format, writer.tokenizer, self.stops);
            let pending = rendering.start(&writer.prompt_text);
            self.samples.push_back(Sample { rendering, pending, is_complete: false });
        }
        let sample = &mut self.samples[place];
        match event {
            Event::Token { id, logprobs } => {
                self.n_tokens += 1;
                sample.pending.push_str(&sample.rendering.push(id, logprobs)?);
            }
            Event::End(reason) => {
                let end = sample.rendering.end(sample_idx, &writer.prompt_text, reason)?;
                sample.pending.push_str(&end);
                sample.is_complete = true;
            }
            Event::Failed(error) => return Err(error.into()),
        }
        Ok(!sample.rendering.is_stopped())
    }

    /// Prints what can be printed by now.
    fn print(&mut self) -> Result<()> {
        while let Some(sample) = self.samples.front_mut() {
            if !sample.pending.is_empty() && (sample.is_complete || self.out.is_terminal()) {
                let text = std::mem::take(&mut sample.pending);
                write(&text, self.format, self.out)?;
            }
            if !sample.is_complete {
                break;
            }
            self.n_printed += 1;
            self.samples.pop_front();
            if self.n_printed < self.n_samples && !matches!(self.format, OutputFormat::Json { .. })
            {
                self.out.print(SEPARATOR)?;
            }
        }
        Ok(())
    }
}

/// Writes the output of a rendering. Only plain text can contain control characters from the model.
pub(super) fn write(text: &str, format: OutputFormat, out: &mut Output) -> Result<()> {
    match format {
        OutputFormat::Text => out.print_model_text(text)?,
        OutputFormat::Table { .. } | OutputFormat::Json { .. } => out.print(text)?,
    }
    Ok(())
}
