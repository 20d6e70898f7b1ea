//! `sample --chat`: a conversation with a model at the terminal.
//!
//! A line is a message, and a line that starts with `/` is a command. Answers go to standard output,
//! everything else to standard error, so that both can be piped. Ctrl-C stops an answer. `line.rs` handles
//! the keys while a line is typed; the chat template of the model makes tokens of the messages.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use tinygpt_data::chat::{ChatTemplate, Message};
use tinygpt_data::{DataError, Tokenizer};
use tinygpt_model::{Engine, Event, Model, SamplingParams};
use tinygpt_train::StopFlag;

use super::super::rendering::Rendering;
use super::super::story::write;
use super::load::LoadedModel;
use super::output::output_format;
use crate::exit::Ended;
use crate::line::{LineReader, Typed};
use crate::options::SampleSettings;
use crate::signals::Signals;
use crate::terminal::{Output, say};
use crate::usage::UsageError;

const GREETING: &str =
    "type a message; /help lists all commands; Ctrl-C stops an answer, Ctrl-D quits";

const HELP: &str = "\
  TEXT            send this message (// at its start stands for one /)
  /system TEXT    set the system message; no TEXT removes it
  /retry          generate another answer
  /undo           remove the last message and its answer
  /clear          start a new conversation with the same system message
  /quit           quit, as Ctrl-D does";

/// What a line of input asks for.
#[derive(Debug, PartialEq)]
enum Command {
    Say(String),
    System(String),
    Retry,
    Undo,
    Clear,
    Help,
    Quit,
    Nothing,
}

impl Command {
    /// Parses a line.
    ///
    /// # Errors
    /// A message about an unknown command.
    fn parse(line: &str) -> Result<Self, String> {
        let Some(command) = line.strip_prefix('/').filter(|rest| !rest.starts_with('/')) else {
            let text = line.strip_prefix('/').unwrap_or(line);
            let is_empty = text.trim().is_empty();
            return Ok(if is_empty { Self::Nothing } else { Self::Say(text.to_owned()) });
        };
        let (word, value) = command.split_once(' ').unwrap_or((command, ""));
        Ok(match word {
            "system" => Self::System(value.trim().to_owned()),
            "retry" => Self::Retry,
            "undo" => Self::Undo,
            "clear" => Self::Clear,
            "help" => Self::Help,
            "quit" => Self::Quit,
            _ => {
                let word: String = word.chars().take(80).collect();
                return Err(format!("unknown command /{word}; type /help"));
            }
        })
    }
}

/// A message and its answers.
#[derive(Debug)]
struct Exchange {
    message: String,
    answer: String,
    /// The sample number of the answer, so that another one differs.
    sample_idx: u64,
}

/// A model, its template and the conversation.
struct Chat<'a> {
    engine: Engine<'a>,
    context: usize,
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    settings: &'a SampleSettings,
    params: SamplingParams,
    /// The token that ends a document, which ends an answer, too.
    end_of_document: Option<u32>,
    system: Option<String>,
    exchanges: Vec<Exchange>,
    out: Output,
    stop: StopFlag,
    signals: Signals,
}

/// Chats until the input ends.
///
/// # Errors
/// A model without a chat template, or with one that does not fit; an input that cannot be read, a model
/// that fails.
pub(super) fn chat(
    loaded: &LoadedModel<Box<dyn Model>>,
    settings: &SampleSettings,
    out: Output,
) -> Result<Ended> {
    let LoadedModel { tokenizer, model, special, .. } = loaded;
    let template = template_of(tokenizer)?;
    let end_of_turn = template.end_of_turn(tokenizer)?;
    let params = settings.params(tokenizer, Some(end_of_turn));
    let stop = StopFlag::new();
    let signals = Signals::install(&stop).context("cannot listen for signals")?;
    let mut chat = Chat {
        engine: Engine::new(&**model, 1)?,
        context: model.config().block_size,
        tokenizer,
        template,
        settings,
        params,
        end_of_document: special.eos,
        system: settings.system.clone(),
        exchanges: Vec::new(),
        out,
        stop,
        signals,
    };
    let mut lines = LineReader::new();
    if lines.is_terminal() {
        say(GREETING);
    }
    loop {
        match lines.read("> ").context("cannot read from standard input")? {
            Typed::End => return Ok(Ended::Done),
            Typed::NotText => say("line skipped: it is not UTF-8"),
            Typed::Line(line) => match Command::parse(&line) {
                Ok(command) => {
                    if let Some(ended) = chat.run(command)? {
                        return Ok(ended);
                    }
                }
                Err(fault) => say(&fault),
            },
        }
        if chat.out.is_closed() {
            return Ok(Ended::Done);
        }
    }
}

/// The chat template of a model.
///
/// # Errors
/// A model without one.
pub(super) fn template_of(tokenizer: &Tokenizer) -> Result<&ChatTemplate> {
    let missing = || {
        UsageError::new("this model has no chat template: it was not trained on conversations")
            .hint("train one with --config-file config/chat.json, or use --interactive")
    };
    Ok(tokenizer.chat_template().ok_or_else(missing)?)
}

