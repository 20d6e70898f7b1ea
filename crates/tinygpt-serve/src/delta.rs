//! From tokens to the text of a streamed choice, with the log-probabilities of its tokens.
//!
//! [`StopStream`] holds back text that may be the beginning of a stop text, always in whole tokens.
//! The log-probabilities of those tokens are held back here.

use std::collections::VecDeque;

use tinygpt_data::{DataError, END_OF_TEXT, StopStream, StreamDecoder, StreamedText, Tokenizer};
use tinygpt_model::Logprobs;

/// The next text of a choice, and its tokens if the request asks for log-probabilities.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Delta {
    pub(crate) text: String,
    pub(crate) tokens: Vec<TokenReport>,
}

/// One token with its log-probability and the alternatives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenReport {
    pub(crate) name: String,
    /// Unknown for the first token of a prompt.
    pub(crate) logprob: Option<f32>,
    /// Most likely first.
    pub(crate) top: Vec<(String, f32)>,
    /// Where it starts, in characters from the start of the prompt.
    pub(crate) offset: usize,
}

/// The prompt `text` as the first delta of a choice, with the log-probabilities of its tokens `ids` if
/// there are `scores`: those of all tokens but the first.
pub(crate) fn prompt_delta(
    tokenizer: &Tokenizer,
    (text, ids): (&str, &[u32]),
    scores: Option<&[Logprobs]>,
) -> Result<Delta, DataError> {
    let mut delta = Delta { text: text.to_owned(), tokens: Vec::new() };
    let Some(scores) = scores else { return Ok(delta) };
    let (mut decoder, mut offset) = (StreamDecoder::new(tokenizer), 0);
    let scores = std::iter::once(None).chain(scores.iter().map(Some));
    for (id, score) in ids.iter().zip(scores) {
        delta.tokens.push(token_report(tokenizer, *id, score, offset)?);
        if *id == tokenizer.eot_id() {
            offset += END_OF_TEXT.chars().count();
        } else {
            offset += decoder.push(*id)?.chars().count();
        }
    }
    Ok(delta)
}

/// Turns the tokens of one choice into deltas.
#[derive(Debug)]
pub(crate) struct DeltaBuilder<'a> {
    tokenizer: &'a Tokenizer,
    stream: StopStream<'a>,
    /// Decodes without holding text back, to know where tokens start.
    all: StreamDecoder<'a>,
    /// Tokens whose text is held back.
    held: VecDeque<TokenReport>,
    /// Characters of the prompt and of all tokens so far.
    n_chars: usize,
}

impl<'a> DeltaBuilder<'a> {
    /// For a text that follows `n_chars` characters and ends before any of `stop`.
    pub(crate) fn new(tokenizer: &'a Tokenizer, stop: &[String], n_chars: usize) -> Self {
        let stream = StopStream::new(tokenizer, stop);
        Self {
            tokenizer,
            stream,
            all: StreamDecoder::new(tokenizer),
            held: VecDeque::new(),
            n_chars,
        }
    }

    /// Adds a token. Returns the text that is final now, and whether a stop text was found.
    pub(crate) fn push(
        &mut self,
        id: u32,
        logprobs: Option<Logprobs>,
    ) -> Result<(Delta, bool), DataError> {
        if let Some(logprobs) = logprobs {
            let report = token_report(self.tokenizer, id, Some(&logprobs), self.n_chars)?;
            self.held.push_back(report);
            // The end-of-document token is not text; a model without one may continue after it.
            if id != self.tokenizer.eot_id() {
                self.n_chars += self.all.push(id)?.chars().count();
            }
        }
        let StreamedText { text, n_tokens, is_stopped } = self.stream.push(id)?;
        Ok((self.delta(text, n_tokens), is_stopped))
    }

    /// Ends the text: what was held back is not a stop text.
    pub(crate) fn finish(&mut self) -> Delta {
        let StreamedText { text, n_tokens, .. } = self.stream.finish();
        self.delta(text, n_tokens)
    }

    fn delta(&mut self, text: String, n_tokens: usize) -> Delta {
        // Without log-probabilities nothing is held.
        let tokens = self.held.drain(..n_tokens.min(self.held.len())).collect();
        Delta { text, tokens }
    }
}

fn token_report(
    tokenizer: &Tokenizer,
    id: u32,
    logprobs: Option<&Logprobs>,
    offset: usize,
) -> Result<TokenReport, DataError> {
    let mut top = Vec::new();
    for (id, logprob) in logprobs.iter().flat_map(|logprobs| &logprobs.top) {
        top.push((token_name(tokenizer, *id)?, *logprob));
    }
    let (name, logprob) = (token_name(tokenizer, id)?, logprobs.map(|it| it.chosen));
    Ok(TokenReport { name, logprob, top, offset })
}

/// A token as OpenAI's API writes it: its text, or its bytes if they are not UTF-8.
fn token_name(tokenizer: &Tokenizer, id: u32) -> Result<String, DataError> {
    if id == tokenizer.eot_id() {
        return Ok(END_OF_TEXT.to_owned());
    }
    let bytes = tokenizer.bytes_of(id)?;
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let escaped: Vec<String> = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("bytes:{}", escaped.concat())
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tinygpt_data::Encoding;

    #[test]
    fn tokens_come_with_their_text() {
        // Characters, and bytes for those that are not in "abc".
        let tokenizer = Tokenizer::train(Encoding::Simple, &["abc"], 0).unwrap();
        let ids = tokenizer.encode("abé").unwrap();
        let mut builder = DeltaBuilder::new(&tokenizer, &["bc".to_owned()], 7);
        let mut sent = Vec::new();
        for id in &ids {
            let logprobs = Logprobs { chosen: -1.0, top: vec![(ids[0], -0.5)] };
            let (delta, _) = builder.push(*id, Some(logprobs)).unwrap();
            let names = delta.tokens.iter().map(|token| (token.name.clone(), token.offset));
            sent.push((delta.text.clone(), names.collect::<Vec<_>>()));
        }
        let token = |name: &str, offset| (name.to_owned(), offset);
        assert_eq!(sent[0], ("a".to_owned(), vec![token("a", 7)]));
        assert_eq!(sent[1], (String::new(), vec![]));
        // The first byte of a character is not text yet, so "b" may still be the start of "bc".
        assert_eq!(sent[2], (String::new(), vec![]));
        let bytes = ["bytes:\\xc3", "bytes:\\xa9"].map(|name| token(name, 9));
        assert_eq!(sent[3].0, "bé");
        assert_eq!(sent[3].1, [&[token("b", 8)][..], &bytes].concat());
    }
}
