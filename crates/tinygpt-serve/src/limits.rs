//! Limits on time, memory and the number of clients.

use std::time::Duration;

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Simultaneous connections; others get 503.
    pub connections: usize,
    /// Requests that can wait for the model; others get 503.
    pub waiting: usize,
    /// The maximum size of a body, in bytes.
    pub body_bytes: usize,
    /// The time for all headers of a request, and between two requests of a connection.
    pub header_timeout: Duration,
    /// The time for the body of a request.
    pub body_timeout: Duration,
    /// How long a client may read nothing of what is sent to it.
    pub write_timeout: Duration,
    /// How long texts may continue after the server was asked to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            waiting: 32,
            body_bytes: 1 << 20,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        }
    }
}
