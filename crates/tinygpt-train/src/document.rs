//! The tokens at which documents start and end for the model of a run: `<|endoftext|>`, if the
//! training data contains it.

use tinygpt_data::{DataError, Prepared};
use tinygpt_model::hf::SpecialTokens;

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
