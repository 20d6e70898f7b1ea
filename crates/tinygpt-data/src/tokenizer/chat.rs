//! Conversations to token ids, and which of these ids a model learns.
//!
//! Special tokens come from the template alone. Where a message has the name of one, a character is put
//! into it before rendering, and taken out of the text between special tokens afterwards.

use super::{Part, SpecialTokens, Tokenizer};
use crate::chat::{ChatTemplate, Message};
use crate::error::DataError;

/// The role whose turns a model writes.
const ASSISTANT: &str = "assistant";

/// The role whose messages are answered.
const USER: &str = "user";

/// The role of the message that stands before the conversation.
const SYSTEM: &str = "system";

impl ChatTemplate {
    /// The ids of a conversation up to the start of the assistant's next turn, which a model continues.
    ///
    /// # Errors
    /// [`DataError::ChatTemplate`] if the template is invalid or refuses the conversation,
    /// [`DataError::Corrupt`] if the tokenizer cannot encode it.
    pub fn prompt_ids(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
    ) -> Result<Vec<u32>, DataError> {
        let marked = Marked::new(messages, tokenizer.special());
        let text = self.render(&marked.messages, true)?;
        let mut ids = Vec::new();
        marked.encode(tokenizer, &text, &mut ids)?;
        Ok(ids)
    }

    /// As [`Self::prompt_ids`], of at most `most` tokens: the oldest exchanges are dropped whole, but
    /// neither the system message nor the last message. Also says how many messages were dropped.
    ///
    /// # Errors
    /// As [`Self::prompt_ids`]; [`DataError::Usage`] if what is never dropped is too long.
    pub fn prompt_ids_within(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        most: usize,
    ) -> Result<(Vec<u32>, usize), DataError> {
        let n_system = messages.iter().take_while(|it| it.role == SYSTEM).count();
        let mut kept = messages.to_vec();
        loop {
            let ids = self.prompt_ids(tokenizer, &kept)?;
            if ids.len() <= most {
                return Ok((ids, messages.len() - kept.len()));
            }
            // The next exchange starts with the next message of the user.
            let later = kept.iter().enumerate().skip(n_system + 1);
            let Some((next, _)) = later.into_iter().find(|(_, it)| it.role == USER) else {
                return Err(DataError::usage(
                    format!(
                        "the last message has {} tokens with its system message, expected at most {most}",
                        ids.len()
                    ),
                    "send a shorter one",
                ));
            };
            kept.drain(n_system..next);
        }
    }

    /// The ids of a whole conversation, and for each whether it is learned.
    ///
    /// With `mask_prompt`, these are the tokens of the assistant's turns up to and including the special
    /// token that ends a turn. Without it they are all tokens.
    ///
    /// # Errors
    /// As [`Self::prompt_ids`]; [`DataError::ChatTemplate`] also if the text of a prompt is not the start
    /// of the text with its answer, or if an answer does not end with a special token.
    pub fn training_ids(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        mask_prompt: bool,
    ) -> Result<(Vec<u32>, Vec<bool>), DataError> {
        let marked = Marked::new(messages, tokenizer.special());
        let text = self.render(&marked.messages, false)?;
        let (mut ids, mut learned) = (Vec::new(), Vec::new());
        let answers = match self.answers(&marked.messages, &text, tokenizer.special()) {
            // Where all is learned, the borders are only those that generation has.
            Err(_) if !mask_prompt => Vec::new(),
            answers => answers?,
        };
        let mut done = 0;
        for (start, end) in answers {
            marked.encode(tokenizer, &text[done..start], &mut ids)?;
            learned.resize(ids.len(), !mask_prompt);
            marked.encode(tokenizer, &text[start..end], &mut ids)?;
            learned.resize(ids.len(), true);
            done = end;
        }
        marked.encode(tokenizer, &text[done..], &mut ids)?;
        learned.resize(ids.len(), !mask_prompt);
        Ok((ids, learned))
    }

