//! The worker thread: it owns the model and generates for all requests as one batch.
//!
//! It takes jobs from the queue as slots of the engine become free, lets the engine generate one token
//! for every choice at a time, and sends the results. A choice whose client has disconnected ends with
//! its next token. Nothing here knows HTTP.

mod events;

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;

use axum::http::StatusCode;
use tinygpt_data::chat::Message;
use tinygpt_data::{DataError, Tokenizer};
use tinygpt_model::{
    Engine, Logprobs, Model, ModelConfig, ModelError, SamplingParams, ScoreParams, SequenceId,
    max_batch_size, score,
};
use tokio::sync::mpsc::UnboundedSender;

use self::events::{on_event, send};
use crate::delta::{Delta, DeltaBuilder, prompt_delta};
use crate::error::ApiError;
use crate::queue::{Job, Prompt, Queue, Update};

/// The largest batch.
const MAX_SLOTS: usize = 16;

/// The largest batch for a model of this shape.
pub(crate) fn slots(config: &ModelConfig) -> usize {
    max_batch_size(config).min(MAX_SLOTS)
}

/// Serves the queue until it is closed and empty, or abandoned.
///
/// # Errors
/// [`ModelError`] if the model fails.
pub(crate) fn run(
    model: &dyn Model,
    tokenizer: &Tokenizer,
    bos: u32,
    queue: &Queue,
) -> Result<(), ModelError> {
    let mut next = |is_idle| if is_idle { queue.wait() } else { queue.take() };
    generate(model, tokenizer, bos, queue, &mut next)
}

/// A model that was read from a checkpoint, with its tokenizer.
#[derive(Debug)]
pub struct NewestModel {
    /// The model.
    pub model: Box<dyn Model>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

/// Reads the newest checkpoint of a run that trains.
pub trait ModelSource: Debug + Send {
    /// The newest model; `None` if it is the one that was returned last.
    ///
    /// # Errors
    /// Why no model can be read, in a sentence for the client.
    fn newer(&mut self) -> Result<Option<NewestModel>, String>;
}

/// Serves the queue with the newest model of a run. All texts of a batch come from the same model, and
/// between two batches no memory is held for decoding.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_newest(
    source: &mut dyn ModelSource,
    bos: u32,
    queue: &Queue,
) -> Result<(), ModelError> {
    let mut newest = None;
    while let Some(job) = queue.wait() {
        match source.newer() {
            Ok(Some(newer)) => newest = Some(newer),
            Ok(None) => {}
            Err(reason) if newest.is_none() => {
                send(&job.updates, Update::Failed(ApiError::busy(reason)));
                continue;
            }
            // The one before it is still a model of this run.
            Err(_) => {}
        }
        let Some(NewestModel { model, tokenizer }) = &newest else { continue };
        let mut first = Some(job);
        let mut next = |_| first.take().or_else(|| queue.take());
        generate(&**model, tokenizer, bos, queue, &mut next)?;
    }
    Ok(())
}

/// Generates for the jobs that `next` gives, until it gives none while the engine is idle. Its argument
/// is whether the engine is idle now.
///
/// # Errors
/// As [`run`].
fn generate(
    model: &dyn Model,
    tokenizer: &Tokenizer,
    bos: u32,
    queue: &Queue,
    next: &mut dyn FnMut(bool) -> Option<Job>,
) -> Result<(), ModelError> {
    let engine = Engine::new(model, slots(model.config()))?;
    let context = model.config().block_size;
    let (pending, active) = (VecDeque::new(), ActiveChoices::new());
    let template = tokenizer.chat_template();
    let end_of_turn = template.and_then(|it| it.end_of_turn(tokenizer).ok());
    let mut worker =
        Worker { model, engine, tokenizer, bos, end_of_turn, context, pending, active };
    loop {
        while worker.engine.room() > 0 {
            if let Some(group) = worker.pending.pop_front() {
                worker.admit(group);
                continue;
            }
            match next(worker.engine.is_idle()) {
                Some(job) => worker.tokenize(&job),
                None if worker.engine.is_idle() => return Ok(()),
                None => break,
            }
        }
        if queue.is_abandoned() {
            return Ok(());
        }
        let active = &mut worker.active;
        worker.engine.step(&mut |id, event| on_event(active, id, event))?;
    }
}

type ActiveChoices<'a> = HashMap<SequenceId, ActiveChoice<'a>>;

