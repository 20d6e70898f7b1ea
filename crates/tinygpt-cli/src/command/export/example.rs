//! The prompt of the examples that an export prints and writes: one that this model can continue.

use tinygpt_model::Gpt;

use super::Opened;

/// The prompt of any model that knows its characters and sees enough tokens.
const PROMPT: &str = "Once upon a time";

/// The most tokens that an example makes.
pub(super) const MAX_NEW_TOKENS: usize = 200;

/// A prompt with room for text after it.
pub(super) struct Example {
    /// As text; perhaps only what begins a document.
    pub(super) prompt: String,
    /// How many tokens the model can make after it without going beyond its context.
    pub(super) n_new: usize,
}

impl Example {
    /// One for this model; `None` if its context has no room for two tokens.
    pub(super) fn of(opened: &Opened<Gpt>) -> Option<Self> {
        let Opened { tokenizer, model, special, .. } = opened;
        let context = model.config().block_size;
        let room = |n_prompt: usize| context.checked_sub(n_prompt).filter(|room| *room > 0);
        let ids = tokenizer.encode(PROMPT).ok()?;
        // Half of the context for the text.
        if 2 * ids.len() <= context && tokenizer.prompt_notes(PROMPT, &ids, context).is_empty() {
            let n_new = room(ids.len())?.min(MAX_NEW_TOKENS);
            return Some(Self { prompt: PROMPT.to_owned(), n_new });
        }
        let prompt = tokenizer.decode(&[special.bos]).ok()?;
        Some(Self { prompt, n_new: room(1)?.min(MAX_NEW_TOKENS) })
    }
}
