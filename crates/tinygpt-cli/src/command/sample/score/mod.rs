//! `sample --score`: how likely the model finds a text, or which of two sentences.

mod read;
mod report;
mod windows;

use anyhow::Result;
use tinygpt_model::{Model, ScoreParams, score};

pub(super) use self::read::read;
use self::read::{Input, Pair};
use self::report::{Scored, print_documents, print_pairs};
use self::windows::{Window, windows};
use super::load::LoadedModel;
use crate::exit::Ended;
use crate::options::{SampleSettings, ScoreSource};
use crate::terminal::{Output, say};
use crate::usage::UsageError;

/// Windows that are scored before the next are tokenized: memory does not grow with the text.
const WINDOWS_AT_ONCE: usize = 4096;

/// Text for a model, with the tokens of a document as the model sees them.
struct Scorer<'a> {
    loaded: &'a LoadedModel<Box<dyn Model>>,
    stride: usize,
}

/// Scores what was read from `source` and prints the result.
///
/// # Errors
/// A sentence longer than the context, a model that cannot be computed with.
pub(super) fn score_input(
    (source, input): (&ScoreSource, Input),
    settings: &SampleSettings,
    loaded: &LoadedModel<Box<dyn Model>>,
) -> Result<Ended> {
    let block_size = loaded.model.config().block_size;
    let stride = settings.stride.unwrap_or((block_size / 2).max(1));
    if stride > block_size {
        let message = format!("`stride` is {stride}, expected 1 to the context of {block_size}");
        return Err(UsageError::new(message).hint("lower --stride").into());
    }
    let scorer = Scorer { loaded, stride };
    let mut out = Output::lock();
    match input {
        Input::Documents(documents) => {
            let scored = scorer.documents(documents.iter().map(String::as_str))?;
            let n_long = scored.iter().filter(|it| it.n_tokens > block_size).count();
            if n_long > 0 {
                let n = documents.len();
                say(&format!(
                    "note: {n_long} of {n} documents are longer than the context of {block_size} \
                     tokens: later tokens see the last {} to {block_size} tokens (--stride {stride})",
                    block_size + 1 - stride
                ));
            }
            print_documents(&scored, settings.json, &mut out)?;
        }
        Input::Pairs(pairs) => {
            scorer.check_length(&pairs, source)?;
            let both = pairs.iter().flat_map(|it| [&it.sentence_good, &it.sentence_bad]);
            print_pairs(&scorer.documents(both.map(String::as_str))?, settings.json, &mut out)?;
        }
    }
    Ok(Ended::Done)
}

impl Scorer<'_> {
    /// The start of a document and the tokens of `text`.
    fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = vec![self.loaded.special.bos];
        tokens.extend(self.loaded.tokenizer.encode(text)?);
        Ok(tokens)
    }

    /// Scores each text as a document of its own.
    fn documents<'t>(&self, texts: impl Iterator<Item = &'t str>) -> Result<Vec<Scored>> {
        let block_size = self.loaded.model.config().block_size;
        let mut scored: Vec<Scored> = Vec::new();
        let mut waiting: Vec<(usize, Vec<u32>, Window)> = Vec::new();
        for text in texts {
            let tokens = self.tokens(text)?;
            let n_tokens = tokens.len() - 1;
            for window in windows(tokens.len(), block_size, self.stride) {
                waiting.push((scored.len(), tokens[window.tokens.clone()].to_vec(), window));
            }
            scored.push(Scored { n_tokens, n_bytes: text.len(), nats: 0.0 });
            if waiting.len() >= WINDOWS_AT_ONCE {
                self.score(&waiting, &mut scored)?;
                waiting.clear();
            }
        }
        self.score(&waiting, &mut scored)?;
        Ok(scored)
    }

    fn score(&self, windows: &[(usize, Vec<u32>, Window)], into: &mut [Scored]) -> Result<()> {
        let sequences: Vec<&[u32]> = windows.iter().map(|(_, ids, _)| ids.as_slice()).collect();
        let vocab_size = Some(self.loaded.tokenizer.vocab_size());
        let mut nats = vec![0.0; windows.len()];
        score(
            &*self.loaded.model,
            &sequences,
            ScoreParams { vocab_size, n_top: 0 },
            &mut |index, scores| {
                let new = &scores[scores.len() - windows[index].2.n_scored..];
                nats[index] = new.iter().map(|score| -f64::from(score.chosen)).sum();
            },
        )?;
        // In the order of the text, whichever ended first: the same sum each time.
        for ((document, ..), nats) in windows.iter().zip(nats) {
            into[*document].nats += nats;
        }
        Ok(())
    }

    /// Refuses sentences that the model cannot see whole: their scores would not be comparable.
    fn check_length(&self, pairs: &[Pair], source: &ScoreSource) -> Result<()> {
        let block_size = self.loaded.model.config().block_size;
        for (index, pair) in pairs.iter().enumerate() {
            for (field, text) in
                [("sentence_good", &pair.sentence_good), ("sentence_bad", &pair.sentence_bad)]
            {
                let n = self.tokens(text)?.len() - 1;
                if !(1..=block_size).contains(&n) {
                    let message = format!(
                        "{source}: `{field}` of pair {} has {n} tokens, expected 1 to the context \
                         of {block_size}",
                        index + 1
                    );
                    return Err(UsageError::new(message)
                        .hint("correct or remove that line")
                        .into());
                }
            }
        }
        Ok(())
    }
}