struct Worker<'a> {
    model: &'a dyn Model,
    engine: Engine<'a>,
    tokenizer: &'a Tokenizer,
    bos: u32,
    /// The token that ends an answer, of a model with a chat template.
    end_of_turn: Option<u32>,
    /// The context length in tokens.
    context: usize,
    /// The prompts of the current job that have not started.
    pending: VecDeque<PromptGroup>,
    active: ActiveChoices<'a>,
}

/// Choices that continue one prompt.
struct PromptGroup {
    prompt: Vec<u32>,
    n_chars: usize,
    /// The prompt as the start of each text, if the request asks for that.
    echo: Option<Delta>,
    params: SamplingParams,
    stop: Vec<String>,
    /// Whether the prompt is a conversation.
    is_chat: bool,
    /// The token that ends an answer in addition to the end of its turn.
    end_of_document: Option<u32>,
    choices: std::ops::Range<usize>,
    updates: UnboundedSender<Update>,
}

/// A choice that is being generated.
struct ActiveChoice<'a> {
    choice: usize,
    builder: DeltaBuilder<'a>,
    n_tokens: usize,
    end_of_document: Option<u32>,
    /// Whether a stop text was found.
    stopped: bool,
    updates: UnboundedSender<Update>,
}

/// The tokens and the text of a prompt, and the delta that echoes it.
type ReadPrompt = (Vec<u32>, String, Option<Delta>);

