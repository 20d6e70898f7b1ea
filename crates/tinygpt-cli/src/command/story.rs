//! Lets a model write to standard output: while it thinks if a person watches, else when done.
//!
//! Samples are made all at once and shown one after the other: the first as it comes, the next
//! with what there is of it when its turn has come, and so on.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use anyhow::Result;
use tinygpt_data::{StreamDecoder, Tokenizer};
use tinygpt_model::{Event, Gpt, SamplingParams, generate};

use crate::terminal::Output;

/// Between two samples.
const SEPARATOR: &str = "----------------------------------------\n";

/// A model, its tokenizer, and the text that every sample goes on from.
#[derive(Debug)]
pub(super) struct Storyteller<'a> {
    gpt: &'a Gpt,
    tokenizer: &'a Tokenizer,
    prompt: Vec<u32>,
    /// What of the prompt is shown before the sample.
    opening: String,
}

impl<'a> Storyteller<'a> {
    /// Samples that begin a document, which the model does after the token `bos`.
    pub(super) fn from_scratch(gpt: &'a Gpt, tokenizer: &'a Tokenizer, bos: u32) -> Self {
        Self { gpt, tokenizer, prompt: vec![bos], opening: String::new() }
    }

    /// Samples that go on from `text`, which is not empty.
    pub(super) fn from_text(gpt: &'a Gpt, tokenizer: &'a Tokenizer, text: &str) -> Result<Self> {
        let prompt = tokenizer.encode(text)?;
        Ok(Self { gpt, tokenizer, prompt, opening: text.to_owned() })
    }

    /// Tokens of the prompt.
    pub(super) fn prompt_len(&self) -> usize {
        self.prompt.len()
    }

    /// Writes samples 0 to `n_samples` in order and returns how many tokens the model made.
    pub(super) fn tell(
        &self,
        params: &SamplingParams,
        n_samples: u64,
        out: &mut Output,
    ) -> Result<usize> {
        let mut telling = Telling {
            teller: self,
            out,
            n_samples,
            told: 0,
            samples: VecDeque::new(),
            n_tokens: 0,
            failure: None,
        };
        generate(self.gpt, &self.prompt, params, 0..n_samples, &mut |sample_idx, event| {
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
    stream: StreamDecoder<'a>,
    /// Text that is not written yet.
    pending: String,
    is_complete: bool,
}

impl Telling<'_> {
    fn hear(&mut self, sample_idx: u64, event: Event) -> ControlFlow<()> {
        if self.failure.is_none() {
            self.failure = self.take(sample_idx, event).and_then(|()| self.show()).err();
        }
        if self.failure.is_some() || self.out.is_closed() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Puts what was heard to the text of its sample.
    fn take(&mut self, sample_idx: u64, event: Event) -> Result<()> {
        let (tokenizer, opening) = (self.teller.tokenizer, &self.teller.opening);
        let place = (sample_idx - self.told) as usize;
        while self.samples.len() <= place {
            let stream = StreamDecoder::new(tokenizer);
            self.samples.push_back(Sample { stream, pending: opening.clone(), is_complete: false });
        }
        let sample = &mut self.samples[place];
        match event {
            Event::Token { id, .. } => {
                self.n_tokens += 1;
                // Only a model that never saw a document end can get here with it.
                if id != tokenizer.eot_id() {
                    sample.pending.push_str(&sample.stream.push(id)?);
                }
            }
            Event::End(_) | Event::Failed(_) => {
                sample.pending.push_str(&sample.stream.finish());
                sample.pending.push('\n');
                sample.is_complete = true;
            }
        }
        Ok(())
    }

    /// Writes what can be written by now.
    fn show(&mut self) -> Result<()> {
        while let Some(sample) = self.samples.front_mut() {
            if !sample.pending.is_empty() && (sample.is_complete || self.out.is_terminal()) {
                let text = std::mem::take(&mut sample.pending);
                self.out.print_model_text(&text)?;
            }
            if !sample.is_complete {
                break;
            }
            self.told += 1;
            self.samples.pop_front();
            if self.told < self.n_samples {
                self.out.print(SEPARATOR)?;
            }
        }
        Ok(())
    }
}
