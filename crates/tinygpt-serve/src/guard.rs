//! Checks on every request and security headers on every response.
//!
//! A server on a loopback address can be reached by any web page that its user opens. Such a page is
//! rejected by `Host` (a foreign name that resolves to this address: DNS rebinding), by `Origin`, and by
//! the type of the body (see `body.rs`). A server that other machines can reach has a key.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::http::{Request, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::error::{ApiError, cut};

/// Paths that start with this need the key.
const API: &str = "/v1/";
/// These paths need the key, too.
const OTHERS: [&str; 2] = ["/card", "/events"];

/// Which requests are accepted.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Whether only this machine can reach the server, so that `Host` must name it.
    loopback: bool,
    /// SHA-256 of the key.
    key: Option<[u8; 32]>,
}

impl Guard {
    /// For a server that listens on `address`.
    pub(crate) fn new(address: IpAddr, key: Option<&str>) -> Self {
        let key = key.map(|key| Sha256::digest(key.as_bytes()).into());
        Self { loopback: address.is_loopback(), key }
    }

    /// Checks a request.
    ///
    /// # Errors
    /// 400 without a single `Host`, 403 for a foreign one or a foreign `Origin`, 401 without the
    /// key.
    pub(crate) fn check(&self, request: &Request<Body>) -> Result<(), ApiError> {
        let host = host(request)?;
        if self.loopback && !is_this_machine(host.host()) {
            let message = format!(
                "`Host` is {}, expected localhost or a loopback address: this server listens on \
                 localhost only",
                cut(host.host())
            );
            return Err(ApiError::refused(StatusCode::FORBIDDEN, message).code("foreign_host"));
        }
        check_origin(request.headers(), &host)?;
        let path = request.uri().path();
        if path.starts_with(API) || OTHERS.contains(&path) {
            self.check_key(request.headers())?;
        }
        Ok(())
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(key) = &self.key else { return Ok(()) };
        let refused = |message: &str| {
            Err(ApiError::refused(StatusCode::UNAUTHORIZED, message).code("invalid_api_key"))
        };
        let value = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let Some(value) = value else {
            return refused("this server needs an API key in the header `Authorization: Bearer …`");
        };
        let given =
            value.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        let given: [u8; 32] = Sha256::digest(given.map_or(&[][..], |(_, given)| given)).into();
        // Constant time: all bytes of the digests are compared, wherever they differ.
        let difference = given.iter().zip(key).fold(0, |sum, (a, b)| sum | (a ^ b));
        if std::hint::black_box(difference) == 0 { Ok(()) } else { refused("wrong API key") }
    }
}

/// The name under which the server was reached.
fn host(request: &Request<Body>) -> Result<Authority, ApiError> {
    let bad = |message: &str| ApiError::refused(StatusCode::BAD_REQUEST, message).code("bad_host");
    let mut values = request.headers().get_all(header::HOST).iter();
    let value = values.next().ok_or_else(|| bad("the `Host` header is missing"))?;
    if values.next().is_some() {
        return Err(bad("there is more than one `Host` header"));
    }
    let host: Authority = value
        .to_str()
        .ok()
        .and_then(|value| value.parse().ok())
        .filter(|host: &Authority| !host.as_str().contains('@'))
        .ok_or_else(|| bad("the `Host` header is not a host name with an optional port"))?;
    match request.uri().authority() {
        Some(authority) if *authority != host => {
            Err(bad("`Host` and the URL name different servers"))
        }
        _ => Ok(host),
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Accepts pages of this server, and programs, which send no `Origin`.
fn check_origin(headers: &HeaderMap, host: &Authority) -> Result<(), ApiError> {
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str())) {
            let message = format!("requests from pages of `{}` are not allowed", cut(origin));
            return Err(ApiError::refused(StatusCode::FORBIDDEN, message).code("foreign_origin"));
        }
    }
    Ok(())
}

/// Headers of every response: a browser loads only this server's own files, and no other page can
/// frame, embed or read them. The page has no inline styles.
const HEADERS: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Adds the security headers to a response.
pub(crate) fn harden(response: &mut Response<Body>) {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn status(guard: &Guard, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let checked = guard.check(&request.body(Body::empty()).unwrap());
        checked.map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_names_of_this_machine_reach_a_loopback_server() {
        let guard = Guard::new("127.0.0.1".parse().unwrap(), None);
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:1", "127.3.2.1", "[::1]:80"] {
            assert_eq!(status(&guard, "/", &[("host", host)]), 200, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "[::2]"] {
            assert_eq!(status(&guard, "/", &[("host", host)]), 403, "{host}");
        }
        for host in ["", "a b", "user@localhost", "localhost:x y"] {
            assert_eq!(status(&guard, "/", &[("host", host)]), 400, "{host}");
        }
        assert_eq!(status(&guard, "/", &[]), 400);
        assert_eq!(status(&guard, "/", &[("host", "localhost"), ("host", "localhost")]), 400);
        assert_eq!(status(&guard, "http://evil.example/", &[("host", "localhost")]), 400);
    }

    #[test]
    fn pages_of_other_servers_are_rejected() {
        let guard = Guard::new("::1".parse().unwrap(), None);
        let with = |origin| status(&guard, "/", &[("host", "localhost:80"), ("origin", origin)]);
        assert_eq!([with("http://localhost:80"), with("https://LOCALHOST:80")], [200, 200]);
        for origin in ["http://localhost", "http://localhost:81", "null", "", "http://evil"] {
            assert_eq!(with(origin), 403, "{origin}");
        }
    }

    #[test]
    fn the_api_and_the_card_need_the_key() {
        let guard = Guard::new("0.0.0.0".parse().unwrap(), Some("secret"));
        let with = |path, key| status(&guard, path, &[("host", "box"), ("authorization", key)]);
        assert_eq!([with("/v1/models", "Bearer secret"), with("/card", "bearer secret")], [200; 2]);
        for key in ["Bearer secre", "Bearer secret2", "secret", "Basic secret", "Bearer ", ""] {
            assert_eq!(with("/v1/models", key), 401, "{key}");
        }
        assert_eq!(status(&guard, "/card", &[("host", "box")]), 401);
        assert_eq!(status(&guard, "/events", &[("host", "box")]), 401);
        assert_eq!(status(&guard, "/health", &[("host", "box")]), 200);
    }
}
