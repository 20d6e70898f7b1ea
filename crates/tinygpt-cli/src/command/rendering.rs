//! Turns one sample into output: text, a table of tokens with their probabilities, or a JSON object.
//!
//! `story.rs` decides when and where it is written.

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::{Value, json};
use tinygpt_data::{DataError, END_OF_TEXT, StopStream, StreamedText, Tokenizer};
use tinygpt_model::{Logprobs, StopReason};

/// How samples are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputFormat {
    /// The prompt and the generated text.
    Text,
    /// A line for each token, coloured or not.
    Table {
        /// Whether to colour probabilities.
        colour: bool,
        /// How many of the most likely other tokens to show.
        n_others: usize,
    },
    /// An object with everything known about a sample.
    Json {
        /// The seed to record.
        seed: u64,
    },
}

/// A generated token and its probability.
#[derive(Debug)]
struct ScoredToken {
    id: u32,
    logprobs: Option<Logprobs>,
}

/// A sample that is being printed.
#[derive(Debug)]
pub(super) struct Rendering<'a> {
    format: OutputFormat,
    tokenizer: &'a Tokenizer,
    stream: StopStream<'a>,
    /// Tokens whose text may still change: part of a character, or of a stop text.
    waiting: VecDeque<ScoredToken>,
    /// The tokens before them.
    printed: Vec<ScoredToken>,
    text: String,
    is_stopped: bool,
    since: Instant,
    n_made: usize,
}

impl<'a> Rendering<'a> {
    /// A sample that ends before any of `stops`.
    pub(super) fn new(format: OutputFormat, tokenizer: &'a Tokenizer, stops: &[String]) -> Self {
        Self {
            format,
            tokenizer,
            stream: StopStream::new(tokenizer, stops),
            waiting: VecDeque::new(),
            printed: Vec::new(),
            text: String::new(),
            is_stopped: false,
            since: Instant::now(),
            n_made: 0,
        }
    }

    /// The output before the first token.
    pub(super) fn start(&self, prompt: &str) -> String {
        match self.format {
            OutputFormat::Text => prompt.to_owned(),
            OutputFormat::Table { .. } if prompt.is_empty() => String::new(),
            OutputFormat::Table { .. } => format!("{prompt:?}\n"),
            OutputFormat::Json { .. } => String::new(),
        }
    }

    /// Whether a stop text was generated, which ends the sample.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// The tokens that were printed.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.printed.iter().map(|token| token.id)
    }

    /// Adds a token and returns its output.
    pub(super) fn push(
        &mut self,
        id: u32,
        logprobs: Option<Logprobs>,
    ) -> Result<String, DataError> {
        self.n_made += 1;
        self.waiting.push_back(ScoredToken { id, logprobs });
        let piece = self.stream.push(id)?;
        self.is_stopped = piece.is_stopped;
        self.print(piece)
    }

    /// Ends sample number `index` and returns the output for the end.
    pub(super) fn end(
        &mut self,
        index: u64,
        prompt: &str,
        reason: StopReason,
    ) -> Result<String, DataError> {
        let rest = if self.is_stopped { StreamedText::default() } else { self.stream.finish() };
        let mut text = self.print(rest)?;
        match self.format {
            OutputFormat::Text => text.push('\n'),
            OutputFormat::Table { .. } => {}
            OutputFormat::Json { seed } => {
                let object = self.object(index, prompt, seed, reason)?;
                text = escape_rest(&object.to_string());
                text.push('\n');
            }
        }
        Ok(text)
    }

    fn print(&mut self, piece: StreamedText) -> Result<String, DataError> {
        let first = self.printed.len();
        self.printed.extend(self.waiting.drain(..piece.n_tokens));
        match self.format {
            OutputFormat::Text => Ok(piece.text),
            OutputFormat::Table { colour, n_others } => self.printed[first..]
                .iter()
                .map(|token| line(self.tokenizer, token, (colour, n_others)))
                .collect(),
            OutputFormat::Json { .. } => {
                self.text.push_str(&piece.text);
                Ok(String::new())
            }
        }
    }

    fn object(
        &self,
        index: u64,
        prompt: &str,
        seed: u64,
        reason: StopReason,
    ) -> Result<Value, DataError> {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-9);
        let mut object = json!({
            "index": index,
            "seed": seed,
            "prompt": prompt,
            "text": self.text,
            "finish_reason": if reason == StopReason::Length { "length" } else { "stop" },
            "n_tokens": self.printed.len(),
            "tokens": self.ids().collect::<Vec<_>>(),
            "tokens_per_second": (self.n_made as f64 / seconds * 10.0).round() / 10.0,
        });
        let named = |id: u32, logprob: f32| -> Result<Value, DataError> {
            Ok(json!({ "token": name(self.tokenizer, id)?, "id": id, "logprob": logprob }))
        };
        let mut all = Vec::new();
        for (token, logprobs) in self.printed.iter().filter_map(|t| Some((t, t.logprobs.as_ref()?)))
        {
            let mut entry = named(token.id, logprobs.chosen)?;
            let top: Result<Vec<_>, _> =
                logprobs.top.iter().map(|(id, p)| named(*id, *p)).collect();
            entry["top"] = Value::from(top?);
            all.push(entry);
        }
        if !all.is_empty() {
            object["logprobs"] = Value::from(all);
        }
        Ok(object)
    }
}

