//! Decoding a token at a time, for text that appears while it is generated.
//!
//! A character may be spread over several tokens, so bytes are held until it is complete.

use super::Tokenizer;
use crate::error::DataError;

/// Decodes tokens one by one into text that is always complete UTF-8.
///
/// ```no_run
/// # let tokenizer = tinygpt_data::Tokenizer::from_dir("out/best").unwrap();
/// let mut stream = tinygpt_data::StreamDecoder::new(&tokenizer);
/// for id in tokenizer.encode("“Hello” 👋").unwrap() {
///     let text = stream.push(id).unwrap(); // Empty while a character is incomplete.
/// }
/// let rest = stream.finish(); // U+FFFD for a character that stayed incomplete.
/// ```
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    pending: Vec<u8>,
}

impl<'a> StreamDecoder<'a> {
    /// A decoder at the start of a text.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, pending: Vec::new() }
    }

    /// Adds a token and returns the text that is complete, often empty.
    ///
    /// # Errors
    /// [`DataError::Usage`] for an id outside the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<String, DataError> {
        self.pending.extend_from_slice(self.tokenizer.bytes_of(id)?);
        let mut text = String::new();
        let mut n_taken = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            n_taken += chunk.valid().len();
            let invalid = chunk.invalid();
            if n_taken + invalid.len() == self.pending.len() && may_continue(invalid) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            n_taken += invalid.len();
        }
        self.pending.drain(..n_taken);
        Ok(text)
    }

    /// Ends the text: what is left of an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

/// Whether more bytes could make these into a character, or there are none.
fn may_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none()) || bytes.is_empty()
}