    /// The special token that ends the assistant's turns: a model that writes it has finished its answer.
    ///
    /// # Errors
    /// As [`Self::training_ids`].
    pub fn end_of_turn(&self, tokenizer: &Tokenizer) -> Result<u32, DataError> {
        let messages = [Message::new("user", "Hello"), Message::new(ASSISTANT, "Yes")];
        let (ids, learned) = self.training_ids(tokenizer, &messages, true)?;
        let last = ids.into_iter().zip(learned).rfind(|(_, is_learned)| *is_learned);
        last.map(|(id, _)| id).ok_or_else(no_end)
    }

    /// Where in `text` each answer starts and ends.
    fn answers(
        &self,
        messages: &[Message],
        text: &str,
        special: &SpecialTokens,
    ) -> Result<Vec<(usize, usize)>, DataError> {
        let turns = messages.iter().enumerate().filter(|(_, message)| message.role == ASSISTANT);
        let mut starts = Vec::new();
        for (index, message) in turns {
            let before = self.render(&messages[..index], true)?;
            let after = starts.last().is_none_or(|(start, _)| *start <= before.len());
            if !(after && text.starts_with(&before)) {
                return Err(not_a_prefix(index));
            }
            starts.push((before.len(), message.content.trim()));
        }
        let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([text.len()]);
        let answer = |(&(start, content), limit): (&(usize, &str), usize)| {
            let rest = &text[start..limit];
            // The template may print special tokens before the content, and may change the content.
            let content_end = rest.find(content).map_or(0, |at| at + content.len());
            let mut parts = special.split(&rest[content_end..]);
            let (_, end) =
                parts.find(|(part, _)| matches!(part, Part::Special(_))).ok_or_else(no_end)?;
            Ok((start, start + content_end + end))
        };
        starts.iter().zip(ends).map(answer).collect()
    }
}

/// Messages in which no name of a special token is whole.
struct Marked {
    messages: Vec<Message>,
    /// The character inside of names, which no message has.
    mark: char,
}

impl Marked {
    fn new(messages: &[Message], special: &SpecialTokens) -> Self {
        let is_used =
            |c: char| messages.iter().any(|it| it.content.contains(c) || it.role.contains(c));
        let mark = ('\0'..=char::MAX).rev().find(|c| !is_used(*c)).unwrap_or(char::MAX);
        let marked = |text: &str| {
            let mut out = String::with_capacity(text.len());
            let mut done = 0;
            for at in special.starts(text) {
                let end = at + text[at..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&text[done..end]);
                out.push(mark);
                done = end;
            }
            out.push_str(&text[done..]);
            out
        };
        let messages =
            messages.iter().map(|it| Message::new(marked(&it.role), marked(&it.content))).collect();
        Self { messages, mark }
    }

    /// Appends the ids of rendered text.
    fn encode(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        ids: &mut Vec<u32>,
    ) -> Result<(), DataError> {
        let mut encoder = tokenizer.encoder().parsing_special(false);
        for (part, _) in tokenizer.special().split(text) {
            match part {
                Part::Special(id) => ids.push(id),
                Part::Text(text) if text.contains(self.mark) => {
                    encoder.encode_into(&text.replace(self.mark, ""), ids)?;
                }
                Part::Text(text) => encoder.encode_into(text, ids)?,
            }
        }
        Ok(())
    }
}

fn not_a_prefix(index: usize) -> DataError {
    DataError::chat_template(
        format!(
            "prints other text before the answer of message {} when the answer is there, so the learned \
             tokens cannot be found",
            index + 1
        ),
        "train with another template, or without `mask_prompt`",
    )
}

fn no_end() -> DataError {
    DataError::chat_template(
        "does not end the assistant's turns with a special token of this tokenizer",
        "use a tokenizer with the special tokens of the template, or another template",
    )
}
