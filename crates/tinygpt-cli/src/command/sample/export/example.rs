//! A prompt that the model can continue, for the examples of an export.

use tinygpt_model::Gpt;

use super::LoadedModel;

/// The prompt, if the model knows its characters and has a long enough context.
const PROMPT: &str = "Once upon a time";

/// The most tokens that an example generates.
pub(super) const MAX_NEW_TOKENS: usize = 200;

/// A prompt with room for text after it.
pub(super) struct Example {
    /// As text; the start of a document if [`PROMPT`] does not suit the model.
    pub(super) prompt: String,
    /// Tokens that fit into the context after it.
    pub(super) n_new: usize,
}

impl Example {
    /// An example for this model; `None` if its context has fewer than two tokens.
    pub(super) fn of(loaded: &LoadedModel<Gpt>) -> Option<Self> {
        let LoadedModel { tokenizer, model, special, .. } = loaded;
        let context = model.config().block_size;
        let room = |n_prompt: usize| context.checked_sub(n_prompt).filter(|room| *room > 0);
        let ids = tokenizer.encode(PROMPT).ok()?;
        // At least half of the context is for generated text.
        if 2 * ids.len() <= context && tokenizer.prompt_notes(PROMPT, &ids, context).is_empty() {
            let n_new = room(ids.len())?.min(MAX_NEW_TOKENS);
            return Some(Self { prompt: PROMPT.to_owned(), n_new });
        }
        let prompt = tokenizer.decode(&[special.bos]).ok()?;
        Some(Self { prompt, n_new: room(1)?.min(MAX_NEW_TOKENS) })
    }
}
