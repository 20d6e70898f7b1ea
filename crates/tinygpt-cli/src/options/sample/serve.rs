//! The address and the key of a server: `--serve` of `sample` and `train`, and `--api-key`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The address of `--serve` if none follows.
pub(in crate::options) const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";

/// The port of an address without one.
const DEFAULT_PORT: u16 = 8080;

/// The accepted addresses.
pub(in crate::options) const EXPECTED: &str = "an address such as 127.0.0.1:8080, localhost:8080, [::1]:8080, \
                                   or only its port";

/// A server to start.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// The key that clients have to send.
    pub api_key: Option<String>,
}

/// Parses an address; a port alone means localhost.
pub(in crate::options) fn address(text: &str) -> Option<SocketAddr> {
    let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
        return Some(SocketAddr::new(own, port));
    }
    let numeric = text.replacen("localhost", "127.0.0.1", 1);
    let bare = numeric.trim_start_matches('[').trim_end_matches(']');
    let without_port = || bare.parse().ok().map(|ip| SocketAddr::new(ip, DEFAULT_PORT));
    numeric.parse().ok().or_else(without_port)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn addresses_come_in_many_forms() {
        for (text, expected) in [
            (DEFAULT_ADDRESS, "127.0.0.1:8080"),
            ("9000", "127.0.0.1:9000"),
            (":9000", "127.0.0.1:9000"),
            ("localhost", "127.0.0.1:8080"),
            ("localhost:1", "127.0.0.1:1"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("::1", "[::1]:8080"),
            ("[::1]:81", "[::1]:81"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "70000", "example.com:80", "127.0.0.1:x", "1.2.3", "http://localhost"] {
            assert!(address(text).is_none(), "{text}");
        }
    }
}