impl Chat<'_> {
    /// Runs a command; returns how the chat ends, if it does.
    fn run(&mut self, command: Command) -> Result<Option<Ended>> {
        match command {
            Command::Nothing => {}
            Command::Quit => return Ok(Some(Ended::Done)),
            Command::Help => say(HELP),
            Command::System(text) => {
                self.system = Some(text).filter(|text| !text.is_empty());
                let state = if self.system.is_some() { "is set" } else { "is removed" };
                say(&format!("the system message {state}"));
            }
            Command::Clear => {
                self.exchanges.clear();
                say("new conversation");
            }
            Command::Undo => match self.exchanges.pop() {
                Some(Exchange { message, .. }) => say(&format!("removed: {message}")),
                None => say("there is no message to remove"),
            },
            Command::Retry => match self.exchanges.pop() {
                Some(last) => return self.answer(last.message, last.sample_idx + 1),
                None => say("there is no answer to try again"),
            },
            Command::Say(message) => return self.answer(message, 0),
        }
        Ok(None)
    }

    /// The messages of the conversation, with this one last.
    fn messages(&self, message: &str) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", text));
        let turn = |it: &Exchange| {
            [Message::new("user", &it.message), Message::new("assistant", &it.answer)]
        };
        let last = [Message::new("user", message)];
        system.chain(self.exchanges.iter().flat_map(turn)).chain(last).collect()
    }

    /// The tokens of the prompt. The oldest exchanges are dropped until there is room for an answer.
    fn prompt(&mut self, message: &str) -> Result<Vec<u32>, DataError> {
        let room = self.settings.sampling.max_new_tokens.min(self.context / 4).max(1);
        let most = self.context.saturating_sub(room);
        let messages = self.messages(message);
        let (ids, n_dropped) = self.template.prompt_ids_within(self.tokenizer, &messages, most)?;
        if n_dropped > 0 {
            self.exchanges.drain(..n_dropped / 2);
            say(&format!(
                "note: the oldest {n_dropped} messages were dropped: the model sees {} tokens",
                self.context
            ));
        }
        Ok(ids)
    }

    /// Generates the answer to a message.
    fn answer(&mut self, message: String, sample_idx: u64) -> Result<Option<Ended>> {
        let prompt = match self.prompt(&message) {
            Ok(prompt) => prompt,
            // For example a message that is too long, or a template that takes no system message.
            Err(error) => {
                let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                say(&format!("{error}{hint}"));
                return Ok(None);
            }
        };
        let answer = self.generate(&prompt, sample_idx)?;
        self.exchanges.push(Exchange { message, answer, sample_idx });
        match self.stop.signal() {
            // Ctrl-C only stops the answer.
            None | Some(2) => Ok(None),
            Some(signal) => Ok(Some(Ended::Stopped(signal))),
        }
    }

    /// Prints the answer while it is generated, and returns its text.
    fn generate(&mut self, prompt: &[u32], sample_idx: u64) -> Result<String> {
        self.stop.cell().store(0, Ordering::Relaxed);
        self.signals.ask_first();
        let format = output_format(self.settings, &self.out);
        let mut rendering = Rendering::new(format, self.tokenizer, &self.settings.stop);
        let (mut failure, mut broken) = (None, None);
        let params = SamplingParams {
            // A context shift would drop the system message.
            max_new_tokens: self.params.max_new_tokens.min(self.context - prompt.len()),
            ..self.params.clone()
        };
        self.engine.add_turn(prompt, &params, sample_idx..sample_idx + 1)?;
        let (out, stop, end_of_document) = (&mut self.out, &self.stop, self.end_of_document);
        while !self.engine.is_idle() {
            self.engine.step(&mut |_, event| {
                let rendered = match event {
                    Event::Token { id, .. } if Some(id) == end_of_document => {
                        return ControlFlow::Break(());
                    }
                    Event::Token { id, logprobs } => rendering.push(id, logprobs),
                    Event::End(reason) => rendering.end(sample_idx, "", reason),
                    Event::Failed(error) => {
                        broken = Some(error);
                        Ok(String::new())
                    }
                };
                let written =
                    rendered.map_err(Into::into).and_then(|text| write(&text, format, out));
                failure = failure.take().or(written.err());
                let ends = failure.is_some() || rendering.is_stopped() || out.is_closed();
                if ends || stop.signal().is_some() {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
        }
        self.signals.end_at_once();
        if let Some(error) = broken {
            return Err(error.into());
        }
        let answer: Vec<u32> = rendering.ids().collect();
        failure.map_or(Ok(self.tokenizer.decode(&answer)?), Err)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        for (line, expected) in [
            ("", Command::Nothing),
            ("Hello!", Command::Say("Hello!".to_owned())),
            ("//retry", Command::Say("/retry".to_owned())),
            ("/retry", Command::Retry),
            ("/system Be brief.", Command::System("Be brief.".to_owned())),
            ("/system", Command::System(String::new())),
            ("/undo", Command::Undo),
            ("/clear", Command::Clear),
            ("/help", Command::Help),
            ("/quit", Command::Quit),
        ] {
            assert_eq!(Command::parse(line).unwrap(), expected, "{line}");
        }
        assert!(Command::parse("/temperature 1").unwrap_err().contains("/temperature"));
    }
}
