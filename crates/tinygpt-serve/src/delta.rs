//! From tokens to text that can be sent, and what there is to tell of each token.
//!
//! What may turn out to begin a stop text is held back by [`StopStream`], always in whole tokens;
//! what is told of those tokens waits here.

use std::collections::VecDeque;

use tinygpt_data::{DataError, END_OF_TEXT, StopStream, StreamDecoder, Tokenizer};
use tinygpt_model::Logprobs;

/// Text of a choice, and its tokens if the request asks for their probabilities.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) tokens: Vec<TokenReport>,
}

/// One token with its probability and what else was likely.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenReport {
    pub(crate) name: String,
    pub(crate) logprob: f32,
    /// Best first.
    pub(crate) top: Vec<(String, f32)>,
    /// Where it begins, in characters from the beginning of the prompt.
    pub(crate) offset: usize,
}

/// Turns the tokens of one choice into pieces.
#[derive(Debug)]
pub(crate) struct Piecer<'a> {
    tokenizer: &'a Tokenizer,
    stream: StopStream<'a>,
    /// Nothing is held back here: it says where tokens begin.
    all: StreamDecoder<'a>,
    /// Tokens whose text is held back.
    held: VecDeque<TokenReport>,
    /// Characters of the prompt and of all tokens so far.
    n_chars: usize,
}

impl<'a> Piecer<'a> {
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

    /// Takes the next token. What is certain now, and whether a stop text has come.
    pub(crate) fn push(
        &mut self,
        id: u32,
        logprobs: Option<Logprobs>,
    ) -> Result<(Piece, bool), DataError> {
        if let Some(logprobs) = logprobs {
            self.held.push_back(self.report(id, &logprobs)?);
            // Only a model that never saw a document end writes it and goes on; it is no text.
            if id != self.tokenizer.eot_id() {
                self.n_chars += self.all.push(id)?.chars().count();
            }
        }
        let tinygpt_data::Piece { text, n_tokens, is_stopped } = self.stream.push(id)?;
        Ok((self.piece(text, n_tokens), is_stopped))
    }

    /// Ends the text: what was held back was no stop text.
    pub(crate) fn finish(&mut self) -> Piece {
        let tinygpt_data::Piece { text, n_tokens, .. } = self.stream.finish();
        self.piece(text, n_tokens)
    }

    fn piece(&mut self, text: String, n_tokens: usize) -> Piece {
        // Nothing is held if nothing is to be told.
        let tokens = self.held.drain(..n_tokens.min(self.held.len())).collect();
        Piece { text, tokens }
    }

    fn report(&self, id: u32, logprobs: &Logprobs) -> Result<TokenReport, DataError> {
        let name = |id| token_name(self.tokenizer, id);
        let mut top = Vec::new();
        for (id, logprob) in &logprobs.top {
            top.push((name(*id)?, *logprob));
        }
        Ok(TokenReport { name: name(id)?, logprob: logprobs.chosen, top, offset: self.n_chars })
    }
}

/// A token as OpenAI's API writes it: its text, or its bytes where those are no text.
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
    fn tokens_are_told_with_their_text() {
        // Characters, and bytes for those that are not in "abc".
        let tokenizer = Tokenizer::learn(Encoding::Simple, &["abc"], 0).unwrap();
        let ids = tokenizer.encode("abé").unwrap();
        let mut piecer = Piecer::new(&tokenizer, &["bc".to_owned()], 7);
        let mut told = Vec::new();
        for id in &ids {
            let logprobs = Logprobs { chosen: -1.0, top: vec![(ids[0], -0.5)] };
            let (piece, _) = piecer.push(*id, Some(logprobs)).unwrap();
            let names = piece.tokens.iter().map(|token| (token.name.clone(), token.offset));
            told.push((piece.text.clone(), names.collect::<Vec<_>>()));
        }
        let token = |name: &str, offset| (name.to_owned(), offset);
        assert_eq!(told[0], ("a".to_owned(), vec![token("a", 7)]));
        assert_eq!(told[1], (String::new(), vec![]));
        // The first byte of a character is no text yet, so "b" may still begin "bc".
        assert_eq!(told[2], (String::new(), vec![]));
        let bytes = ["bytes:\\xc3", "bytes:\\xa9"].map(|name| token(name, 9));
        assert_eq!(told[3].0, "bé");
        assert_eq!(told[3].1, [&[token("b", 8)][..], &bytes].concat());
    }
}
