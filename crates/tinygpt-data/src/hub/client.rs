//! The HTTP client for the hub.
//!
//! Redirects are followed here and not by the HTTP library, because two rules depend on each
//! hop: the token is sent to the endpoint's own origin and nowhere else, and the hub describes a
//! file (`ETag`, size) in the headers of its *own* last answer, before it points to a storage
//! host. Callers parse the bodies.

use std::cell::Cell;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, header};
use ureq::{Agent, Body};

use super::address::Address;
use super::error::HubError;
use super::{HubOptions, Token};
use crate::clock;

/// Longest chain of redirects that is followed.
const MAX_REDIRECTS: usize = 5;

/// The largest JSON answer that is read.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// A client for one endpoint.
pub(super) struct Client {
    agent: Agent,
    endpoint: Address,
    token: Option<Token>,
    answered: Cell<bool>,
}

/// A successful answer, its body not yet read.
pub(super) struct Reply {
    /// Where the answer came from, after all redirects.
    pub(super) address: Address,
    /// 200 or 206, or another success.
    pub(super) status: u16,
    /// Headers of the hub's own last answer, which may have been a redirect to storage.
    pub(super) hub_headers: HeaderMap,
    /// Headers of the answer itself.
    pub(super) headers: HeaderMap,
    /// What is to be read.
    pub(super) body: Body,
}

impl Client {
    /// Makes a client; no connection is opened yet.
    pub(super) fn new(options: &HubOptions) -> Result<Self, HubError> {
        let invalid = |reason: &str| HubError::Invalid {
            what: "endpoint",
            value: options.endpoint.clone(),
            reason: reason.to_owned(),
        };
        let endpoint = Address::parse(options.endpoint.trim_end_matches('/'))
            .ok_or_else(|| invalid("an address such as `https://huggingface.co` is expected"))?;
        if endpoint.uri().authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(HubError::Invalid {
                what: "endpoint",
                value: endpoint.shown(),
                reason: "the address must not contain a login; set `token` instead".to_owned(),
            });
        }
        if options.token.is_some() && !endpoint.is_secure() && !endpoint.is_loopback() {
            return Err(invalid(
                "the token would be sent unencrypted; use an https address, or unset `token`",
            ));
        }
        let retry = &options.retry;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("tinygpt/", env!("CARGO_PKG_VERSION")))
            // Lengths and ranges are those of the file, not of a packed copy of it.
            .accept_encoding("identity")
            .timeout_resolve(Some(retry.answer_timeout))
            .timeout_connect(Some(retry.answer_timeout))
            .timeout_recv_response(Some(retry.answer_timeout))
            .timeout_per_read(Some(retry.stall_timeout));
        if endpoint.is_loopback() {
            config = config.proxy(None);
        }
        let token = options.token.clone();
        Ok(Self { agent: config.build().into(), endpoint, token, answered: Cell::new(false) })
    }

    /// The address of `path` (already encoded) at the endpoint.
    pub(super) fn at(&self, path: &str) -> Result<Address, HubError> {
        let text = format!("{}/{path}", self.endpoint.uri().to_string().trim_end_matches('/'));
        Address::parse(&text).ok_or_else(|| HubError::Invalid {
            what: "address",
            value: text,
            reason: "it is not a valid address".to_owned(),
        })
    }

    /// The endpoint's scheme and host.
    pub(super) fn host(&self) -> String {
        self.endpoint.host()
    }

    /// Asks once for `address`, optionally for a range such as `bytes=100-`.
    pub(super) fn get(&self, address: &Address, range: Option<&str>) -> Result<Reply, HubError> {
        let mut address = address.clone();
        let mut hub_headers = HeaderMap::new();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&address, range)?;
            self.answered.set(true);
            if self.is_home(&address) {
                hub_headers = response.headers().clone();
            }
            if response.status().is_redirection() {
                address = redirect_target(&address, response.headers())?;
                continue;
            }
            return reply(address, hub_headers, response);
        }
        Err(HubError::Redirect {
            url: self.endpoint.shown(),
            target: address.shown(),
            reason: "the chain of redirects is too long, or a circle",
        })
    }

    /// Asks for a JSON document.
    pub(super) fn get_json<T: serde::de::DeserializeOwned>(
        &self,
        address: &Address,
    ) -> Result<T, HubError> {
        let mut reply = self.get(address, None)?;
        let body = reply.body.with_config().limit(MAX_JSON_BYTES).read_to_vec();
        let bytes = body.map_err(|source| HubError::Broken {
            url: reply.address.shown(),
            reason: source.to_string(),
            received: 0,
            expected: length(&reply.headers).unwrap_or(0),
        })?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let got = if bytes.trim_ascii_start().starts_with(b"<") {
                "a web page".to_owned()
            } else {
                format!("an answer that does not fit ({error})")
            };
            HubError::answer(
                &reply.address,
                got,
                "the hub's JSON description of the dataset",
                "check `endpoint`, and whether a proxy or a login page is in between",
            )
        })
    }

    fn send(&self, address: &Address, range: Option<&str>) -> Result<Response<Body>, HubError> {
        let mut request = self.agent.get(address.uri());
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        if let Some(token) = self.token.as_ref().filter(|_| self.is_home(address)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        request.call().map_err(|source| HubError::Unreachable {
            host: address.host(),
            url: address.shown(),
            answered_before: self.answered.get(),
            source: Box::new(source),
        })
    }

    fn is_home(&self, address: &Address) -> bool {
        address.origin() == self.endpoint.origin()
    }
}

/// Turns a final response into a reply, or its status into an error.
fn reply(
    address: Address,
    hub_headers: HeaderMap,
    response: Response<Body>,
) -> Result<Reply, HubError> {
    let status = response.status();
    let (parts, body) = response.into_parts();
    if !status.is_success() {
        let wait = retry_after(&parts.headers);
        return Err(HubError::Status { url: address.shown(), status: status.as_u16(), wait });
    }
    Ok(Reply { address, status: status.as_u16(), hub_headers, headers: parts.headers, body })
}

/// The pause that the host asks for: in seconds, or until a date, by its own clock
/// if it sends the time.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, "retry-after")?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = clock::http_date(value)?;
    let now = text(headers, "date").and_then(clock::http_date).unwrap_or_else(clock::unix_time);
    Some(Duration::from_secs(until.saturating_sub(now)))
}

/// Where a redirect leads, if it may be followed.
fn redirect_target(from: &Address, headers: &HeaderMap) -> Result<Address, HubError> {
    let location = text(headers, "location").unwrap_or_default();
    let refused = |target: String, reason| HubError::Redirect { url: from.shown(), target, reason };
    let target = from
        .join(location)
        .filter(|_| !location.is_empty())
        .ok_or_else(|| refused("nowhere".to_owned(), "it names no http(s) address"))?;
    if from.is_secure() && !target.is_secure() {
        return Err(refused(target.shown(), "it leads from an encrypted line to an open one"));
    }
    Ok(target)
}

/// A header's value as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The length that the headers promise for the body, in bytes.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, "content-length")?.trim().parse().ok()
}
