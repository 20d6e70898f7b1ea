//! Web addresses: where a redirect leads, which hosts may see the token, what may be shown.
//!
//! A thin layer over `http::Uri`, because three rules hang on it: the token goes to the
//! endpoint's origin only, never over an open line, and a message never shows a login or the
//! signed query of a storage address.

use std::net::IpAddr;

use ureq::http::Uri;

use crate::quote::escaped_message;

/// An absolute `http` or `https` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    uri: Uri,
}

impl Address {
    /// Reads an absolute address; `None` if it is not `http(s)://host…`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        (known && uri.host().is_some_and(|host| !host.is_empty())).then_some(Self { uri })
    }

    /// Resolves a `Location` header against this address (RFC 3986 §5.2, without dot segments).
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        if location.contains("://") && !location.starts_with('/') {
            return Self::parse(location);
        }
        let scheme = self.uri.scheme_str()?;
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let authority = self.uri.authority()?;
        let path = if location.starts_with('/') {
            location.to_owned()
        } else {
            let folder = self.uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        };
        Self::parse(&format!("{scheme}://{authority}{path}"))
    }

    /// Scheme, host and port: what decides who may see the token.
    pub(super) fn origin(&self) -> (bool, String, u16) {
        let secure = self.is_secure();
        let host = self.uri.host().unwrap_or_default().to_ascii_lowercase();
        (secure, host, self.uri.port_u16().unwrap_or(if secure { 443 } else { 80 }))
    }

    /// Whether the line is encrypted.
    pub(super) fn is_secure(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Whether the host is this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Scheme and host, for "could not reach …".
    pub(super) fn host(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let host = self.uri.host().unwrap_or_default();
        match self.uri.port_u16() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }

    /// The address fit to be shown: no login, no query (storage addresses are signed there).
    pub(super) fn shown(&self) -> String {
        escaped_message(&format!("{}{}", self.host(), self.uri.path()))
    }

    /// The address to be requested.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }
}

/// Percent-encodes a path by segment: `/` stays, all but RFC 3986's unreserved is encoded.
pub(super) fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn join(base: &str, location: &str) -> Option<String> {
        Address::parse(base).unwrap().join(location).map(|address| address.uri().to_string())
    }

    #[test]
    fn redirect_targets_resolve_as_browsers_do() {
        let base = "https://hub.example:8443/datasets/o/n/resolve/main/x.parquet";
        let is = |location, wanted: &str| assert_eq!(join(base, location).as_deref(), Some(wanted));
        is("/other/x", "https://hub.example:8443/other/x");
        is("y.parquet", "https://hub.example:8443/datasets/o/n/resolve/main/y.parquet");
        is("//cdn.example/y?sig=1", "https://cdn.example/y?sig=1");
        is("http://cdn.example/y", "http://cdn.example/y");
        assert_eq!(join(base, "ftp://cdn.example/y"), None);
        assert_eq!(join(base, "https://"), None);
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let origin = |text: &str| Address::parse(text).unwrap().origin();
        assert_eq!(origin("https://Hub.Example/a"), origin("https://hub.example:443/b"));
        assert_ne!(origin("https://hub.example/a"), origin("http://hub.example/a"));
        assert_ne!(origin("http://127.0.0.1:1/"), origin("http://127.0.0.1:2/"));
        assert_ne!(origin("https://hub.example/"), origin("https://hub.example.evil/"));
    }

    #[test]
    fn loopback_is_decided_by_address_and_not_by_name() {
        let loopback = |text: &str| Address::parse(text).unwrap().is_loopback();
        assert!(loopback("http://127.0.0.1:99/") && loopback("http://[::1]:99/"));
        assert!(loopback("http://localhost/"));
        assert!(!loopback("http://localhost.example/") && !loopback("http://127.0.0.1.evil/"));
    }

    #[test]
    fn what_is_shown_holds_neither_login_nor_signature() {
        let shown = Address::parse("https://me:secret@h.example/p?X-Signature=s").unwrap().shown();
        assert_eq!(shown, "https://h.example/p");
    }

    #[test]
    fn paths_are_encoded_by_segment() {
        assert_eq!(encode_path("data/a b#c?d%2e.parquet"), "data/a%20b%23c%3Fd%252e.parquet");
    }
}
