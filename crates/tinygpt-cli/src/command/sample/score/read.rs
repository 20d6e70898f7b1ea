//! Reads what `--score` scores: documents of plain text or of JSON lines, or pairs of sentences.

use std::fs::File;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tinygpt_data::{END_OF_TEXT, FileError, read_limited};

use crate::options::ScoreSource;
use crate::usage::UsageError;

/// The largest input, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// What was read.
#[derive(Debug, PartialEq)]
pub(in super::super) enum Input {
    /// Texts, none of them empty.
    Documents(Vec<String>),
    /// Sentences of which a good model prefers the first.
    Pairs(Vec<Pair>),
}

/// A pair of sentences, as in BLiMP.
#[derive(Debug, Deserialize, PartialEq)]
pub(in super::super) struct Pair {
    pub(super) sentence_good: String,
    pub(super) sentence_bad: String,
}

/// A document in JSON lines.
#[derive(Debug, Deserialize)]
struct Document {
    text: String,
}

/// Reads the input and finds out what it is: JSON lines if its first line is an object with the field
/// `text`, or `sentence_good` and `sentence_bad`, else plain text with `<|endoftext|>` between
/// documents.
///
/// # Errors
/// A file that cannot be read, is not UTF-8, or has no text; a line that is not like the first.
pub(in super::super) fn read(source: &ScoreSource) -> Result<Input> {
    let bytes = match source {
        ScoreSource::File(path) => {
            File::open(path).map_err(FileError::Io).and_then(|it| read_limited(it, MAX_BYTES))
        }
        ScoreSource::Stdin => read_limited(std::io::stdin().lock(), MAX_BYTES),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(FileError::Io(error)) => {
            return Err(error).with_context(|| format!("cannot read {source}"));
        }
        Err(FileError::Refused(what)) => {
            return Err(UsageError::new(format!("{source} {what}"))
                .hint("score a part of the text")
                .into());
        }
    };
    let text = String::from_utf8(bytes)
        .map_err(|error| UsageError::not_utf8(source, &error.utf8_error()))?;
    parse(&text, source)
}

fn parse(text: &str, source: &ScoreSource) -> Result<Input> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let input = if serde_json::from_str::<Pair>(first).is_ok() {
        Input::Pairs(lines(text, source, "`sentence_good` and `sentence_bad`")?)
    } else if serde_json::from_str::<Document>(first).is_ok() {
        let documents: Vec<Document> = lines(text, source, "`text`")?;
        Input::Documents(documents.into_iter().map(|document| document.text).collect())
    } else {
        let trim = |document: &str| document.trim_matches(['\n', '\r']).to_owned();
        Input::Documents(text.split(END_OF_TEXT).map(trim).collect())
    };
    let input = match input {
        Input::Documents(mut documents) => {
            documents.retain(|document| !document.is_empty());
            Input::Documents(documents)
        }
        pairs @ Input::Pairs(_) => pairs,
    };
    if input == Input::Documents(Vec::new()) {
        return Err(UsageError::new(format!("{source} has no text"))
            .hint(
                "give a text, JSON lines with `text`, or JSON lines with `sentence_good` and \
                 `sentence_bad`",
            )
            .into());
    }
    Ok(input)
}

/// The objects of all lines that are not blank.
fn lines<'t, T: Deserialize<'t>>(
    text: &'t str,
    source: &ScoreSource,
    fields: &str,
) -> Result<Vec<T>> {
    let all = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    all.map(|(index, line)| {
        serde_json::from_str(line).map_err(|error| {
            let message = format!(
                "{source} line {}: {error}; expected an object with {fields}, as in the first line",
                index + 1
            );
            UsageError::new(message).hint("correct or remove that line").into()
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn documents(text: &str) -> Vec<String> {
        match parse(text, &ScoreSource::Stdin).unwrap() {
            Input::Documents(documents) => documents,
            Input::Pairs(pairs) => panic!("{pairs:?}"),
        }
    }

    #[test]
    fn an_input_is_text_documents_or_pairs() {
        assert_eq!(documents("a\nb\n"), ["a\nb"]);
        assert_eq!(documents("a\n<|endoftext|>\n\nb<|endoftext|>"), ["a", "b"]);
        assert_eq!(documents("{\"text\": \"a\\n\", \"id\": 3}\n\n{\"text\": \"\"}\n"), ["a\n"]);
        // JSON of another kind is text.
        assert_eq!(documents("{\"b\": 3}"), ["{\"b\": 3}"]);
        let pair = "{\"sentence_good\": \"a\", \"sentence_bad\": \"b\", \"UID\": \"x\"}\n";
        let pairs = parse(pair, &ScoreSource::Stdin).unwrap();
        let (sentence_good, sentence_bad) = ("a".to_owned(), "b".to_owned());
        assert_eq!(pairs, Input::Pairs(vec![Pair { sentence_good, sentence_bad }]));
        for (text, message) in [
            ("", "standard input has no text"),
            ("\n<|endoftext|>\n", "has no text"),
            ("{\"text\": \"a\"}\nb", "line 2"),
            ("{\"text\": \"a\"}\n\n{\"txt\": \"a\"}", "line 3"),
        ] {
            let error = parse(text, &ScoreSource::Stdin).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
