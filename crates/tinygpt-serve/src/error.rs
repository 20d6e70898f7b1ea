//! Two kinds of errors: those sent to a client, in OpenAI's format, and those that stop a server.
//!
//! `{"error": {"message", "type", "param", "code"}}` is what every client library of OpenAI's API
//! expects for every failure, so all error responses have this form.

use std::borrow::Cow;
use std::net::SocketAddr;

use axum::body::Body;
use axum::http::header::{self, HeaderValue};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::json;
use tinygpt_model::ModelError;

use crate::response::respond_json;

/// An error response.
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

    /// An error that the client can fix.
    pub(crate) fn refused(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    /// Field `param` of the request has an invalid value.
    pub(crate) fn field(param: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::refused(StatusCode::BAD_REQUEST, message) }
    }

    /// The field `param` does not exist.
    pub(crate) fn unknown_field(param: String, message: String) -> Self {
        let param = Some(Cow::Owned(param));
        Self { param, ..Self::refused(StatusCode::BAD_REQUEST, message) }.code("unknown_field")
    }

    /// An error that the client cannot fix.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The server is busy; the response says when to try again.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message).code("overloaded")
    }

    /// Adds a code for programs.
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

/// The first characters of what a client sent, for a message.
pub(crate) fn cut(sent: &str) -> &str {
    sent.char_indices().nth(80).map_or(sent, |(at, _)| &sent[..at])
}

/// When to try again, in seconds.
pub(crate) const RETRY_AFTER: &str = "2";

/// Why a server cannot start or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Anyone on the network could use the model.
    #[error("{address} can be reached from other machines, so an API key is required")]
    KeyNeeded {
        /// The requested address.
        address: SocketAddr,
    },
    /// The key cannot be sent in a header.
    #[error(
        "the API key must not be empty and must consist of visible ASCII characters without spaces"
    )]
    BadKey,
    /// The address is in use or does not belong to this machine.
    #[error("cannot listen on {address}")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system refused a thread or the event queue for connections.
    #[error("cannot start the server")]
    Start(#[source] std::io::Error),
    /// The model failed.
    #[error("the model failed")]
    Model(#[from] ModelError),
    /// A bug: the worker thread panicked.
    #[error("the worker thread panicked; this is a bug in TinyGPT")]
    Panicked,
}
