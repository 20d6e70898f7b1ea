//! The thread that writes: it alone has the model, and writes all requests side by side.
//!
//! It takes jobs from the queue as slots of the engine become free, lets the engine make one token
//! of every choice at a time, and sends what becomes of them. A choice whose client has left ends
//! with its next token. HTTP is not known here.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use tinygpt_data::Tokenizer;
use tinygpt_model::{
    Engine, Event, Model, ModelConfig, ModelError, SamplingParams, SequenceId, StopReason,
    max_batch_size,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::error::ApiError;
use crate::piece::Piecer;
use crate::queue::{Finish, Job, Prompt, Queue, Update};

/// The most texts that are written side by side.
const MAX_SLOTS: usize = 16;

/// How many texts of a model of this shape are written side by side.
pub(crate) fn slots(config: &ModelConfig) -> usize {
    max_batch_size(config).min(MAX_SLOTS)
}

/// Serves the queue until it is closed and empty, or abandoned.
///
/// # Errors
/// [`ModelError`] if the model cannot go on.
pub(crate) fn write(
    model: &dyn Model,
    tokenizer: &Tokenizer,
    bos: u32,
    queue: &Queue,
) -> Result<(), ModelError> {
    let engine = Engine::new(model, slots(model.config()))?;
    let context = model.config().block_size;
    let (front, texts) = (VecDeque::new(), Texts::new());
    let mut writer = Writer { engine, tokenizer, bos, context, front, texts };
    loop {
        while writer.engine.room() > 0 {
            if let Some(group) = writer.front.pop_front() {
                writer.admit(group);
                continue;
            }
            let job = if writer.engine.is_idle() { queue.wait() } else { queue.take() };
            match job {
                Some(job) => writer.open(&job),
                None if writer.engine.is_idle() => return Ok(()),
                None => break,
            }
        }
        if queue.is_abandoned() {
            return Ok(());
        }
        let texts = &mut writer.texts;
        writer.engine.step(&mut |ticket, event| hear(texts, ticket, event))?;
    }
}

type Texts<'a> = HashMap<SequenceId, Text<'a>>;

struct Writer<'a> {
    engine: Engine<'a>,
    tokenizer: &'a Tokenizer,
    bos: u32,
    /// How many tokens the model sees.
    context: usize,
    /// The prompts of the job whose turn it is.
    front: VecDeque<Group>,
    texts: Texts<'a>,
}

/// Choices that go on from one prompt.
struct Group {
    prompt: Vec<u32>,
    n_chars: usize,
    params: SamplingParams,
    stop: Vec<String>,
    choices: std::ops::Range<usize>,
    updates: UnboundedSender<Update>,
}

/// A choice that is being written.
struct Text<'a> {
    choice: usize,
    piecer: Piecer<'a>,
    n_tokens: usize,
    /// Whether a stop text has come.
    stopped: bool,
    updates: UnboundedSender<Update>,
}

impl Writer<'_> {
    /// Reads a job's prompts; what is wrong with one of them is told and ends the job.
    fn open(&mut self, job: &Job) {
        let mut groups = VecDeque::new();
        for (place, job_prompt) in job.prompts.iter().enumerate() {
            let read = match job_prompt {
                Prompt::Text(text) => {
                    self.tokenizer.encode(text).map(|ids| (ids, text.chars().count()))
                }
                Prompt::Ids(ids) => {
                    self.tokenizer.decode(ids).map(|text| (ids.clone(), text.chars().count()))
                }
            };
            let (mut prompt, n_chars) = match read {
                Ok(read) => read,
                Err(error) => {
                    tell(&job.updates, Update::Failed(ApiError::internal(error.to_string())));
                    return;
                }
            };
            let notes = match job_prompt {
                Prompt::Text(text) => self.notes(text, &prompt),
                Prompt::Ids(_) => Vec::new(),
            };
            tell(&job.updates, Update::Read { n_tokens: prompt.len(), notes });
            if prompt.is_empty() {
                prompt.push(self.bos);
            }
            let (params, stop, updates) =
                (job.params.clone(), job.stop.clone(), job.updates.clone());
            let choices = place * job.n..(place + 1) * job.n;
            groups.push_back(Group { prompt, n_chars, params, stop, choices, updates });
        }
        self.front = groups;
    }

    /// What there is to know of a prompt.
    fn notes(&self, text: &str, ids: &[u32]) -> Vec<String> {
        let notes = self.tokenizer.prompt_notes(text, ids, self.context);
        notes.iter().map(ToString::to_string).collect()
    }

    /// Begins as many choices of a group as there is room for, and puts the others back.
    fn admit(&mut self, mut group: Group) {
        if group.updates.is_closed() {
            return;
        }
        let now = group.choices.len().min(self.engine.room());
        let begun = group.choices.start..group.choices.start + now;
        let samples = begun.start as u64..begun.end as u64;
        let tickets = match self.engine.add(&group.prompt, &group.params, samples) {
            Ok(tickets) => tickets,
            Err(error) => {
                tell(&group.updates, Update::Failed(failure(&error)));
                self.front.clear();
                return;
            }
        };
        for (ticket, choice) in tickets.into_iter().zip(begun) {
            let piecer = Piecer::new(self.tokenizer, &group.stop, group.n_chars);
            let updates = group.updates.clone();
            self.texts
                .insert(ticket, Text { choice, piecer, n_tokens: 0, stopped: false, updates });
        }
        group.choices.start += now;
        if !group.choices.is_empty() {
            self.front.push_front(group);
        }
    }
}

/// Passes on what the engine tells of a choice; breaks off if nobody listens or it has stopped.
fn hear(texts: &mut Texts<'_>, ticket: SequenceId, event: Event) -> ControlFlow<()> {
    let Some(text) = texts.get_mut(&ticket) else { return ControlFlow::Break(()) };
    let choice = text.choice;
    match event {
        Event::Token { id, logprobs } => {
            text.n_tokens += 1;
            match text.piecer.push(id, logprobs) {
                Ok((piece, stopped)) => {
                    text.stopped = stopped;
                    tell(&text.updates, Update::Piece { choice, piece });
                }
                Err(error) => {
                    tell(&text.updates, Update::Failed(ApiError::internal(error.to_string())));
                    return ControlFlow::Break(());
                }
            }
            if text.stopped || text.updates.is_closed() {
                return ControlFlow::Break(());
            }
        }
        Event::End(reason) => {
            if let Some(mut text) = texts.remove(&ticket) {
                let piece = if text.stopped { Default::default() } else { text.piecer.finish() };
                let is_long = reason == StopReason::Length && !text.stopped;
                let finish = if is_long { Finish::Length } else { Finish::Stop };
                let n_tokens = text.n_tokens;
                tell(&text.updates, Update::End { choice, piece, finish, n_tokens });
            }
        }
        Event::Failed(error) => {
            if let Some(text) = texts.remove(&ticket) {
                tell(&text.updates, Update::Failed(failure(&error)));
            }
        }
    }
    ControlFlow::Continue(())
}

/// That the client has left is no fault; it is noticed elsewhere.
fn tell(updates: &UnboundedSender<Update>, update: Update) {
    let _ = updates.send(update);
}

/// What a client is told of an error of the model.
fn failure(error: &ModelError) -> ApiError {
    use axum::http::StatusCode;
    match error {
        ModelError::Config { .. } | ModelError::Request { .. } => {
            ApiError::refused(StatusCode::BAD_REQUEST, error.to_string())
        }
        _ => ApiError::internal(error.to_string()),
    }
}
