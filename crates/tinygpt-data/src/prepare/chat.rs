//! Conversations on their way into shards: messages, tokens, and which of these are learned.

use crate::chat::{ChatTemplate, Message};
use crate::error::DataError;
use crate::source::{Piece, of_document};
use crate::tokenizer::{Tokenizer, TokenizerTrainer};

/// How conversations become tokens.
#[derive(Clone, Copy)]
pub(super) struct ChatEncoding<'a> {
    pub(super) template: &'a ChatTemplate,
    /// Whether only answers are learned.
    pub(super) mask_prompt: bool,
}

/// A conversation as tokens.
pub(super) struct EncodedChat {
    /// What its messages say, without roles and special tokens: what the tokens are measured by.
    pub(super) text: Piece,
    pub(super) ids: Vec<u32>,
    /// For each token, whether it is learned.
    pub(super) mask: Vec<bool>,
}

impl ChatEncoding<'_> {
    /// Encodes the conversation in `piece`.
    pub(super) fn encode(
        &self,
        tokenizer: &Tokenizer,
        piece: &Piece,
    ) -> Result<EncodedChat, DataError> {
        let messages = of_document(&piece.text)?;
        let (ids, mask) = self.template.training_ids(tokenizer, &messages, self.mask_prompt)?;
        let text = Piece { text: contents(&messages), ends_document: true };
        Ok(EncodedChat { text, ids, mask })
    }
}

fn contents(messages: &[Message]) -> String {
    let contents: Vec<&str> = messages.iter().map(|it| it.content.as_str()).collect();
    contents.join("\n")
}

/// Counts the text of the conversation in `piece`, as the default template writes it, for a tokenizer.
pub(super) fn count(trainer: &mut TokenizerTrainer, piece: &Piece) -> Result<(), DataError> {
    for message in of_document(&piece.text)? {
        trainer.count(&format!("{}\n{}", message.role, message.content));
        trainer.count("\n");
    }
    Ok(())
}
