//! The server, over real connections.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod api;
mod chat;
mod common;
mod echo;
mod lifecycle;
mod watch;
