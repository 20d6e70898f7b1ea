//! Where text begins and ends for the model of a run: at `<|endoftext|>`, if the run ever shows it.

use tinygpt_data::{DataError, Prepared};
use tinygpt_model::hf::SpecialTokens;

/// The tokens that begin and end what a model of `prepared` writes.
///
/// `<|endoftext|>` stands between documents. A training split that is one document (Shakespeare's
/// plays in one file) never shows what comes after it: such a model begins with a new line, which
/// it has seen often, and does not end by itself.
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
