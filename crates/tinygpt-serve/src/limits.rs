//! How much a client may take: of time, of memory, of places.

use std::time::Duration;

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; others are turned away with 503.
    pub connections: usize,
    /// Requests that wait while the model writes others; more are turned away with 503.
    pub waiting: usize,
    /// The longest body, in bytes.
    pub body_bytes: usize,
    /// The time for all headers of a request, and between two requests of a connection.
    pub header_time: Duration,
    /// The time for the body of a request.
    pub body_time: Duration,
    /// How long a client may take none of what is being sent.
    pub stall_time: Duration,
    /// How long texts may go on when the server is to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            waiting: 32,
            body_bytes: 1 << 20,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(20),
            stall_time: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        }
    }
}