impl Worker<'_> {
    /// Tokenizes a job's prompts. An error in one of them ends the job.
    fn tokenize(&mut self, job: &Job) {
        let mut groups = VecDeque::new();
        let prompts = match self.read(job) {
            Ok(prompts) => prompts,
            Err(error) => {
                send(&job.updates, Update::Failed(error));
                return;
            }
        };
        let tokenized = job.prompts.iter().zip(prompts);
        for (place, (job_prompt, (mut prompt, text, echo))) in tokenized.enumerate() {
            let n_chars = text.chars().count();
            let notes = match job_prompt {
                Prompt::Text(text) => self.notes(text, &prompt),
                Prompt::Chat(_) if !text.is_empty() => vec![text],
                Prompt::Ids(_) | Prompt::Chat(_) => Vec::new(),
            };
            send(&job.updates, Update::Prefilled { n_tokens: prompt.len(), notes });
            if prompt.is_empty() {
                prompt.push(self.bos);
            }
            let (mut params, stop, updates) =
                (job.params.clone(), job.stop.clone(), job.updates.clone());
            let mut end_of_document = None;
            let is_chat = matches!(job_prompt, Prompt::Chat(_));
            if is_chat {
                // A context shift would drop the system message.
                let room = self.context.saturating_sub(prompt.len());
                params.max_new_tokens = params.max_new_tokens.min(room);
                end_of_document = params.eos;
                params.eos = self.end_of_turn;
            }
            let choices = place * job.n..(place + 1) * job.n;
            let group = PromptGroup {
                prompt,
                n_chars,
                echo,
                params,
                stop,
                is_chat,
                end_of_document,
                choices,
                updates,
            };
            groups.push_back(group);
        }
        self.pending = groups;
    }

    /// The tokens and the text of each prompt, and the delta that echoes it if the job asks for that.
    fn read(&self, job: &Job) -> Result<Vec<ReadPrompt>, ApiError> {
        let internal = |error: DataError| ApiError::internal(error.to_string());
        let read = |prompt: &Prompt| match prompt {
            Prompt::Text(text) => {
                self.tokenizer.encode(text).map(|ids| (ids, text.clone())).map_err(internal)
            }
            Prompt::Ids(ids) => {
                self.tokenizer.decode(ids).map(|text| (ids.clone(), text)).map_err(internal)
            }
            Prompt::Chat(messages) => self.read_chat(messages, job.params.max_new_tokens),
        };
        let prompts: Vec<_> = job.prompts.iter().map(read).collect::<Result<_, _>>()?;
        let n_top = job.params.logprobs.filter(|_| job.echo);
        let scores = n_top.map(|n_top| self.scores(&prompts, n_top)).transpose()?;
        let echo = |(index, (ids, text)): (usize, (Vec<u32>, String))| {
            let scores = scores.as_ref().map(|scores: &Vec<Vec<_>>| scores[index].as_slice());
            let echo = job.echo.then(|| prompt_delta(self.tokenizer, (&text, &ids), scores));
            Ok((ids, text, echo.transpose().map_err(internal)?))
        };
        prompts.into_iter().enumerate().map(echo).collect()
    }

    /// The tokens of a conversation, and a note on messages that were dropped.
    fn read_chat(
        &self,
        messages: &[Message],
        max_new_tokens: usize,
    ) -> Result<(Vec<u32>, String), ApiError> {
        let refused = |message: String| ApiError::field("messages", message);
        let template = self.tokenizer.chat_template().ok_or_else(|| {
            let message = "this model has no chat template: it was not trained on conversations; use \
                           /v1/completions";
            ApiError::refused(StatusCode::BAD_REQUEST, message).code("no_chat_template")
        })?;
        let room = max_new_tokens.min(self.context / 4).max(1);
        let most = self.context.saturating_sub(room);
        let read = template
            .end_of_turn(self.tokenizer)
            .and_then(|_| template.prompt_ids_within(self.tokenizer, messages, most));
        let (ids, n_dropped) = read.map_err(|error| {
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            refused(format!("{error}{hint}"))
        })?;
        let note = format!(
            "the oldest {n_dropped} messages were dropped: the model sees {} tokens",
            self.context
        );
        Ok((ids, if n_dropped > 0 { note } else { String::new() }))
    }

    /// The log-probabilities of the tokens of each prompt, without those of its first token.
    fn scores(
        &self,
        prompts: &[(Vec<u32>, String)],
        n_top: usize,
    ) -> Result<Vec<Vec<Logprobs>>, ApiError> {
        let mut scores = vec![Vec::new(); prompts.len()];
        if let Some((ids, _)) = prompts.iter().find(|(ids, _)| ids.len() > self.context) {
            let message = format!(
                "`echo` with `logprobs` needs a prompt of at most {} tokens, this one has {}",
                self.context,
                ids.len()
            );
            return Err(ApiError::field("prompt", message));
        }
        let scored: Vec<usize> = (0..prompts.len()).filter(|i| prompts[*i].0.len() > 1).collect();
        let sequences: Vec<&[u32]> = scored.iter().map(|i| prompts[*i].0.as_slice()).collect();
        let params = ScoreParams { vocab_size: Some(self.tokenizer.vocab_size()), n_top };
        score(self.model, &sequences, params, &mut |i, found| scores[scored[i]] = found)
            .map_err(|error| api_error(&error))?;
        Ok(scores)
    }

    /// Warnings about a prompt.
    fn notes(&self, text: &str, ids: &[u32]) -> Vec<String> {
        let notes = self.tokenizer.prompt_notes(text, ids, self.context);
        notes.iter().map(ToString::to_string).collect()
    }

    /// Starts as many choices of a group as there are free slots, and puts the others back.
    fn admit(&mut self, mut group: PromptGroup) {
        if group.updates.is_closed() {
            return;
        }
        let now = group.choices.len().min(self.engine.room());
        let started = group.choices.start..group.choices.start + now;
        let samples = started.start as u64..started.end as u64;
        let added = if group.is_chat {
            self.engine.add_turn(&group.prompt, &group.params, samples)
        } else {
            self.engine.add(&group.prompt, &group.params, samples)
        };
        let ids = match added {
            Ok(ids) => ids,
            Err(error) => {
                send(&group.updates, Update::Failed(api_error(&error)));
                self.pending.clear();
                return;
            }
        };
        for (id, choice) in ids.into_iter().zip(started) {
            if let Some(delta) = group.echo.clone() {
                send(&group.updates, Update::Delta { choice, delta });
            }
            let builder = DeltaBuilder::new(self.tokenizer, &group.stop, group.n_chars);
            let updates = group.updates.clone();
            let choice = ActiveChoice {
                choice,
                builder,
                n_tokens: 0,
                end_of_document: group.end_of_document,
                stopped: false,
                updates,
            };
            self.active.insert(id, choice);
        }
        group.choices.start += now;
        if !group.choices.is_empty() {
            self.pending.push_front(group);
        }
    }
}

/// The error response for an error of the model.
fn api_error(error: &ModelError) -> ApiError {
    match error {
        ModelError::Config { .. } | ModelError::Request { .. } => {
            ApiError::refused(StatusCode::BAD_REQUEST, error.to_string())
        }
        _ => ApiError::internal(error.to_string()),
    }
}
