//! The routes.

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

use crate::completions::complete;
use crate::error::{ApiError, cut};
use crate::events::events;
use crate::guard::harden;
use crate::page;
use crate::request::check_model;
use crate::response::{Shape, respond_json};
use crate::shared::Shared;

/// All routes of the server.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(async || respond_json(&json!({"status": "ok"}))))
        .route("/card", get(card))
        .route("/events", get(events))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/completions", post(completions))
        .route("/v1/chat/completions", post(chat_completions))
        .merge(page::router())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guarded))
        .with_state(shared)
}

/// Checks every request, also those to unknown paths.
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
    complete(shared, request, Shape::Text).await
}

async fn chat_completions(
    State(shared): State<Arc<Shared>>,
    request: Request<Body>,
) -> Response<Body> {
    complete(shared, request, Shape::Chat).await
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
        Ok(Path(name)) => check_model(&name, &shared.model_limits),
        Err(error) => Err(ApiError::refused(StatusCode::BAD_REQUEST, error.to_string())),
    };
    match checked {
        Ok(()) => respond_json(&model_object(&shared)),
        Err(error) => error.into_response(),
    }
}

fn model_object(shared: &Shared) -> Value {
    json!({
        "id": shared.model_limits.model,
        "object": "model",
        "created": shared.since,
        "owned_by": "tinygpt",
    })
}

async fn not_found(request: Request<Body>) -> Response<Body> {
    let message = format!(
        "unknown path {}, expected /v1/completions, /v1/chat/completions, /v1/models, /health or /",
        cut(request.uri().path())
    );
    ApiError::refused(StatusCode::NOT_FOUND, message).code("not_found").into_response()
}

async fn method_not_allowed(request: Request<Body>) -> Response<Body> {
    let takes_post = ["/v1/completions", "/v1/chat/completions"].contains(&request.uri().path());
    let allowed = if takes_post { "POST" } else { "GET, HEAD" };
    let message =
        format!("{} is not allowed for {}, expected {allowed}", name(request.method()), {
            cut(request.uri().path())
        });
    let error = ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, message);
    let mut response = error.code("method_not_allowed").into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// A method's name if it is short: clients can send any name.
fn name(method: &Method) -> &str {
    if method.as_str().len() <= 10 { method.as_str() } else { "this method" }
}
