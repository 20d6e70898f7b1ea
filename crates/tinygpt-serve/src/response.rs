//! The response objects of OpenAI's completions API.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{self, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::delta::TokenReport;
use crate::queue::Finish;
use crate::request::any_seed;

/// Which of the two APIs a response belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Completions: texts.
    Text,
    /// Chat completions: messages.
    Chat,
}

/// The fields that all objects of one response share.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ResponseHead {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    #[serde(skip)]
    shape: Shape,
    #[serde(skip)]
    is_stream: bool,
}

impl ResponseHead {
    /// For a new response of `model`.
    pub(crate) fn new(model: &str, shape: Shape, is_stream: bool) -> Self {
        let (prefix, object) = match (shape, is_stream) {
            (Shape::Text, _) => ("cmpl", "text_completion"),
            (Shape::Chat, false) => ("chatcmpl", "chat.completion"),
            (Shape::Chat, true) => ("chatcmpl", "chat.completion.chunk"),
        };
        Self {
            id: format!("{prefix}-{:016x}", any_seed()),
            object,
            created: unix_time(),
            model: model.to_owned(),
            shape,
            is_stream,
        }
    }

    /// The object with these choices. Without `usage` the key is omitted.
    pub(crate) fn object(&self, parts: Vec<Part>, logprobs: bool, usage: Option<Value>) -> Value {
        let choice = |part: Part| match self.shape {
            Shape::Text => part.text_choice(logprobs),
            Shape::Chat => part.chat_choice(logprobs, self.is_stream),
        };
        let mut object = json!(self);
        object["choices"] = parts.into_iter().map(choice).collect();
        if let Some(usage) = usage {
            object["usage"] = usage;
        }
        object
    }
}

/// A response with this body.
pub(crate) fn respond(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON response.
pub(crate) fn respond_json(value: &Value) -> Response<Body> {
    respond("application/json", Body::from(value.to_string()))
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A text, or the next part of it.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) index: usize,
    /// Whether it is the first of its choice.
    pub(crate) is_first: bool,
    pub(crate) text: String,
    pub(crate) tokens: Vec<TokenReport>,
    pub(crate) finish_reason: Option<&'static str>,
}

impl Part {
    /// As a choice of the completions API.
    fn text_choice(self, has_logprobs: bool) -> Value {
        let logprobs = has_logprobs.then(|| {
            let mut logprobs = ChoiceLogprobs::default();
            logprobs.extend(self.tokens);
            logprobs
        });
        json!({
            "index": self.index,
            "text": self.text,
            "logprobs": logprobs,
            "finish_reason": self.finish_reason,
        })
    }
}

/// The API's name for why a text ended.
pub(crate) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// The tokens of a text, one list per property.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ChoiceLogprobs {
    tokens: Vec<String>,
    /// `null` for the first token of an echoed prompt, which follows nothing.
    token_logprobs: Vec<Option<f32>>,
    /// Most likely first; always includes the token itself.
    top_logprobs: Vec<Option<Map<String, Value>>>,
    text_offset: Vec<usize>,
}

impl ChoiceLogprobs {
    /// Adds tokens.
    pub(crate) fn extend(&mut self, tokens: Vec<TokenReport>) {
        for TokenReport { name, logprob, top, offset } in tokens {
            let alternatives = logprob.map(|logprob| {
                let mut alternatives = Map::new();
                // Different invalid UTF-8 bytes can have the same name; the more likely one is kept.
                for (name, logprob) in top.into_iter().chain([(name.clone(), logprob)]) {
                    alternatives.entry(name).or_insert_with(|| json!(logprob));
                }
                alternatives
            });
            self.tokens.push(name);
            self.token_logprobs.push(logprob);
            self.top_logprobs.push(alternatives);
            self.text_offset.push(offset);
        }
    }
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: usize,
    pub(crate) completion_tokens: usize,
}

impl Usage {
    /// As the API reports it.
    pub(crate) fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        })
    }
}
