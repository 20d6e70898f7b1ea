//! `sample --interactive`: a session with a model at the terminal.
//!
//! A line is a prompt, an empty line lets the model continue, and a line that starts with `/` is a
//! command. Generated text goes to standard output, everything else to standard error, so that both
//! can be piped. Ctrl-C stops generation. `line.rs` handles the keys while a line is typed.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tinygpt_data::Tokenizer;
use tinygpt_model::hf::SpecialTokens;
use tinygpt_model::{Event, Model, SamplingParams, Stop, StopReason, generate_with};
use tinygpt_train::StopFlag;

use super::super::rendering::Rendering;
use super::super::story::write;
use super::output::{note_probabilities, output_format};
use super::prompt::Seen;
use crate::exit::Ended;
use crate::line::{LineReader, Typed};
use crate::options::{Layered, SampleOptions, SampleSettings};
use crate::signals::Signals;
use crate::terminal::{Output, say};

const GREETING: &str = "type a prompt; an empty line continues the text, /retry generates another \
                        continuation, /help lists all commands; Ctrl-C stops a text, Ctrl-D quits";

const HELP: &str = "\
  TEXT            start a text with this prompt (// at its start stands for one /)
  an empty line   continue the text, or start a new one if the document has ended
  /retry          generate another continuation
  /new            start a document without a prompt
  /settings       show all settings
  /NAME VALUE     change a setting; no VALUE resets it
  /quit           quit, as Ctrl-D does";

/// The settings that can be changed between two texts.
fn names() -> impl Iterator<Item = &'static str> {
    let others = ["max_new_tokens", "seed", "stop", "show_probs"];
    SamplingParams::RANGES.map(|range| range.key).into_iter().chain(others)
}

/// Their names for the help, four in a line.
fn settings_in_words() -> String {
    let names: Vec<&str> = names().collect();
    let lines: Vec<String> = names.chunks(4).map(|names| names.join(", ")).collect();
    format!("  NAME is one of  {}", lines.join(",\n                  "))
}

/// What a line of input asks for.
#[derive(Debug, PartialEq)]
enum Command {
    Prompt(String),
    Continue,
    Retry,
    New,
    Settings,
    Set(&'static str, String),
    Help,
    Quit,
}

impl Command {
    /// Parses a line.
    ///
    /// # Errors
    /// A message about an unknown command.
    fn parse(line: &str) -> Result<Self, String> {
        let Some(command) = line.strip_prefix('/').filter(|rest| !rest.starts_with('/')) else {
            let text = line.strip_prefix('/').unwrap_or(line);
            let is_empty = text.is_empty();
            return Ok(if is_empty { Self::Continue } else { Self::Prompt(text.to_owned()) });
        };
        let (word, value) = command.split_once(' ').unwrap_or((command, ""));
        let name = word.replace('-', "_");
        Ok(match name.as_str() {
            "retry" => Self::Retry,
            "new" => Self::New,
            "settings" => Self::Settings,
            "help" => Self::Help,
            "quit" => Self::Quit,
            name => match names().find(|known| *known == name) {
                Some(name) => Self::Set(name, value.to_owned()),
                None => {
                    let word = cut(word);
                    return Err(format!("unknown command /{word}; type /help"));
                }
            },
        })
    }
}

/// The text so far.
#[derive(Debug)]
struct Text {
    /// The tokens before the last part, never empty.
    before: Vec<u32>,
    /// The prompt, printed before the last part.
    prompt: String,
    /// The tokens of the last part.
    written: Vec<u32>,
    /// Its sample number, so that continuations of the same text differ.
    sample_idx: u64,
    /// Whether the end of the document was generated.
    is_over: bool,
}

impl Text {
    fn new(before: Vec<u32>, prompt: String, sample_idx: u64) -> Self {
        Self { before, prompt, written: Vec::new(), sample_idx, is_over: false }
    }
}

/// A model and the current settings.
struct Session<'a> {
    model: &'a dyn Model,
    tokenizer: &'a Tokenizer,
    special: SpecialTokens,
    seen: Seen,
    /// The options of the command line.
    first: Layered<SampleOptions>,
    /// The current options, and their settings.
    layered: Layered<SampleOptions>,
    settings: SampleSettings,
    out: Output,
    stop: StopFlag,
    signals: Signals,
}

/// Runs a session until the input ends. With `start`, first generates from that prompt.
///
/// # Errors
/// An input that cannot be read, a model that fails.
pub(super) fn interact(
    (model, tokenizer, special): (&dyn Model, &Tokenizer, SpecialTokens),
    (layered, settings): (Layered<SampleOptions>, SampleSettings),
    (start, seen): (Option<String>, Seen),
    out: Output,
) -> Result<Ended> {
    let stop = StopFlag::new();
    let signals = Signals::install(&stop).context("cannot listen for signals")?;
    let first = layered.clone();
    let mut session =
        Session { model, tokenizer, special, seen, first, layered, settings, out, stop, signals };
    let mut lines = LineReader::new();
    if lines.is_terminal() {
        say(GREETING);
    }
    let mut text = None;
    let mut command = start.map(Command::Prompt);
    loop {
        if let Some(command) = command.take()
            && let Some(ended) = session.run(command, &mut text)?
        {
            return Ok(ended);
        }
        if session.out.is_closed() {
            return Ok(Ended::Done);
        }
        match lines.read("> ").context("cannot read from standard input")? {
            Typed::End => return Ok(Ended::Done),
            Typed::NotText => say("line skipped: it is not UTF-8"),
            Typed::Line(line) => match Command::parse(&line) {
                Ok(read) => command = Some(read),
                Err(fault) => say(&fault),
            },
        }
    }
}

