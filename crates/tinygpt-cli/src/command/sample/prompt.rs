//! Reads the prompt of `--start` and warns about prompts that give worse text.

use std::collections::BTreeSet;
use std::fs::File;

use anyhow::{Context as _, Result};
use tinygpt_data::{DataError, Encoding, FileError, Meta, TokenDataset, Tokenizer, read_limited};
use tinygpt_model::Model;
use tinygpt_train::checkpoint;

use super::load::LoadedModel;
use crate::options::Start;
use crate::terminal::say;
use crate::usage::UsageError;

/// The longest prompt that is read, in bytes. A model uses the last few thousand.
const MAX_BYTES: u64 = 64 << 20;

/// A prompt as it was read. Whether line breaks at its end count depends on the tokenizer.
#[derive(Debug)]
pub(super) enum Prompt {
    /// The start of a document.
    None,
    /// A text as it was typed.
    Typed(String),
    /// The text of a file or of standard input.
    File(String),
}

/// Reads the prompt.
///
/// # Errors
/// A file that cannot be read or is not UTF-8.
pub(super) fn read(start: &Start) -> Result<Prompt> {
    let (name, bytes) = match start {
        Start::Document => return Ok(Prompt::None),
        Start::Text(text) => {
            note_mistakes(text);
            return Ok(Prompt::Typed(text.clone()));
        }
        // The path may be a pipe, such as `<(…)` in a shell.
        Start::File(path) => (
            format!("the prompt FILE:{}", path.display()),
            File::open(path).map_err(FileError::Io).and_then(|file| read_limited(file, MAX_BYTES)),
        ),
        Start::Stdin => (
            "the prompt from standard input".to_owned(),
            read_limited(std::io::stdin().lock(), MAX_BYTES),
        ),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(FileError::Io(error)) => {
            return Err(error).with_context(|| format!("cannot read {name}"));
        }
        Err(FileError::Refused(what)) => {
            let hint = "give the end of the text, for example with `tail -c 100000`";
            return Err(UsageError::new(format!("{name} {what}")).hint(hint).into());
        }
    };
    let text = String::from_utf8(bytes)
        .map_err(|error| UsageError::not_utf8(name, &error.utf8_error()))?;
    Ok(Prompt::File(text))
}

/// Notes text that looks like an escape sequence or a file name but is used as it is.
fn note_mistakes(text: &str) {
    if !text.contains('\n') && (text.contains("\\n") || text.contains("\\t")) {
        say("note: `\\n` and `\\t` in --start are two characters each; for a real newline use \
             --start $'…' in bash or zsh, or FILE:path");
    }
    let path = text.split_at_checked(5).filter(|(prefix, _)| prefix.eq_ignore_ascii_case("file:"));
    if path.is_some_and(|(_, path)| std::path::Path::new(path).is_file()) {
        say("note: --start is used as text; to read that file, write FILE: in capitals");
    }
}

impl Prompt {
    /// The text for the model of this tokenizer; `None` for the start of a document.
    pub(super) fn text(self, tokenizer: &Tokenizer) -> Option<String> {
        let text = match self {
            Self::None => return None,
            Self::Typed(text) => text,
            Self::File(text) => tokenizer.prompt_of_file(&text),
        };
        Some(text).filter(|text| !text.is_empty())
    }
}

/// The largest training split that is searched for the tokens of a prompt.
const MAX_SEARCHED: u64 = 20_000_000;

/// Tokens that are read at a time.
const CHUNK: usize = 1 << 16;

/// The most characters that a note quotes.
const MAX_QUOTED: usize = 5;

/// The tokens that a model saw in training, if that is known.
#[derive(Debug)]
pub(super) struct Seen(Option<Vec<bool>>);

impl Seen {
    /// Searches the training data, if it still exists and is small enough.
    ///
    /// A vocabulary of characters has only characters of the training text, so it needs no search. With
    /// another model's tokenizer, tokens may have been seen in that model's training.
    pub(super) fn of(loaded: &LoadedModel<Box<dyn Model>>) -> Self {
        let is_bpe = loaded.tokenizer.encoding() == Encoding::Bpe;
        Self(Some(()).filter(|()| is_bpe).and_then(|()| {
            let state = checkpoint::state_of(&loaded.dir).ok()??;
            let config = &state.config;
            let meta = Meta::find(&config.data_dir, &config.dataset_name, &state.data_fingerprint)?;
            let is_own = meta.settings.tokenizer.is_none();
            if !is_own || meta.train.n_tokens > MAX_SEARCHED {
                return None;
            }
            seen(&meta.open_train(&config.data_dir).ok()?, loaded.tokenizer.vocab_size()).ok()
        }))
    }

