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

/// The fields that all objects of one response share.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ResponseHead {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
}

impl ResponseHead {
    /// For a new response of `model`.
    pub(crate) fn new(model: &str) -> Self {
        Self {
            id: format!("cmpl-{:016x}", any_seed()),
            object: "text_completion",
            created: unix_time(),
            model: model.to_owned(),
        }
    }

    /// The object with these choices. Without `usage` the key is omitted.
    pub(crate) fn object(&self, choices: Vec<Choice>, usage: Option<Value>) -> Value {
        let mut object = json!(self);
        object["choices"] = json!(choices);
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
#[derive(Debug, Serialize)]
pub(crate) struct Choice {
    pub(crate) index: usize,
    pub(crate) text: String,
    pub(crate) logprobs: Option<ChoiceLogprobs>,
    pub(crate) finish_reason: Option<&'static str>,
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
