//! Conversations: messages with roles, and the template that turns them into text.

mod jinja;
mod shapes;
mod template;

use serde::{Deserialize, Serialize};

pub(crate) use shapes::{EXPECTED, messages_of};
pub use template::ChatTemplate;

/// One turn of a conversation.
///
/// ```
/// use tinygpt_data::chat::Message;
/// let message: Message = serde_json::from_str(r#"{"role": "user", "content": "Hello!"}"#)?;
/// assert_eq!(message, Message::new("user", "Hello!"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is spoken.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}
