//! Reading the body of a request, within limits of length and time.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, HttpBody as _};
use axum::http::header::{self, HeaderMap};
use axum::http::{Request, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::error::ApiError;
use crate::limits::Limits;

/// How many bytes of a rejected body are read and discarded, so that the client can finish writing and
/// read the response before the connection is closed.
const DISCARDED_BYTES: usize = 8 << 20;

/// The body of a request whose `Content-Type` is JSON.
///
/// # Errors
/// 415 for another type, 413 for a body that is too long, 408 for one that takes too long, 400 for
/// one that ends early.
pub(crate) async fn read_json(
    request: Request<Body>,
    limits: &Limits,
) -> Result<Vec<u8>, ApiError> {
    let (parts, mut body) = request.into_parts();
    let is_json = is_json(&parts.headers);
    let too_long = || {
        let message = format!("the body is longer than {} bytes", limits.body_bytes);
        ApiError::refused(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let expects_continue = parts.headers.contains_key(header::EXPECT);
    if expects_continue && body.size_hint().lower() > limits.body_bytes as u64 {
        return Err(too_long());
    }
    let deadline = Instant::now() + limits.body_timeout;
    let most = if is_json { limits.body_bytes } else { 0 };
    let read = timeout_at(deadline, read(&mut body, most)).await;
    if !is_json {
        return Err(ApiError::refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be application/json",
        ));
    }
    match read {
        Ok(result) => result?.ok_or_else(too_long),
        Err(_) => Err(ApiError::refused(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} s", limits.body_timeout.as_secs_f32()),
        )),
    }
}

/// Reads to the end. `None` if there are more than `most` bytes.
async fn read(body: &mut Body, most: usize) -> Result<Option<Vec<u8>>, ApiError> {
    let mut bytes = Vec::new();
    let mut n_discarded = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let frame = frame
            .map_err(|_| ApiError::refused(StatusCode::BAD_REQUEST, "the body ended early"))?;
        let Ok(data) = frame.into_data() else { continue };
        if n_discarded == 0 && bytes.len() + data.len() <= most {
            bytes.extend_from_slice(&data);
        } else {
            n_discarded += data.len();
            bytes = Vec::new();
        }
        if n_discarded > DISCARDED_BYTES {
            break;
        }
    }
    Ok((n_discarded == 0).then_some(bytes))
}

/// Whether `Content-Type` is JSON, with any parameters. Without a preflight request, browsers let
/// pages of other origins send other types only.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}
