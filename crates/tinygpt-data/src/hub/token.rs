//! The token that the hub knows a user by.

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
    /// Takes a token as it stands in `HF_TOKEN`; `None` if it is blank or could not be sent.
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