/// The text of a token; incomplete characters become U+FFFD.
fn name(tokenizer: &Tokenizer, id: u32) -> Result<String, DataError> {
    if id == tokenizer.eot_id() {
        return Ok(END_OF_TEXT.to_owned());
    }
    Ok(String::from_utf8_lossy(tokenizer.bytes_of(id)?).into_owned())
}

/// A line of the table: the token with its probability, then the most likely other tokens.
fn line(
    tokenizer: &Tokenizer,
    token: &ScoredToken,
    (colour, n_others): (bool, usize),
) -> Result<String, DataError> {
    let Some(logprobs) = &token.logprobs else { return Ok(String::new()) };
    let quoted = |id: u32| name(tokenizer, id).map(|name| format!("{name:?}"));
    let share = logprobs.chosen.exp();
    let (on, off) = match share {
        _ if !colour => ("", ""),
        0.5.. => ("\u{1b}[32m", "\u{1b}[0m"),
        0.1.. => ("\u{1b}[33m", "\u{1b}[0m"),
        _ => ("\u{1b}[31m", "\u{1b}[0m"),
    };
    let mut line = format!("{on}{:>5.1} %{off}  {:<16}", 100.0 * share, quoted(token.id)?);
    for (id, logprob) in logprobs.top.iter().filter(|(id, _)| *id != token.id).take(n_others) {
        line.push_str(&format!("  {:.1} % {}", 100.0 * logprob.exp(), quoted(*id)?));
    }
    Ok(line.trim_end().to_owned() + "\n")
}

/// Escapes control characters above ASCII: JSON may contain them, but a terminal obeys them.
fn escape_rest(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tinygpt_data::Encoding;

    fn logprobs(shares: &[(u32, f32)]) -> Option<Logprobs> {
        let top: Vec<(u32, f32)> = shares.iter().map(|(id, share)| (*id, share.ln())).collect();
        Some(Logprobs { chosen: top[0].1, top })
    }

    /// The output for "ab\u{9b}\n" with stop text "c", and for the end.
    fn printed(format: OutputFormat) -> (Vec<String>, String) {
        let tokenizer = Tokenizer::train(Encoding::Simple, &["abc\u{9b}\n"], 0).unwrap();
        let ids = tokenizer.encode("ab\u{9b}\nc").unwrap();
        let mut rendering = Rendering::new(format, &tokenizer, &["c".to_owned()]);
        let mut texts = vec![rendering.start("Oh \"")];
        for id in &ids {
            let scores = logprobs(&[(*id, 0.25), (ids[0], 0.04)]);
            texts.push(rendering.push(*id, scores).unwrap());
        }
        assert!(rendering.is_stopped());
        assert_eq!(rendering.ids().collect::<Vec<_>>(), ids[..4]);
        (texts, rendering.end(3, "Oh \"", StopReason::Caller).unwrap())
    }

    #[test]
    fn text_is_printed_as_it_is_generated() {
        let (texts, end) = printed(OutputFormat::Text);
        assert_eq!(texts, ["Oh \"", "a", "b", "\u{9b}", "\n", ""]);
        assert_eq!(end, "\n");
    }

    #[test]
    fn a_table_has_a_line_for_each_token_and_cannot_move_the_cursor() {
        let (texts, end) = printed(OutputFormat::Table { colour: false, n_others: 1 });
        let expected = [
            "\"Oh \\\"\"\n",
            " 25.0 %  \"a\"\n",
            " 25.0 %  \"b\"               4.0 % \"a\"\n",
            " 25.0 %  \"\\u{9b}\"          4.0 % \"a\"\n",
            " 25.0 %  \"\\n\"              4.0 % \"a\"\n",
            "",
        ];
        assert_eq!(texts, expected);
        assert_eq!(end, "");
        let (texts, _) = printed(OutputFormat::Table { colour: true, n_others: 1 });
        assert!(texts[1].starts_with("\u{1b}[33m 25.0 %\u{1b}[0m"), "{texts:?}");
    }

    #[test]
    fn an_object_is_one_line_of_plain_json() {
        let (texts, end) = printed(OutputFormat::Json { seed: 7 });
        assert!(texts.iter().all(String::is_empty), "{texts:?}");
        assert!(end.ends_with("}\n") && end.chars().filter(|c| c.is_control()).count() == 1);
        let object: Value = serde_json::from_str(&end).unwrap();
        assert_eq!(object["text"], "ab\u{9b}\n");
        assert_eq!((&object["index"], &object["seed"]), (&json!(3), &json!(7)));
        assert_eq!((&object["finish_reason"], &object["n_tokens"]), (&json!("stop"), &json!(4)));
        assert_eq!(object["prompt"], "Oh \"");
        assert!(object["tokens_per_second"].as_f64().unwrap() > 0.0);
        let second = &object["logprobs"][1];
        assert_eq!((&second["token"], &second["top"][1]["token"]), (&json!("b"), &json!("a")));
        assert!((second["logprob"].as_f64().unwrap().exp() - 0.25).abs() < 1e-6);
    }
}
