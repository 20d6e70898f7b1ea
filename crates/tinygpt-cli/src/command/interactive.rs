//! `sample --interactive`: a person and a model take turns at one text.
//!
//! A line begins a text, an empty line lets the model go on, a line that begins with `/` is a
//! command. The model's text goes to standard output, all else to standard error, so that both can
//! be piped. Ctrl-C stops the text that is being written; what a line looks like while it is typed
//! is `line.rs`'s business.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tinygpt_data::Tokenizer;
use tinygpt_model::hf::SpecialTokens;
use tinygpt_model::{Event, Model, SamplingParams, Stop, StopReason, generate_with};
use tinygpt_train::StopFlag;

use super::prompt::Seen;
use super::rendering::Rendering;
use super::sample::{form, note_probabilities};
use super::story::write;
use crate::exit::Ended;
use crate::layer::Layered;
use crate::line::{LineReader, Typed};
use crate::options::{SampleOptions, SampleSettings};
use crate::signals::Signals;
use crate::terminal::{Output, say};

const GREETING: &str = "a line begins a text, an empty line goes on with it, /retry tries again, \
                        /help tells the rest; Ctrl-C stops a text, Ctrl-D ends";

const HELP: &str = "\
  TEXT            begin a text (// at its start stands for one /)
  an empty line   go on with the text, or to another one where the model has ended it
  /retry          write the last part again, differently
  /new            begin a document without a text
  /settings       tell all settings
  /NAME VALUE     change one of them; no VALUE resets it
  /quit           end, as Ctrl-D does";

/// The settings that can be changed between two texts.
fn names() -> impl Iterator<Item = &'static str> {
    let others = ["max_new_tokens", "seed", "stop", "show_probs"];
    SamplingParams::RANGES.map(|range| range.key).into_iter().chain(others)
}

/// Their names, for the help: a few in each line.
fn settings_in_words() -> String {
    let names: Vec<&str> = names().collect();
    let lines: Vec<String> = names.chunks(4).map(|names| names.join(", ")).collect();
    format!("  NAME is one of  {}", lines.join(",\n                  "))
}

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Command {
    Begin(String),
    GoOn,
    Retry,
    New,
    Settings,
    Set(&'static str, String),
    Help,
    Quit,
}

impl Command {
    /// Reads a line; what is wrong with it otherwise.
    fn parse(line: &str) -> Result<Self, String> {
        let Some(command) = line.strip_prefix('/').filter(|rest| !rest.starts_with('/')) else {
            let text = line.strip_prefix('/').unwrap_or(line);
            let is_empty = text.is_empty();
            return Ok(if is_empty { Self::GoOn } else { Self::Begin(text.to_owned()) });
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
                    return Err(format!("/{word} is no command; /help tells them"));
                }
            },
        })
    }
}

/// The text so far.
#[derive(Debug)]
struct Text {
    /// What the last part goes on from, never empty.
    before: Vec<u32>,
    /// What of that is shown before the last part.
    opening: String,
    /// The last part.
    written: Vec<u32>,
    /// Its sample number: parts of the same beginning differ.
    sample_idx: u64,
    /// Whether the model has ended the document.
    is_over: bool,
}

impl Text {
    fn new(before: Vec<u32>, opening: String, sample_idx: u64) -> Self {
        Self { before, opening, written: Vec::new(), sample_idx, is_over: false }
    }
}

/// A model and a person's settings.
struct Session<'a> {
    model: &'a dyn Model,
    tokenizer: &'a Tokenizer,
    special: SpecialTokens,
    seen: Seen,
    /// As the command line says.
    first: Layered<SampleOptions>,
    /// As they are now, and what that means.
    layered: Layered<SampleOptions>,
    settings: SampleSettings,
    out: Output,
    stop: StopFlag,
    signals: Signals,
}

