//! Two kinds of errors: what a client is told, in OpenAI's shape, and why a server cannot run.
//!
//! `{"error": {"message", "type", "param", "code"}}` is what every client library of OpenAI's API
//! expects, whatever went wrong, so nothing here answers in another form.

use std::borrow::Cow;
use std::net::SocketAddr;

use axum::body::Body;
use axum::http::header::{self, HeaderValue};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::json;
use tinygpt_model::ModelError;

use crate::response::respond_json;

/// What a client is told instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<Cow<'static, str>>,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, param: None, message: message.into() }
    }

    /// The client can do something about it.
    pub(crate) fn refused(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    /// Field `param` of the request cannot be as it is.
    pub(crate) fn field(param: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::refused(StatusCode::BAD_REQUEST, message) }
    }

    /// There is no field `param`.
    pub(crate) fn unknown_field(param: String, message: String) -> Self {
        let param = Some(Cow::Owned(param));
        Self { param, ..Self::refused(StatusCode::BAD_REQUEST, message) }.code("unknown_field")
    }

    /// The client can do nothing about it.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// Not now; the client is told when to come again.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message).code("overloaded")
    }

    /// Adds a word that a program can look for.
    pub(crate) fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The body.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut response = respond_json(&self.json());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The beginning of what a client sent, for a message.
pub(crate) fn cut(sent: &str) -> &str {
    sent.char_indices().nth(80).map_or(sent, |(at, _)| &sent[..at])
}

/// When to come again, in seconds: by then most texts are a good deal shorter.
pub(crate) const RETRY_AFTER: &str = "2";

/// Why a server cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Others could reach the model, and nothing would hold them back.
    #[error(
        "{address} can be reached from other machines, and there is no API key: anyone could use \
         this one"
    )]
    KeyNeeded {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// The key cannot be sent in a header.
    #[error(
        "the API key is empty or has other characters than visible ASCII, expected letters, \
         digits and signs without spaces"
    )]
    BadKey,
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system refused a thread or the means to wait for many connections.
    #[error("cannot start the server")]
    Start(#[source] std::io::Error),
    /// The model cannot write any more.
    #[error("the model stopped writing")]
    Model(#[from] ModelError),
    /// A bug: the thread that writes panicked.
    #[error("the thread that writes ended by a bug in TinyGPT")]
    Panicked,
}
