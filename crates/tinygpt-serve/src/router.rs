//! Which path leads where.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{self, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};
use axum::middleware::{self, Next};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::card::Card;
use crate::completions::complete;
use crate::error::{ApiError, cut};
use crate::guard::{Guard, harden};
use crate::limits::Limits;
use crate::page;
use crate::queue::Queue;
use crate::request::{Possible, check_model};
use crate::response::{respond_json, unix_time};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) guard: Guard,
    pub(crate) limits: Limits,
    pub(crate) possible: Possible,
    pub(crate) queue: Arc<Queue>,
    pub(crate) card: Card,
    /// When the server started, in seconds since 1970.
    pub(crate) since: u64,
}

/// The whole server but its connections.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(async || respond_json(&json!({"status": "ok"}))))
        .route("/card", get(card))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/completions", post(completions))
        .merge(page::router())
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guarded))
        .with_state(shared)
}

/// Holds every request to the guard, also those that lead nowhere.
async fn guarded(
    State(shared): State<Arc<Shared>>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let mut response = match shared.guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    harden(&mut response);
    response
}

async fn completions(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    complete(shared, request).await
}

async fn card(State(shared): State<Arc<Shared>>) -> Response<Body> {
    respond_json(&json!(shared.card))
}

async fn models(State(shared): State<Arc<Shared>>) -> Response<Body> {
    respond_json(&json!({"object": "list", "data": [model_object(&shared)]}))
}

async fn model(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
) -> Response<Body> {
    let checked = match name {
        Ok(Path(name)) => check_model(&name, &shared.possible),
        Err(error) => Err(ApiError::refused(StatusCode::BAD_REQUEST, error.to_string())),
    };
    match checked {
        Ok(()) => respond_json(&model_object(&shared)),
        Err(error) => error.into_response(),
    }
}

fn model_object(shared: &Shared) -> Value {
    json!({
        "id": shared.possible.model,
        "object": "model",
        "created": shared.since,
        "owned_by": "tinygpt",
    })
}

async fn nothing_here(request: Request<Body>) -> Response<Body> {
    let message = format!(
        "there is nothing at {}, expected /v1/completions, /v1/models, /health or /",
        cut(request.uri().path())
    );
    ApiError::refused(StatusCode::NOT_FOUND, message).code("not_found").into_response()
}

async fn not_so(request: Request<Body>) -> Response<Body> {
    let allowed = if request.uri().path() == "/v1/completions" { "POST" } else { "GET, HEAD" };
    let message = format!("{} is not for {}, expected {allowed}", name(request.method()), {
        cut(request.uri().path())
    });
    let error = ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, message);
    let mut response = error.code("method_not_allowed").into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// A method's name if it is a usual one: others are the client's invention.
fn name(method: &Method) -> &str {
    if method.as_str().len() <= 10 { method.as_str() } else { "this method" }
}

/// The server's state at its start.
pub(crate) fn shared(
    guard: Guard,
    limits: Limits,
    possible: Possible,
    queue: Arc<Queue>,
    card: Card,
) -> Shared {
    Shared { guard, limits, possible, queue, card, since: unix_time() }
}
