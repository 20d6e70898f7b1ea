//! `POST /v1/completions`: hands a request to the writer, and what it writes to the client, at once
//! or as it comes.
//!
//! When the client leaves, the connection drops what is here, and with it the receiver of a job's
//! updates: that is how the writer knows.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use axum::response::IntoResponse as _;
use http_body::Frame;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::body::read_json;
use crate::delta::Piece;
use crate::error::ApiError;
use crate::queue::{Job, Queue, Update};
use crate::request::CompletionRequest;
use crate::response::{Choice, ChoiceLogprobs, Head, Usage, finish_reason, respond, respond_json};
use crate::router::Shared;

/// Answers a request.
pub(crate) async fn complete(shared: Arc<Shared>, request: Request<Body>) -> Response<Body> {
    let body = match read_json(request, &shared.limits).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    match begin(&shared, &body) {
        Ok(answer) if answer.stream => answer.streamed().await,
        Ok(answer) => answer.whole().await,
        Err(error) => error.into_response(),
    }
}

/// Puts a request into the queue.
fn begin(shared: &Shared, body: &[u8]) -> Result<Answer, ApiError> {
    let CompletionRequest { prompts, n, params, stop, stream, include_usage } =
        CompletionRequest::parse(body, &shared.possible)?;
    let n_choices = prompts.len() * n;
    let logprobs = params.logprobs.is_some();
    let (updates, receiver) = unbounded_channel();
    let queue = Arc::clone(&shared.queue);
    queue.push(Job { prompts, n, params, stop, updates })?;
    Ok(Answer {
        queue,
        head: Head::new(&shared.possible.model),
        receiver,
        n_choices,
        open: n_choices,
        logprobs,
        usage: Usage::default(),
        warnings: Vec::new(),
        stream,
        include_usage,
    })
}

/// A request that is being answered.
struct Answer {
    queue: Arc<Queue>,
    head: Head,
    receiver: UnboundedReceiver<Update>,
    n_choices: usize,
    /// Choices that have not ended.
    open: usize,
    logprobs: bool,
    usage: Usage,
    /// Notes on the prompts that were not sent yet.
    warnings: Vec<String>,
    stream: bool,
    include_usage: bool,
}

fn gone() -> ApiError {
    ApiError::busy("the server is shutting down")
}

impl Answer {
    /// Waits for all choices and answers with one object.
    async fn whole(mut self) -> Response<Body> {
        let new = |index| {
            let logprobs = self.logprobs.then(ChoiceLogprobs::default);
            Choice { index, text: String::new(), logprobs, finish_reason: None }
        };
        let mut choices: Vec<Choice> = (0..self.n_choices).map(new).collect();
        while self.open > 0 {
            let update = self.receiver.recv().await;
            let next = match self.take(update) {
                Ok(next) => next,
                Err(error) => return error.into_response(),
            };
            let Some(next) = next else { continue };
            let Some(choice) = choices.get_mut(next.index) else { continue };
            choice.text.push_str(&next.piece.text);
            choice.finish_reason = next.finish_reason;
            if let Some(logprobs) = &mut choice.logprobs {
                logprobs.extend(next.piece.tokens);
            }
        }
        let mut object = self.head.object(choices, Some(self.usage.json()));
        self.add_warnings(&mut object);
        respond_json(&object)
    }

    /// Answers with events as they come. What goes wrong before the first has a status of its own.
    async fn streamed(mut self) -> Response<Body> {
        let mut first = VecDeque::new();
        match self.receiver.recv().await {
            Some(Update::Failed(error)) => return error.into_response(),
            None => return gone().into_response(),
            update => first.extend(update),
        }
        respond("text/event-stream", Body::new(Events { answer: self, first, over: false }))
    }

    /// Adds the notes on the prompts, once: a field that OpenAI's API does not have, and that its clients
    /// pass over.
    fn add_warnings(&mut self, object: &mut Value) {
        if !self.warnings.is_empty() {
            object["warnings"] = std::mem::take(&mut self.warnings).into();
        }
    }

    /// What an update means for the text; an error if there will be no more.
    fn take(&mut self, update: Option<Update>) -> Result<Option<Next>, ApiError> {
        match update {
            None => Err(gone()),
            Some(Update::Failed(error)) => Err(error),
            Some(Update::Read { n_tokens, notes }) => {
                self.usage.prompt_tokens += n_tokens;
                for note in notes {
                    if !self.warnings.contains(&note) {
                        self.warnings.push(note);
                    }
                }
                Ok(None)
            }
            Some(Update::Piece { choice, piece }) => {
                Ok(Some(Next { index: choice, piece, finish_reason: None }))
            }
            Some(Update::End { choice, piece, finish, n_tokens }) => {
                self.open -= 1;
                self.usage.completion_tokens += n_tokens;
                let finish_reason = Some(finish_reason(finish));
                Ok(Some(Next { index: choice, piece, finish_reason }))
            }
        }
    }
}

/// More of a choice.
struct Next {
    index: usize,
    piece: Piece,
    finish_reason: Option<&'static str>,
}

/// The body of a stream: server-sent events.
struct Events {
    answer: Answer,
    /// Updates that were taken before the stream began.
    first: VecDeque<Update>,
    over: bool,
}

impl Events {
    /// The event of an update, empty if there is nothing to say.
    fn event(&mut self, update: Option<Update>) -> String {
        let next = match self.answer.take(update) {
            Ok(next) => next,
            Err(error) => {
                self.over = true;
                return data(&error.json());
            }
        };
        let Some(Next { index, piece, finish_reason }) = next else { return String::new() };
        if piece.text.is_empty() && piece.tokens.is_empty() && finish_reason.is_none() {
            return String::new();
        }
        let logprobs = self.answer.logprobs.then(|| {
            let mut logprobs = ChoiceLogprobs::default();
            logprobs.extend(piece.tokens);
            logprobs
        });
        let choice = Choice { index, text: piece.text, logprobs, finish_reason };
        let usage = self.answer.include_usage;
        let mut object = self.answer.head.object(vec![choice], usage.then_some(Value::Null));
        self.answer.add_warnings(&mut object);
        let mut text = data(&object);
        if self.answer.open == 0 {
            self.over = true;
            if usage {
                let counts = Some(self.answer.usage.json());
                text.push_str(&data(&self.answer.head.object(Vec::new(), counts)));
            }
            text.push_str("data: [DONE]\n\n");
        }
        text
    }
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    /// All events that are there, in one frame.
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let events = self.get_mut();
        let mut text = String::new();
        if !events.over && events.answer.queue.is_abandoned() {
            // Not after all that the model was ahead of the client.
            text.push_str(&events.event(None));
        }
        while !events.over {
            let update = match events.first.pop_front() {
                Some(update) => Some(update),
                None => match events.answer.receiver.poll_recv(cx) {
                    Poll::Ready(update) => update,
                    Poll::Pending if text.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                },
            };
            text.push_str(&events.event(update));
        }
        Poll::Ready((!text.is_empty()).then(|| Ok(Frame::data(Bytes::from(text)))))
    }
}
