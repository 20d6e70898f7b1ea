//! A trained model over HTTP: a page to meet it, and OpenAI's completions API for programs.
//!
//! One thread talks to all connections ([`Limits`] says what each may take), one has the model and
//! writes all requests side by side; between them is a bounded queue. What a model is served as is
//! a [`Served`]; reading checkpoints, flags, signals and printing are the caller's business.
//!
//! The server trusts nobody. On a loopback address it answers only its own machine and its own
//! page; on any other it has a key. Nothing is fetched from elsewhere.

mod body;
mod card;
mod completions;
mod connections;
mod delta;
mod error;
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
mod worker;
mod write_timeout;

pub use card::{Card, Curve, Defaults};
pub use error::ServeError;
pub use limits::Limits;
pub use server::{Served, Server};