/// Takes turns until the input ends; `start` is written at once if there is one.
///
/// # Errors
/// An input that cannot be read, a model that is broken.
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
    if lines.has_person() {
        say(GREETING);
    }
    let mut text = None;
    let mut command = start.map(Command::Begin);
    loop {
        if let Some(command) = command.take()
            && let Some(ended) = session.obey(command, &mut text)?
        {
            return Ok(ended);
        }
        if session.out.is_closed() {
            return Ok(Ended::Done);
        }
        match lines.read("> ").context("cannot read from standard input")? {
            Typed::End => return Ok(Ended::Done),
            Typed::NotText => say("that line is not UTF-8 text: it is skipped"),
            Typed::Line(line) => match Command::parse(&line) {
                Ok(read) => command = Some(read),
                Err(fault) => say(&fault),
            },
        }
    }
}

impl Session<'_> {
    /// Does what a line asks for; how the session ends, if it does.
    fn obey(&mut self, command: Command, text: &mut Option<Text>) -> Result<Option<Ended>> {
        let document = vec![self.special.bos];
        let next = match (command, text.take()) {
            (Command::Quit, _) => return Ok(Some(Ended::Done)),
            (Command::Begin(opening), _) => {
                let ids = self.tokenizer.encode(&opening)?;
                let model = (self.tokenizer, self.model.config().block_size);
                self.seen.say_notes(model, &opening, &ids)?;
                Text::new(ids, opening, 0)
            }
            (Command::New, _) | (Command::GoOn | Command::Retry, None) => {
                Text::new(document, String::new(), 0)
            }
            (Command::GoOn, Some(last)) if last.is_over => {
                say("the model has ended that text, here is another");
                Text::new(document, String::new(), last.sample_idx + 1)
            }
            (Command::GoOn, Some(last)) => {
                let before = [last.before, last.written].concat();
                Text::new(before, String::new(), last.sample_idx + 1)
            }
            (Command::Retry, Some(last)) => Text { sample_idx: last.sample_idx + 1, ..last },
            (other, unchanged) => {
                *text = unchanged;
                match other {
                    Command::Help => say(&format!("{HELP}\n{}", settings_in_words())),
                    Command::Settings => self.tell_settings(),
                    Command::Set(name, value) => self.set(name, &value),
                    _ => {}
                }
                return Ok(None);
            }
        };
        let next = text.insert(next);
        self.write(next)?;
        match self.stop.signal() {
            // Ctrl-C was for the text.
            None | Some(2) => Ok(None),
            Some(signal) => Ok(Some(Ended::Stopped(signal))),
        }
    }

    /// Lets the model write the last part of `text`.
    fn write(&mut self, text: &mut Text) -> Result<()> {
        self.stop.cell().store(0, Ordering::Relaxed);
        self.signals.ask_first();
        let form = form(&self.settings, &self.out);
        let params = self.settings.params(self.tokenizer, self.special.eos);
        let mut rendering = Rendering::new(form, self.tokenizer, &self.settings.stop);
        write(&rendering.open(&text.opening), form, &mut self.out)?;
        let (mut failure, mut is_over) = (None, false);
        let samples = text.sample_idx..text.sample_idx + 1;
        let (out, stop) = (&mut self.out, &self.stop);
        generate_with(self.model, &text.before, &params, samples, &mut |index, event| {
            let rendered = match event {
                Event::Token { id, logprobs } => rendering.push(id, logprobs),
                Event::End(reason) => {
                    is_over = matches!(reason, StopReason::Eos | StopReason::Banned);
                    rendering.end(index, &text.opening, reason)
                }
                Event::Failed(_) => Ok(String::new()),
            };
            let written = rendered.map_err(Into::into).and_then(|text| write(&text, form, out));
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

    fn tell_settings(&self) {
        for name in names() {
            say(&format!("  {name:<20}{}", self.layered.value(name)));
        }
    }

    /// Changes a setting, held to what the flag of its name may be.
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

/// The beginning of what a person typed, for a message.
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
            ("", Command::GoOn),
            ("Once upon", Command::Begin("Once upon".to_owned())),
            (" ", Command::Begin(" ".to_owned())),
            ("//temperature", Command::Begin("/temperature".to_owned())),
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
