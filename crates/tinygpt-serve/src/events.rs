//! `GET /events`: the events of the run as server-sent events, those so far and then new ones.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse as _;
use http_body::Frame;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};

use crate::error::ApiError;
use crate::feed::Feed;
use crate::response::respond;
use crate::shared::Shared;

/// The time between two messages to a reader: a step may take only milliseconds, and the trainer needs
/// the CPU.
const PACE: Duration = Duration::from_millis(250);

/// After this time without an event, a comment shows that the connection is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Handles a request. `Last-Event-ID` continues an earlier stream.
pub(crate) async fn events(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Response<Body> {
    let Some(feed) = shared.feed.clone() else {
        let message = "this server shows no run that trains";
        return ApiError::refused(StatusCode::NOT_FOUND, message).code("not_found").into_response();
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let place = feed.place_after(last);
    // One message at a time: a reader that reads nothing makes its task wait, nobody else.
    let (sender, receiver) = channel(1);
    tokio::spawn(send(feed, place, sender));
    respond("text/event-stream", Body::new(Messages(receiver)))
}

/// Sends events from `place` on until the run ends or the reader has disconnected.
async fn send(feed: Arc<Feed>, mut place: u64, sender: Sender<Bytes>) {
    let mut changes = feed.changes();
    while !sender.is_closed() {
        changes.mark_unchanged();
        let Some((text, next)) = feed.chunk(place) else { return };
        let is_idle = text.is_empty();
        if !is_idle && sender.send(text.into()).await.is_err() {
            return;
        }
        place = next;
        if !is_idle {
            sleep(PACE).await;
            continue;
        }
        match timeout(KEEP_ALIVE, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) if sender.send(Bytes::from_static(b": waiting\n\n")).await.is_err() => return,
            Err(_) => {}
        }
    }
}

/// The body of the response.
struct Messages(Receiver<Bytes>);

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut()
            .0
            .poll_recv(cx)
            .map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}
