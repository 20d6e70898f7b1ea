//! The tokens at which documents start and end for the model of a run: `<|endoftext|>`, if the
//! training data contains it.

use tinygpt_data::{DataError, Prepared};
use tinygpt_model::hf::SpecialTokens;

/// How a sample of a run begins and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleStart {
    /// The tokens to continue.
    pub prompt: Vec<u32>,
    /// The token that ends the sample.
    pub eos: Option<u32>,
    /// Whether it is the start of a conversation.
    pub is_chat: bool,
}

impl SampleStart {
    /// Of conversations, the first prompt of the validation split, up to the answer; of text, a new document.
    ///
    /// # Errors
    /// [`DataError::Corrupt`] or [`DataError::Io`] if a shard cannot be read; a template that does not fit.
    pub(crate) fn of(
        prepared: &Prepared,
        special: SpecialTokens,
        block_size: usize,
    ) -> Result<Self, DataError> {
        let document = Self { prompt: vec![special.bos], eos: special.eos, is_chat: false };
        let (val, tokenizer) = (&prepared.val, &prepared.tokenizer);
        let (Some(mask), Some(template)) = (val.mask(), tokenizer.chat_template()) else {
            return Ok(document);
        };
        let mut prompt = vec![0; val.len().min(block_size / 2)];
        let mut learned = prompt.clone();
        val.read(0, &mut prompt)?;
        mask.read(0, &mut learned)?;
        match learned.iter().position(|learned| *learned == 1) {
            Some(answer) if answer > 0 => {
                prompt.truncate(answer);
                let eos = Some(template.end_of_turn(tokenizer)?);
                Ok(Self { prompt, eos, is_chat: true })
            }
            // All is learned, or the prompt is long.
            _ => Ok(document),
        }
    }
}

/// The tokens that start and end a sample of a model trained on `prepared`.
///
/// `<|endoftext|>` stands between documents. A training split that is one document (Shakespeare's
/// plays in one file) does not contain a token after it: samples of such a model start after a line
/// feed, a frequent token, and do not end by themselves.
///
/// # Errors
/// [`DataError::Tokenizer`] if the tokenizer fails.
pub(crate) fn special_tokens(prepared: &Prepared) -> Result<SpecialTokens, DataError> {
    let eot = prepared.tokenizer.eot_id();
    if prepared.meta.train.n_documents > 1 {
        return Ok(SpecialTokens { bos: eot, eos: Some(eot) });
    }
    let newline = prepared.tokenizer.encode("\n")?;
    Ok(SpecialTokens { bos: newline.last().copied().unwrap_or(eot), eos: None })
}
