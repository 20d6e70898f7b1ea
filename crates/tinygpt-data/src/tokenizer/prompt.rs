//! Prompts: reads a prompt file as training text is read, and finds problems of a prompt
//! before a model continues it.

use std::fmt;

use super::{END_OF_TEXT, Tokenizer};
use crate::encoding::Encoding;

/// The most characters quoted in a note.
const MAX_QUOTED: usize = 5;

/// A property of a prompt that makes the generated text worse.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PromptNote {
    /// It is longer than the context.
    Cut {
        /// Tokens of the prompt.
        n_tokens: usize,
        /// The context length in tokens.
        context: usize,
    },
    /// It has characters that the vocabulary does not have.
    Unknown {
        /// How many, each counted as often as it is there.
        n_chars: usize,
        /// The first few, each once.
        examples: Vec<char>,
    },
    /// It ends in a space, which is usually the start of the next token.
    EndsInSpace,
}

impl fmt::Display for PromptNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { n_tokens, context } => {
                write!(f, "the prompt has {n_tokens} tokens, the model sees the last {context}")
            }
            Self::Unknown { n_chars, examples } => {
                let quoted: Vec<String> =
                    examples.iter().map(|c| format!("\"{}\"", c.escape_debug())).collect();
                let (subject, object) = match n_chars {
                    1 => ("1 character of the prompt is".to_owned(), "it"),
                    n => (format!("{n} characters of the prompt are"), "them"),
                };
                write!(
                    f,
                    "{subject} not in the model's vocabulary ({}): it was not trained on {object}",
                    quoted.join(", ")
                )
            }
            Self::EndsInSpace => f.write_str(
                "the prompt ends in a space, but most tokens start with one: leave it off",
            ),
        }
    }
}

impl Tokenizer {
    /// Notes on the prompt `text`, whose tokens are `ids`, for a model with a context of `context` tokens.
    pub fn prompt_notes(&self, text: &str, ids: &[u32], context: usize) -> Vec<PromptNote> {
        let mut notes = Vec::new();
        if ids.len() > context {
            notes.push(PromptNote::Cut { n_tokens: ids.len(), context });
        }
        if let Some(table) = &self.char_table {
            let parts = text.split(END_OF_TEXT).flat_map(str::chars);
            let unknown: Vec<char> = parts.filter(|c| !table.has(*c)).collect();
            let mut examples = Vec::new();
            for c in &unknown {
                if examples.len() < MAX_QUOTED && !examples.contains(c) {
                    examples.push(*c);
                }
            }
            if !examples.is_empty() {
                notes.push(PromptNote::Unknown { n_chars: unknown.len(), examples });
            }
        }
        // Between characters a space is a token like any other.
        if self.encoding == Encoding::Bpe && text.ends_with(' ') {
            notes.push(PromptNote::EndsInSpace);
        }
        notes
    }

    /// The text of a prompt file as [`crate::prepare`] would read it: without a byte order mark, and
    /// without the line break that editors put at the end. CRLF becomes LF, unless the vocabulary shows
    /// that the model was trained on CRLF.
    pub fn prompt_of_file(&self, text: &str) -> String {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text =
            text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if self.knows_carriage_return() { text.to_owned() } else { text.replace("\r\n", "\n") }
    }

    /// Whether a carriage return is more than one of the 256 bytes here.
    fn knows_carriage_return(&self) -> bool {
        match &self.char_table {
            Some(table) => table.has('\r'),
            None => self.token_bytes.iter().any(|token| token.len() > 1 && token.contains(&b'\r')),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn tokenizer(encoding: Encoding, text: &str) -> Tokenizer {
        Tokenizer::train(encoding, &[text], 300).unwrap()
    }

    fn notes(tokenizer: &Tokenizer, text: &str, context: usize) -> Vec<String> {
        let ids = tokenizer.encode(text).unwrap();
        tokenizer.prompt_notes(text, &ids, context).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_fault_of_a_prompt_has_a_note_of_its_own() {
        let chars = tokenizer(Encoding::Simple, "the owl and the fox");
        assert_eq!(notes(&chars, "the owl ", 99), [""; 0]);
        assert_eq!(notes(&chars, "<|endoftext|>the owl", 99), [""; 0]);
        let unknown = &notes(&chars, "the Größe\u{7}", 99)[0];
        assert!(unknown.starts_with("5 characters of the prompt are not"), "{unknown}");
        assert!(unknown.contains("(\"G\", \"r\", \"ö\", \"ß\", \"\\u{7}\")"), "{unknown}");
        assert!(notes(&chars, "é", 99)[0].starts_with("1 character of the prompt is"));
        let pairs = tokenizer(Encoding::Bpe, &"the owl and the fox ".repeat(9));
        let both = notes(&pairs, "the owl ", 1);
        assert!(both[0].ends_with("the model sees the last 1") && both[1].contains("in a space"));
        assert_eq!(notes(&pairs, "the owl\n", 99), [""; 0]);
        // Whatever the prompt, a note stays short.
        let wild: String = ('\u{300}'..'\u{2000}').collect();
        assert!(notes(&chars, &wild, 9).iter().all(|note| note.len() < 300));
    }

    #[test]
    fn a_prompt_file_is_read_as_a_training_text_is() {
        let unix = [Encoding::Simple, Encoding::Bpe].map(|it| tokenizer(it, "one\ntwo\n"));
        let windows = [Encoding::Simple, Encoding::Bpe]
            .map(|it| tokenizer(it, &"one\r\n\r\ntwo\r\n\r\n".repeat(9)));
        for (file, on_unix, on_windows) in [
            ("one", "one", "one"),
            ("\u{feff}one\r\ntwo\r\n", "one\ntwo", "one\r\ntwo"),
            ("one\n\n", "one\n", "one\n"),
            ("one\rtwo \n", "one\rtwo ", "one\rtwo "),
            ("\n", "", ""),
        ] {
            for (tokenizers, expected) in [(&unix, on_unix), (&windows, on_windows)] {
                for tokenizer in tokenizers {
                    assert_eq!(tokenizer.prompt_of_file(file), expected, "{file:?}");
                }
            }
        }
    }
}
