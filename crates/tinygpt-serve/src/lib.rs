//! A trained model over HTTP: a web page to try it, and OpenAI's completions API for programs.
//!
//! The caller reads the checkpoint into a [`ServedModel`]; this crate reads no flags, handles no signals
//! and prints nothing. Nothing is loaded from other hosts.
#![doc = include_str!("../README.md")]

mod body;
mod card;
mod chat_request;
mod chat_response;
mod completions;
mod connections;
mod delta;
mod error;
mod events;
mod feed;
mod fields;
mod guard;
mod known_fields;
mod limits;
mod page;
mod queue;
mod request;
mod response;
mod router;
mod server;
mod shared;
mod worker;
mod write_timeout;

pub use card::{Card, Curve, Defaults, LiveRun};
pub use error::ServeError;
pub use feed::{Feed, FeedEvent};
pub use limits::Limits;
pub use server::{ServedModel, Server, WatchedRun};
pub use worker::{ModelSource, NewestModel};
