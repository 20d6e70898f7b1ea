//! Connections: accepts them, enforces their limits, and closes them when the server stops.
//!
//! All of them are on one thread; no handler computes anything that takes longer than parsing its
//! request. The model is on a thread of its own.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::error::{ApiError, RETRY_AFTER};
use crate::limits::Limits;
use crate::queue::Queue;
use crate::write_timeout::WriteTimeout;

/// The maximum size of a request's line and headers, in bytes.
const HEADER_BYTES: usize = 16 << 10;

/// How long the end of a response may take after the worker has stopped.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// How often the server checks whether to stop.
const TICK: Duration = Duration::from_millis(50);

/// Accepts connections until `should_stop`, then closes them.
///
/// Returns when `is_done` reports that all texts are complete, or after the grace period.
pub(crate) async fn serve(
    listener: &TcpListener,
    router: Router,
    limits: &Limits,
    queue: &Queue,
    should_stop: &dyn Fn() -> bool,
    is_done: &dyn Fn() -> bool,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopping) = watch::channel(false);
    while !should_stop() {
        let Ok(accepted) = timeout(TICK, listener.accept()).await else { continue };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                back_off(&error).await;
                continue;
            }
        };
        match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => {
                let connection = serve_connection(
                    stream,
                    router.clone(),
                    limits.clone(),
                    stopping.clone(),
                    permit,
                );
                tokio::spawn(connection);
            }
            Err(_) => drop(tokio::spawn(reject(stream))),
        }
    }
    queue.close();
    // Fails only if there is no connection.
    let _ = stop.send(true);
    let completed = async {
        while !is_done() {
            sleep(TICK).await;
        }
    };
    let _ = timeout(limits.grace, completed).await;
    queue.abandon();
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = timeout(CLOSE_TIMEOUT, permits.acquire_many(all)).await;
}

/// Waits after an error such as too many open files; not after a connection that failed by itself.
async fn back_off(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        sleep(TICK).await;
    }
}

/// Serves the requests of one connection.
async fn serve_connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    // Without it, responses are only slower.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(WriteTimeout::new(stream, limits.write_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(stream, TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let mut stop = pin!(stopping.changed());
    let mut is_stopping = false;
    // The client sees how its connection failed; every request was answered or dropped.
    let _ = poll_fn(|cx| {
        if !is_stopping && stop.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
}

/// Responds before reading a request, and closes the connection. A client that does not read a few
/// hundred bytes loses them.
async fn reject(stream: TcpStream) {
    let error = ApiError::busy("too many connections, try again in a few seconds");
    let body = error.json().to_string();
    let status = error.into_response().status();
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Retry-After: {RETRY_AFTER}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let sent = async {
        stream.writable().await?;
        stream.try_write(response.as_bytes())?;
        // If the socket were closed before the request is read, the system would discard the response.
        stream.readable().await?;
        stream.try_read(&mut [0; HEADER_BYTES])
    };
    let _ = timeout(Duration::from_secs(1), sent).await;
}
