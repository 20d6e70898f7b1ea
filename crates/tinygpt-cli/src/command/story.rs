//! Lets a model write to standard output: while it thinks if a person watches, else when done.

use std::ops::ControlFlow;

use anyhow::Result;
use tinygpt_data::{StreamDecoder, Tokenizer};
use tinygpt_model::{Gpt, SamplingParams, generate};

use crate::terminal::Output;

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

    /// Writes sample `sample_idx` and returns how many tokens the model made.
    pub(super) fn tell(
        &self,
        params: &SamplingParams,
        sample_idx: u64,
        out: &mut Output,
    ) -> Result<usize> {
        let mut stream = StreamDecoder::new(self.tokenizer);
        let mut pending = self.opening.clone();
        let (mut n_tokens, mut failure) = (0, None);
        let eot = self.tokenizer.eot_id();
        generate(self.gpt, &self.prompt, params, sample_idx, &mut |id| {
            n_tokens += 1;
            // Only a model that never saw a document end can get here with it.
            if id == eot {
                return ControlFlow::Continue(());
            }
            let shown = stream.push(id).map_err(anyhow::Error::from).and_then(|text| {
                pending.push_str(&text);
                if out.is_terminal() {
                    out.print_model_text(&std::mem::take(&mut pending))?;
                }
                Ok(())
            });
            failure = shown.err();
            if failure.is_some() || out.is_closed() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        pending.push_str(&stream.finish());
        pending.push('\n');
        out.print_model_text(&pending)?;
        Ok(n_tokens)
    }
}
