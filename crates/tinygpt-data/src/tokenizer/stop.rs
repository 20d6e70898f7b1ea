//! Decoding a token at a time up to a stop text; text that may be the start of one is held back.
//!
//! A stop text may be spread over several tokens. Text that may be its start is held back in whole
//! tokens, so that reported tokens match the text.

use super::{StreamDecoder, Tokenizer};
use crate::error::DataError;

/// The text that is final after a token.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StreamedText {
    /// The next text, always whole UTF-8.
    pub text: String,
    /// How many of the held tokens belong to it.
    pub n_tokens: usize,
    /// Whether a stop text was found; it and what follows is not part of the text.
    pub is_stopped: bool,
}

/// Decodes tokens one by one into text that ends before any of the stop texts.
///
/// ```no_run
/// # let tokenizer = tinygpt_data::Tokenizer::from_dir("out/best").unwrap();
/// let mut stream = tinygpt_data::StopStream::new(&tokenizer, &["The end".to_owned()]);
/// for id in tokenizer.encode("So it was. The end. Or").unwrap() {
///     let piece = stream.push(id).unwrap(); // All together: "So it was. ".
///     if piece.is_stopped {
///         break;
///     }
/// }
/// ```
#[derive(Debug)]
pub struct StopStream<'a> {
    tokenizer: &'a Tokenizer,
    stream: StreamDecoder<'a>,
    stops: Vec<String>,
    /// Text that is not certain yet.
    held: String,
    /// Where in it each of its tokens ends, in bytes.
    ends: Vec<usize>,
}

impl<'a> StopStream<'a> {
    /// A stream that ends before the first of `stops`; empty ones are ignored.
    pub fn new(tokenizer: &'a Tokenizer, stops: &[String]) -> Self {
        Self {
            tokenizer,
            stream: StreamDecoder::new(tokenizer),
            stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(),
            held: String::new(),
            ends: Vec::new(),
        }
    }

    /// Adds a token and returns the text that is final, often none.
    ///
    /// # Errors
    /// [`DataError::Usage`] for an id outside the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<StreamedText, DataError> {
        // A caller that continues after the end of a document gets no text for it.
        if id != self.tokenizer.eot_id() {
            self.held.push_str(&self.stream.push(id)?);
        }
        self.ends.push(self.held.len());
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str()));
        if let Some(begin) = found.min() {
            // The token in which the stop text starts is included if it starts with other text.
            let n_before = self.ends.partition_point(|end| *end <= begin);
            let last_begin = n_before.checked_sub(1).map_or(0, |last| self.ends[last]);
            let piece = self.release(begin, n_before + usize::from(last_begin < begin));
            return Ok(StreamedText { is_stopped: true, ..piece });
        }
        let certain = self.held.len() - self.uncertain();
        let n_tokens = self.ends.partition_point(|end| *end <= certain);
        let end = n_tokens.checked_sub(1).map_or(0, |last| self.ends[last]);
        Ok(self.release(end, n_tokens))
    }

    /// Ends the text: what was held back is not a stop text, and an incomplete character
    /// becomes U+FFFD.
    pub fn finish(&mut self) -> StreamedText {
        let rest = self.stream.finish();
        self.held.push_str(&rest);
        self.release(self.held.len(), self.ends.len())
    }

    /// How many bytes at the end may be the start of a stop text.
    fn uncertain(&self) -> usize {
        let overlap = |stop: &String| {
            let begins = stop.char_indices().map(|(at, _)| at).skip(1);
            begins.filter(|at| self.held.ends_with(&stop[..*at])).max()
        };
        self.stops.iter().filter_map(overlap).max().unwrap_or(0)
    }

    fn release(&mut self, end: usize, n_tokens: usize) -> StreamedText {
        self.ends.drain(..n_tokens);
        self.ends.iter_mut().for_each(|other| *other = other.saturating_sub(end));
        StreamedText { text: self.held.drain(..end).collect(), n_tokens, is_stopped: false }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::Encoding;

    /// The texts and numbers of tokens that come out for `text`; the last is the end's, or has `|`
    /// before it where a stop text came.
    fn pieces(text: &str, stops: &[&str]) -> Vec<(String, usize)> {
        // Each of these is a token; of others each byte is.
        let tokenizer = Tokenizer::train(Encoding::Simple, &["abc"], 0).unwrap();
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut stream = StopStream::new(&tokenizer, &stops);
        let mut pieces = Vec::new();
        for id in tokenizer.encode(text).unwrap() {
            let piece = stream.push(id).unwrap();
            if piece.is_stopped {
                pieces.push((format!("|{}", piece.text), piece.n_tokens));
                return pieces;
            }
            pieces.push((piece.text, piece.n_tokens));
        }
        let last = stream.finish();
        pieces.push((last.text, last.n_tokens));
        pieces
    }

    fn owned(pieces: &[(&str, usize)]) -> Vec<(String, usize)> {
        pieces.iter().map(|(text, n)| ((*text).to_owned(), *n)).collect()
    }

    #[test]
    fn text_flows_and_characters_stay_whole() {
        assert_eq!(pieces("ab", &[]), owned(&[("a", 1), ("b", 1), ("", 0)]));
        assert_eq!(pieces("aé", &["", "x"]), owned(&[("a", 1), ("", 1), ("é", 1), ("", 0)]));
    }

    #[test]
    fn what_may_begin_a_stop_text_waits_and_what_follows_is_cut() {
        for (text, stops, expected) in [
            ("abcab", &["ca"][..], &[("a", 1), ("b", 1), ("", 0), ("|", 0)][..]),
            // The first "a" may begin it, the second does.
            ("aab", &["ab"], &[("", 0), ("a", 1), ("|", 0)]),
            ("cacb", &["cacc", "zz"], &[("", 0), ("", 0), ("", 0), ("cacb", 4), ("", 0)]),
            // The text ends while it waits.
            ("cca", &["cab"], &[("", 0), ("c", 1), ("", 0), ("ca", 2)]),
            ("aéb", &["é"], &[("a", 1), ("", 1), ("|", 0)]),
            // The earliest counts, whatever the order.
            ("abc", &["c", "bc", "b"], &[("a", 1), ("|", 0)]),
        ] {
            assert_eq!(pieces(text, stops), owned(expected), "{text} {stops:?}");
        }
    }

    #[test]
    fn a_token_in_which_a_stop_text_starts_belongs_to_the_text_before_it() {
        let text = "the cat sat. the cat sat. the cat sat.".repeat(20);
        let tokenizer = Tokenizer::train(Encoding::Bpe, &[&text], 300).unwrap();
        let ids = tokenizer.encode(" cat").unwrap();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let mut stream = StopStream::new(&tokenizer, &["at".to_owned()]);
        let piece = stream.push(ids[0]).unwrap();
        assert_eq!(piece, StreamedText { text: " c".to_owned(), n_tokens: 1, is_stopped: true });
    }
}
