//! Conversations: messages with roles, and the template that turns them into text.

mod jinja;
mod message;
mod shapes;
mod template;

pub use message::Message;
pub(crate) use shapes::{EXPECTED, are_conversations, messages_of};
pub use template::ChatTemplate;