impl Session<'_> {
    /// Runs a command; returns how the session ends, if it does.
    fn run(&mut self, command: Command, text: &mut Option<Text>) -> Result<Option<Ended>> {
        let document = vec![self.special.bos];
        let next = match (command, text.take()) {
            (Command::Quit, _) => return Ok(Some(Ended::Done)),
            (Command::Prompt(prompt), _) => {
                let ids = self.tokenizer.encode(&prompt)?;
                let model = (self.tokenizer, self.model.config().block_size);
                self.seen.say_notes(model, &prompt, &ids)?;
                Text::new(ids, prompt, 0)
            }
            (Command::New, _) | (Command::Continue | Command::Retry, None) => {
                Text::new(document, String::new(), 0)
            }
            (Command::Continue, Some(last)) if last.is_over => {
                say("the document ended; starting a new one");
                Text::new(document, String::new(), last.sample_idx + 1)
            }
            (Command::Continue, Some(last)) => {
                let before = [last.before, last.written].concat();
                Text::new(before, String::new(), last.sample_idx + 1)
            }
            (Command::Retry, Some(last)) => Text { sample_idx: last.sample_idx + 1, ..last },
            (other, unchanged) => {
                *text = unchanged;
                match other {
                    Command::Help => say(&format!("{HELP}\n{}", settings_in_words())),
                    Command::Settings => self.show_settings(),
                    Command::Set(name, value) => self.set(name, &value),
                    _ => {}
                }
                return Ok(None);
            }
        };
        let next = text.insert(next);
        self.generate(next)?;
        match self.stop.signal() {
            // Ctrl-C only stops the text.
            None | Some(2) => Ok(None),
            Some(signal) => Ok(Some(Ended::Stopped(signal))),
        }
    }

    /// Generates the last part of `text`.
    fn generate(&mut self, text: &mut Text) -> Result<()> {
        self.stop.cell().store(0, Ordering::Relaxed);
        self.signals.ask_first();
        let format = output_format(&self.settings, &self.out);
        let params = self.settings.params(self.tokenizer, self.special.eos);
        let mut rendering = Rendering::new(format, self.tokenizer, &self.settings.stop);
        write(&rendering.start(&text.prompt), format, &mut self.out)?;
        let (mut failure, mut is_over) = (None, false);
        let samples = text.sample_idx..text.sample_idx + 1;
        let (out, stop) = (&mut self.out, &self.stop);
        generate_with(self.model, &text.before, &params, samples, &mut |index, event| {
            let rendered = match event {
                Event::Token { id, logprobs } => rendering.push(id, logprobs),
                Event::End(reason) => {
                    is_over = matches!(reason, StopReason::Eos | StopReason::Banned);
                    rendering.end(index, &text.prompt, reason)
                }
                Event::Failed(_) => Ok(String::new()),
            };
            let written = rendered.map_err(Into::into).and_then(|text| write(&text, format, out));
            failure = failure.take().or(written.err());
            let ends = failure.is_some() || rendering.is_stopped() || out.is_closed();
            if ends || stop.signal().is_some() {
                return ControlFlow::Break(Stop::Sample);
            }
            ControlFlow::Continue(())
        })?;
        (text.written, text.is_over) = (rendering.ids().collect(), is_over);
        self.signals.end_at_once();
        failure.map_or(Ok(()), Err)
    }

    fn show_settings(&self) {
        for name in names() {
            say(&format!("  {name:<20}{}", self.layered.value(name)));
        }
    }

    /// Changes a setting, with the checks of its flag.
    fn set(&mut self, name: &'static str, value: &str) {
        match self.changed(name, value.trim()) {
            Ok((layered, settings)) => {
                say(&format!("{name} is {}", layered.value(name)));
                (self.layered, self.settings) = (layered, settings);
                if name == "show_probs" {
                    note_probabilities(&self.settings);
                }
            }
            Err(error) => say(&format!("{error:#}")),
        }
    }

    fn changed(&self, name: &str, value: &str) -> Result<(Layered<SampleOptions>, SampleSettings)> {
        let wanted = match (name, value) {
            (_, "") => self.first.value(name),
            ("stop", text) => Value::from(vec![text]),
            (_, number) => serde_json::from_str(number).unwrap_or_else(|_| Value::from(number)),
        };
        let changed = self.layered.clone().with(name, wanted);
        let layered = changed.with_context(|| format!("{name} cannot be {}", cut(value)))?;
        let settings = layered.resolve()?;
        Ok((layered, settings))
    }
}

/// The first characters of an input, for a message.
fn cut(typed: &str) -> String {
    typed.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_are_texts_or_commands() {
        for (line, expected) in [
            ("", Command::Continue),
            ("Once upon", Command::Prompt("Once upon".to_owned())),
            (" ", Command::Prompt(" ".to_owned())),
            ("//temperature", Command::Prompt("/temperature".to_owned())),
            ("/retry", Command::Retry),
            ("/top-k 40", Command::Set("top_k", "40".to_owned())),
            ("/stop The end", Command::Set("stop", "The end".to_owned())),
            ("/seed", Command::Set("seed", String::new())),
        ] {
            assert_eq!(Command::parse(line).unwrap(), expected, "{line}");
        }
        assert!(Command::parse("/temprature 1").unwrap_err().contains("/temprature"));
        assert!(Command::parse("/out-dir x").is_err());
    }

    #[test]
    fn every_name_is_an_option() {
        let values = serde_json::to_value(SampleOptions::default()).unwrap();
        assert!(names().all(|name| values.get(name).is_some()));
    }
}
