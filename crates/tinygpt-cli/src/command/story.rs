//! Lets a model write to standard output: while it thinks if a person watches, else when done.
//!
//! Samples are made in batches and shown one after the other: the first as it comes, the next
//! with what there is of it when its turn has come, and so on. What is written for a sample is
//! `rendering.rs`'s business.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use anyhow::Result;
use tinygpt_data::Tokenizer;
use tinygpt_model::{Event, Model, SamplingParams, Stop, generate_with};

use super::rendering::{Form, Rendering};
use crate::terminal::Output;

/// Between two samples.
const SEPARATOR: &str = "----------------------------------------\n";

/// A model, its tokenizer, and the text that every sample goes on from.
#[derive(Debug)]
pub(super) struct Storyteller<'a> {
    model: &'a dyn Model,
    tokenizer: &'a Tokenizer,
    prompt: Vec<u32>,
    /// What of the prompt is shown before the sample.
    opening: String,
}

impl<'a> Storyteller<'a> {
    /// Samples that begin a document, which the model does after the token `bos`.
    pub(super) fn from_scratch(model: &'a dyn Model, tokenizer: &'a Tokenizer, bos: u32) -> Self {
        Self { model, tokenizer, prompt: vec![bos], opening: String::new() }
    }

    /// Samples that continue `text`, which is not empty, or that begin a document.
    pub(super) fn new(
        model: &'a dyn Model,
        tokenizer: &'a Tokenizer,
        bos: u32,
        text: Option<String>,
    ) -> Result<Self> {
        let Some(opening) = text else { return Ok(Self::from_scratch(model, tokenizer, bos)) };
        let prompt = tokenizer.encode(&opening)?;
        Ok(Self { model, tokenizer, prompt, opening })
    }

    /// The prompt as text and tokens, if there is one.
    pub(super) fn prompt(&self) -> Option<(&str, &[u32])> {
        Some((self.opening.as_str(), self.prompt.as_slice())).filter(|(text, _)| !text.is_empty())
    }

    /// Writes samples 0 to `n_samples` in order, each up to one of `stops`, and returns how many
    /// tokens the model made.
    pub(super) fn tell(
        &self,
        params: &SamplingParams,
        n_samples: u64,
        (form, stops): (Form, &[String]),
        out: &mut Output,
    ) -> Result<usize> {
        let mut telling = Telling {
            teller: self,
            form,
            stops,
            out,
            n_samples,
            told: 0,
            samples: VecDeque::new(),
            n_tokens: 0,
            failure: None,
        };
        generate_with(self.model, &self.prompt, params, 0..n_samples, &mut |sample_idx, event| {
            telling.hear(sample_idx, event)
        })?;
        match telling.failure {
            Some(error) => Err(error),
            None => Ok(telling.n_tokens),
        }
    }
}

/// Samples on their way from the model to the reader.
struct Telling<'a> {
    teller: &'a Storyteller<'a>,
    form: Form,
    stops: &'a [String],
    out: &'a mut Output,
    n_samples: u64,
    /// Samples that are written to the end.
    told: u64,
    /// Those after them, as far as they have begun; the first is being shown.
    samples: VecDeque<Sample<'a>>,
    n_tokens: usize,
    /// What ended it early.
    failure: Option<anyhow::Error>,
}

struct Sample<'a> {
    rendering: Rendering<'a>,
    /// Text that is not written yet.
    pending: String,
    is_complete: bool,
}

impl Telling<'_> {
    fn hear(&mut self, sample_idx: u64, event: Event) -> ControlFlow<Stop> {
        let taken = self.take(sample_idx, event);
        let shown = taken.and_then(|goes_on| self.show().map(|()| goes_on));
        match shown {
            Ok(_) if self.out.is_closed() => ControlFlow::Break(Stop::All),
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(Stop::Sample),
            Err(error) => {
                self.failure.get_or_insert(error);
                ControlFlow::Break(Stop::All)
            }
        }
    }

    /// Puts what was heard to the text of its sample, and says whether that goes on.
    fn take(&mut self, sample_idx: u64, event: Event) -> Result<bool> {
        let teller = self.teller;
        let place = (sample_idx - self.told) as usize;
        while self.samples.len() <= place {
            let rendering = Rendering::new(self.form, teller.tokenizer, self.stops);
            let pending = rendering.open(&teller.opening);
            self.samples.push_back(Sample { rendering, pending, is_complete: false });
        }
        let sample = &mut self.samples[place];
        match event {
            Event::Token { id, logprobs } => {
                self.n_tokens += 1;
                sample.pending.push_str(&sample.rendering.push(id, logprobs)?);
            }
            Event::End(reason) => {
                let end = sample.rendering.end(sample_idx, &teller.opening, reason)?;
                sample.pending.push_str(&end);
                sample.is_complete = true;
            }
            Event::Failed(error) => return Err(error.into()),
        }
        Ok(!sample.rendering.is_stopped())
    }

    /// Writes what can be written by now.
    fn show(&mut self) -> Result<()> {
        while let Some(sample) = self.samples.front_mut() {
            if !sample.pending.is_empty() && (sample.is_complete || self.out.is_terminal()) {
                let text = std::mem::take(&mut sample.pending);
                write(&text, self.form, self.out)?;
            }
            if !sample.is_complete {
                break;
            }
            self.told += 1;
            self.samples.pop_front();
            if self.told < self.n_samples && !matches!(self.form, Form::Json { .. }) {
                self.out.print(SEPARATOR)?;
            }
        }
        Ok(())
    }
}

/// Writes what was rendered; only plain text still has control characters of the model's.
pub(super) fn write(text: &str, form: Form, out: &mut Output) -> Result<()> {
    match form {
        Form::Text => out.print_model_text(text)?,
        Form::Table { .. } | Form::Json { .. } => out.print(text)?,
    }
    Ok(())
}
