//! `POST /v1/completions` and `POST /v1/chat/completions`: queues a request for the worker and sends its text to the client, whole or
//! as a stream.
//!
//! When a client disconnects, its connection is dropped, and with it the receiver of the job's
//! updates. That is how the worker notices.

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
use crate::chat_request;
use crate::delta::Delta;
use crate::error::ApiError;
use crate::queue::{Job, Queue, Update};
use crate::request::CompletionRequest;
use crate::response::{Part, ResponseHead, Shape, Usage, finish_reason, respond, respond_json};
use crate::shared::Shared;

/// Handles a request of texts or of answers.
pub(crate) async fn complete(
    shared: Arc<Shared>,
    request: Request<Body>,
    shape: Shape,
) -> Response<Body> {
    let body = match read_json(request, &shared.limits).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    match begin(&shared, &body, shape) {
        Ok(response) if response.stream => response.streamed().await,
        Ok(response) => response.whole().await,
        Err(error) => error.into_response(),
    }
}

/// Puts a request into the queue.
fn begin(shared: &Shared, body: &[u8], shape: Shape) -> Result<PendingResponse, ApiError> {
    let request = match shape {
        Shape::Text => CompletionRequest::parse(body, &shared.model_limits)?,
        Shape::Chat => chat_request::parse(body, &shared.model_limits)?,
    };
    let CompletionRequest { prompts, n, params, stop, stream, include_usage, echo } = request;
    let n_choices = prompts.len() * n;
    let logprobs = params.logprobs.is_some();
    let (updates, receiver) = unbounded_channel();
    let queue = Arc::clone(&shared.queue);
    queue.push(Job { prompts, n, params, stop, echo, updates })?;
    Ok(PendingResponse {
        queue,
        head: ResponseHead::new(&shared.model_limits.model, shape, stream),
        receiver,
        has_begun: vec![false; n_choices],
        open: n_choices,
        logprobs,
        usage: Usage::default(),
        warnings: Vec::new(),
        stream,
        include_usage,
    })
}

/// The response to a request that the worker has not finished.
struct PendingResponse {
    queue: Arc<Queue>,
    head: ResponseHead,
    receiver: UnboundedReceiver<Update>,
    /// Whether a part of each choice was sent.
    has_begun: Vec<bool>,
    /// Choices that are not complete.
    open: usize,
    logprobs: bool,
    usage: Usage,
    /// Warnings about the prompts that have not been sent yet.
    warnings: Vec<String>,
    stream: bool,
    include_usage: bool,
}

fn shutting_down() -> ApiError {
    ApiError::busy("the server is shutting down")
}

impl PendingResponse {
    /// Waits for all choices and responds with one object.
    async fn whole(mut self) -> Response<Body> {
        let new = |index| Part { index, is_first: true, ..Part::default() };
        let mut choices: Vec<Part> = (0..self.has_begun.len()).map(new).collect();
        while self.open > 0 {
            let update = self.receiver.recv().await;
            let next = match self.take(update) {
                Ok(next) => next,
                Err(error) => return error.into_response(),
            };
            let Some(next) = next else { continue };
            let Some(choice) = choices.get_mut(next.index) else { continue };
            choice.text.push_str(&next.delta.text);
            choice.finish_reason = next.finish_reason;
            choice.tokens.extend(next.delta.tokens);
        }
        let mut object = self.head.object(choices, self.logprobs, Some(self.usage.json()));
        self.add_warnings(&mut object);
        respond_json(&object)
    }

    /// Responds with server-sent events. An error before the first event becomes the HTTP status.
    async fn streamed(mut self) -> Response<Body> {
        let mut first = VecDeque::new();
        match self.receiver.recv().await {
            Some(Update::Failed(error)) => return error.into_response(),
            None => return shutting_down().into_response(),
            update => first.extend(update),
        }
        respond(
            "text/event-stream",
            Body::new(EventStream { response: self, first, is_over: false }),
        )
    }

    /// Adds the warnings about the prompts, once. OpenAI's API has no such field; its clients ignore it.
    fn add_warnings(&mut self, object: &mut Value) {
        if !self.warnings.is_empty() {
            object["warnings"] = std::mem::take(&mut self.warnings).into();
        }
    }

    /// The next part of a choice, if the update holds one. An error if there will be no more updates.
    fn take(&mut self, update: Option<Update>) -> Result<Option<ChoiceUpdate>, ApiError> {
        match update {
            None => Err(shutting_down()),
            Some(Update::Failed(error)) => Err(error),
            Some(Update::Prefilled { n_tokens, notes }) => {
                self.usage.prompt_tokens += n_tokens;
                for note in notes {
                    if !self.warnings.contains(&note) {
                        self.warnings.push(note);
                    }
                }
                Ok(None)
            }
            Some(Update::Delta { choice, delta }) => {
                Ok(Some(ChoiceUpdate { index: choice, delta, finish_reason: None }))
            }
            Some(Update::End { choice, delta, finish, n_tokens }) => {
                self.open -= 1;
                self.usage.completion_tokens += n_tokens;
                let finish_reason = Some(finish_reason(finish));
                Ok(Some(ChoiceUpdate { index: choice, delta, finish_reason }))
            }
        }
    }
}

/// The next part of a choice.
struct ChoiceUpdate {
    index: usize,
    delta: Delta,
    finish_reason: Option<&'static str>,
}

/// The body of a stream: server-sent events.
struct EventStream {
    response: PendingResponse,
    /// Updates that were received before the stream began.
    first: VecDeque<Update>,
    is_over: bool,
}

impl EventStream {
    /// The event of an update. Empty if there is nothing to send.
    fn event(&mut self, update: Option<Update>) -> String {
        let next = match self.response.take(update) {
            Ok(next) => next,
            Err(error) => {
                self.is_over = true;
                return data(&error.json());
            }
        };
        let Some(ChoiceUpdate { index, delta, finish_reason }) = next else { return String::new() };
        if delta.text.is_empty() && delta.tokens.is_empty() && finish_reason.is_none() {
            return String::new();
        }
        let begun = self.response.has_begun.get_mut(index);
        let is_first = begun.is_some_and(|begun| !std::mem::replace(begun, true));
        let Delta { text, tokens } = delta;
        let part = Part { index, is_first, text, tokens, finish_reason };
        let PendingResponse { include_usage: usage, logprobs, head, .. } = &self.response;
        let (usage, logprobs) = (*usage, *logprobs);
        let mut object = head.object(vec![part], logprobs, usage.then_some(Value::Null));
        self.response.add_warnings(&mut object);
        let mut text = data(&object);
        if self.response.open == 0 {
            self.is_over = true;
            if usage {
                let counts = Some(self.response.usage.json());
                text.push_str(&data(&self.response.head.object(Vec::new(), false, counts)));
            }
            text.push_str("data: [DONE]\n\n");
        }
        text
    }
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    /// All events that are available, in one frame.
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let events = self.get_mut();
        let mut text = String::new();
        if !events.is_over && events.response.queue.is_abandoned() {
            // Updates that the client has not received yet are dropped.
            text.push_str(&events.event(None));
        }
        while !events.is_over {
            let update = match events.first.pop_front() {
                Some(update) => Some(update),
                None => match events.response.receiver.poll_recv(cx) {
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
