//! The address of a server, for `sample --serve` and `train --serve`.

use std::net::SocketAddr;

use anyhow::Result;
use tinygpt_serve::{Limits, ServeError, Server};

use crate::usage::UsageError;

/// The environment variable with the key, if no flag gives it.
const KEY_VARIABLE: &str = "TINYGPT_API_KEY";

/// Listens at `address`. `key_flag` is a flag that gives the key, if there is one.
///
/// # Errors
/// A public address without a key, or an address that is in use.
pub(super) fn listen(
    address: SocketAddr,
    (key, key_flag): (Option<String>, Option<&str>),
    limits: Limits,
) -> Result<Server> {
    let from_variable = || std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
    Server::listen(address, key.or_else(from_variable), limits).map_err(|error| match &error {
        ServeError::KeyNeeded { .. } => {
            let flag = key_flag.map_or(String::new(), |flag| format!(" (or {flag})"));
            UsageError::new(error.to_string())
                .hint(format!("set {KEY_VARIABLE}{flag} to a long random text"))
                .into()
        }
        ServeError::BadKey => UsageError::new(error.to_string()).into(),
        ServeError::Listen { .. } => {
            anyhow::Error::from(error).context("choose another address with --serve ADDR")
        }
        _ => error.into(),
    })
}
