//! Connections: takes them in, holds them to their limits, and lets them end when the server does.
//!
//! All of them live on one thread; no handler computes anything that takes longer than reading its
//! request. The model writes on a thread of its own.

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
use crate::write_timeout::Stalling;

/// The longest line and headers of a request, in bytes.
const HEADER_BYTES: usize = 16 << 10;

/// How long the last of an answer may take when nothing more is written.
const FAREWELL: Duration = Duration::from_millis(500);

/// How often the server looks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);

/// Takes connections in until `should_stop`, then lets them end.
///
/// Returns when the texts of all are written, as `is_done` tells, or have had their grace.
pub(crate) async fn serve(
    listener: &TcpListener,
    router: Router,
    limits: &Limits,
    queue: &Queue,
    should_stop: &dyn Fn() -> bool,
    is_done: &dyn Fn() -> bool,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopping) = watch::channel(false);
    while !should_stop() {
        let Ok(accepted) = timeout(TICK, listener.accept()).await else { continue };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                wait_out(&error).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let talk = talk(stream, router.clone(), limits.clone(), stopping.clone(), place);
                tokio::spawn(talk);
            }
            Err(_) => drop(tokio::spawn(turn_away(stream))),
        }
    }
    queue.close();
    // Nobody listens if there is no connection.
    let _ = stop.send(true);
    let written = async {
        while !is_done() {
            sleep(TICK).await;
        }
    };
    let _ = timeout(limits.grace, written).await;
    queue.abandon();
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = timeout(FAREWELL, places.acquire_many(all)).await;
}

/// A connection that failed before it began needs nothing; too many open files need time.
async fn wait_out(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        sleep(TICK).await;
    }
}

/// Answers the requests of one connection.
async fn talk(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    // Only slower without.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(Stalling::new(stream, limits.stall_time));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(stream, TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let mut stop = pin!(stopping.changed());
    let mut is_stopping = false;
    // How a connection fails is the client's business; every request was answered or given up.
    let _ = poll_fn(|cx| {
        if !is_stopping && stop.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
}

/// Answers before any request, and closes. Who does not take a few hundred bytes loses them.
async fn turn_away(stream: TcpStream) {
    let error = ApiError::busy("too many connections, try again in a few seconds");
    let body = error.json().to_string();
    let status = error.into_response().status();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Retry-After: {RETRY_AFTER}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answered = async {
        stream.writable().await?;
        stream.try_write(answer.as_bytes())?;
        // Closing before the request is read would take the answer back.
        stream.readable().await?;
        stream.try_read(&mut [0; HEADER_BYTES])
    };
    let _ = timeout(Duration::from_secs(1), answered).await;
}