    /// Prints a note for each property of a prompt that gives worse text.
    ///
    /// # Errors
    /// Ids of another tokenizer.
    pub(super) fn say_notes(
        &self,
        (tokenizer, context): (&Tokenizer, usize),
        text: &str,
        ids: &[u32],
    ) -> Result<(), DataError> {
        for note in tokenizer.prompt_notes(text, ids, context) {
            say(&format!("note: {note}"));
        }
        let unseen = self.unseen(tokenizer, text, ids)?;
        let mut examples: Vec<char> = Vec::new();
        for c in &unseen {
            if examples.len() < MAX_QUOTED && !examples.contains(c) {
                examples.push(*c);
            }
        }
        if !examples.is_empty() {
            let quoted: Vec<String> =
                examples.iter().map(|c| format!("\"{}\"", c.escape_debug())).collect();
            let subject = match unseen.len() {
                1 => "1 character of the prompt is".to_owned(),
                n => format!("{n} characters of the prompt are"),
            };
            say(&format!(
                "note: {subject} not in the training text ({}): the model has learned nothing \
                 about that",
                quoted.join(", ")
            ));
        }
        Ok(())
    }

    /// The characters of the prompt that are not in the training text, with repetitions.
    fn unseen(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        ids: &[u32],
    ) -> Result<Vec<char>, DataError> {
        let Self(Some(seen)) = self else { return Ok(Vec::new()) };
        let is_seen = |id: u32| seen.get(id as usize) == Some(&true);
        // Each character, and whether one of its tokens was never seen.
        let (mut doubtful, mut chars) = (Vec::new(), text.char_indices().peekable());
        let mut end = 0;
        for &id in ids {
            end += tokenizer.bytes_of(id)?.len();
            let is_new = id != tokenizer.eot_id() && !is_seen(id);
            while let Some((at, c)) = chars.next_if(|(at, _)| *at < end) {
                doubtful.push((at + c.len_utf8(), c, is_new));
            }
            // A token that continues a character counts for that character, too.
            if let Some((char_end, _, is_new_char)) = doubtful.last_mut()
                && *char_end >= end
            {
                *is_new_char |= is_new;
            }
        }
        let mut unseen: Vec<char> =
            doubtful.into_iter().filter(|(.., is_new)| *is_new).map(|(_, c, _)| c).collect();
        if unseen.is_empty() {
            return Ok(unseen);
        }
        let mut known = BTreeSet::new();
        for id in (0..tokenizer.vocab_size() as u32).filter(|id| is_seen(*id)) {
            known.extend(String::from_utf8_lossy(tokenizer.bytes_of(id)?).chars());
        }
        unseen.retain(|c| !known.contains(c));
        Ok(unseen)
    }
}

/// Whether each id of a vocabulary is in the stream.
fn seen(stream: &TokenDataset, vocab_size: usize) -> Result<Vec<bool>, DataError> {
    let mut seen = vec![false; vocab_size];
    let mut ids = vec![0; CHUNK];
    for start in (0..stream.len()).step_by(CHUNK) {
        let ids = &mut ids[..CHUNK.min(stream.len() - start)];
        stream.read(start, ids)?;
        for id in ids {
            if let Some(seen) = seen.get_mut(*id as usize) {
                *seen = true;
            }
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn characters_that_training_never_had_are_found() {
        let text = "the owl and the fox ";
        let tokenizer = Tokenizer::train(Encoding::Bpe, &[&text.repeat(9)], 300).unwrap();
        let stream = TokenDataset::from_ids(tokenizer.encode(&text.repeat(9)).unwrap());
        let known = Seen(Some(seen(&stream, tokenizer.vocab_size()).unwrap()));
        let unseen = |text: &str| -> String {
            let ids = tokenizer.encode(text).unwrap();
            known.unseen(&tokenizer, text, &ids).unwrap().into_iter().collect()
        };
        assert_eq!(unseen("the fox and <|endoftext|>the owl"), "");
        // Other tokens than in training, but no other characters.
        assert_eq!(unseen("x o n h ella"), "");
        assert_eq!(unseen("the zoo z"), "zz");
        assert_eq!(unseen("é the 日本 fox 日"), "é日本日");
        assert!(Seen(None).unseen(&tokenizer, "z", &[1]).unwrap().is_empty());
    }
}
