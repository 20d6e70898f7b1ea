//! One message of a conversation, and how it is read from JSON: in datasets and in requests to a server.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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

    /// Reads `{"role", "content"}` as OpenAI's API has it, or `{"from", "value"}` as ShareGPT does. Roles of
    /// other names become `system`, `user` or `assistant`; content may be a list of text parts.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence that calls it `place`.
    ///
    /// ```
    /// use serde_json::json;
    /// use tinygpt_data::chat::Message;
    /// let turn = json!({"from": "human", "value": "Hello!"});
    /// assert_eq!(Message::from_json(&turn, "messages[0]"), Ok(Message::new("user", "Hello!")));
    /// ```
    pub fn from_json(turn: &Value, place: &str) -> Result<Self, String> {
        let role = turn.get("role").or_else(|| turn.get("from"));
        let role = match role.and_then(Value::as_str) {
            Some("user" | "human") => "user",
            Some("assistant" | "gpt" | "chatgpt" | "bot" | "model") => "assistant",
            Some("system" | "developer") => "system",
            Some(other) => {
                return Err(format!(
                    "`{place}` has the role `{}`, expected `system`, `user` or `assistant`",
                    other.chars().take(40).collect::<String>()
                ));
            }
            None => return Err(format!("`{place}` has no `role`")),
        };
        let content = turn.get("content").or_else(|| turn.get("value"));
        let content = content.ok_or_else(|| format!("`{place}` has no `content`"))?;
        Ok(Self::new(role, text(content, place)?))
    }
}

/// A text, or a list of parts that are texts.
fn text(content: &Value, place: &str) -> Result<String, String> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts
            .iter()
            .map(|part| {
                let is_text = part.get("type").is_none_or(|kind| kind == "text");
                let text = part.get("text").and_then(Value::as_str).filter(|_| is_text);
                text.ok_or_else(|| format!("`{place}` has content that is not text"))
            })
            .collect(),
        other => Err(format!("the content of `{place}` is {}, not a string", kind(other))),
    }
}

/// What a value is, for a message.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn roles_and_text_parts_have_other_names_too() {
        let parts = json!([{"type": "text", "text": "a"}, {"text": "b"}]);
        for (turn, role) in [
            (json!({"role": "developer", "content": parts}), "system"),
            (json!({"role": "model", "content": parts}), "assistant"),
            (json!({"from": "human", "value": parts}), "user"),
        ] {
            assert_eq!(Message::from_json(&turn, "x"), Ok(Message::new(role, "ab")), "{turn}");
        }
        for (turn, expected) in [
            (json!("Hi"), "`x` has no `role`"),
            (json!({"role": "tool", "content": "1"}), "`x` has the role `tool`, expected"),
            (json!({"role": "user", "content": [{"type": "image_url", "text": "a"}]}), "not text"),
            (json!({"role": "user", "content": ["a"]}), "not text"),
            (json!({"role": "user", "content": {}}), "of `x` is an object, not a string"),
        ] {
            let error = Message::from_json(&turn, "x").err().unwrap_or_default();
            assert!(error.contains(expected), "{turn}: {error}");
        }
    }
}
