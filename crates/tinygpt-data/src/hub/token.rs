//! The user's access token of the hub.

use std::fmt;

/// A hub token. It cannot be printed.
///
/// ```
/// let token = tinygpt_data::hub::Token::new("hf_secret").unwrap();
/// assert_eq!(format!("{token:?}"), "Token(…)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Parses a token; `None` if it is blank or cannot be sent in a header.
    pub fn new(token: &str) -> Option<Self> {
        let token = token.trim();
        let sendable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        sendable.then(|| Self(token.to_owned()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
