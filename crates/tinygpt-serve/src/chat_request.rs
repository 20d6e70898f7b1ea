//! The body of `POST /v1/chat/completions`: the fields of completions, with `messages` for the prompt and
//! `logprobs` and `top_logprobs` as in the chat API.

use serde_json::{Value, json};
use tinygpt_data::chat::Message;

use crate::error::ApiError;
use crate::fields::{Fields, wrong};
use crate::known_fields;
use crate::queue::Prompt;
use crate::request::{CompletionRequest, MAX_TOKENS, ModelLimits};

/// The most alternatives of a token, as in OpenAI's API.
const MAX_TOP_LOGPROBS: i64 = 20;

/// Reads a body.
///
/// # Errors
/// 400 with the invalid field, 404 for another model.
pub(crate) fn parse(body: &[u8], limits: &ModelLimits) -> Result<CompletionRequest, ApiError> {
    let mut fields = Fields::parse(body)?;
    known_fields::check_chat(&fields)?;
    let messages = messages(fields.take("messages").unwrap_or_default())?;
    let logprobs = logprobs(&mut fields)?;
    // An answer ends by itself, so that its length has no other default.
    if ["max_tokens", "max_completion_tokens"].iter().all(|name| fields.get(name).is_none()) {
        fields.set("max_tokens", json!(MAX_TOKENS));
    }
    let mut request = CompletionRequest::of(&fields, vec![Prompt::Chat(messages)], limits)?;
    request.params.logprobs = logprobs;
    Ok(request)
}

/// How many alternatives of each token are reported, if tokens are.
fn logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let is_on = fields.flag("logprobs")?;
    let expected =
        format!("an integer from 0 to {MAX_TOP_LOGPROBS}, together with `logprobs`: true");
    let n_top = fields.whole("top_logprobs", 0..=MAX_TOP_LOGPROBS, &expected)?;
    fields.take("logprobs");
    match fields.take("top_logprobs") {
        Some(value) if !is_on && value != 0 => Err(wrong("top_logprobs", &value, &expected)),
        _ => Ok(is_on.then(|| n_top.unwrap_or(0) as usize)),
    }
}

/// The messages, at least one.
fn messages(value: Value) -> Result<Vec<Message>, ApiError> {
    let expected = "a list of messages such as {\"role\": \"user\", \"content\": \"Hello!\"}";
    let Some(items) = value.as_array().filter(|items| !items.is_empty()) else {
        return Err(wrong("messages", &value, expected));
    };
    let message = |(index, item)| {
        Message::from_json(item, &format!("messages[{index}]"))
            .map_err(|what| ApiError::field("messages", what))
    };
    items.iter().enumerate().map(message).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn request(body: &Value) -> Result<CompletionRequest, ApiError> {
        let limits =
            ModelLimits { model: "tiny".to_owned(), vocab_size: 10, eos: Some(0), choices: 8 };
        parse(body.to_string().as_bytes(), &limits)
    }

    #[test]
    fn messages_and_settings_are_read() {
        let body = json!({"messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "!"}]},
        ], "n": 2, "max_completion_tokens": 7, "logprobs": true, "top_logprobs": 3, "seed": 1});
        let found = request(&body).unwrap();
        let messages = vec![Message::new("system", "Be brief."), Message::new("user", "Hello!")];
        assert_eq!(found.prompts, [Prompt::Chat(messages)]);
        assert_eq!((found.n, found.params.max_new_tokens, found.params.logprobs), (2, 7, Some(3)));
        let least = request(&json!({"messages": [{"role": "user", "content": ""}]})).unwrap();
        assert_eq!((least.params.max_new_tokens, least.params.logprobs), (4096, None));
    }

    #[test]
    fn each_wrong_field_is_named() {
        let hello = json!([{"role": "user", "content": "Hello"}]);
        for (field, body) in [
            ("messages", json!({})),
            ("messages", json!({"messages": "Hello"})),
            ("messages", json!({"messages": []})),
            ("messages", json!({"messages": ["Hello"]})),
            ("messages", json!({"messages": [{"role": "tool", "content": "1"}]})),
            ("messages", json!({"messages": [{"role": "user"}]})),
            (
                "messages",
                json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            ),
            ("logprobs", json!({"messages": hello, "logprobs": 3})),
            ("top_logprobs", json!({"messages": hello, "top_logprobs": 3})),
            ("top_logprobs", json!({"messages": hello, "logprobs": true, "top_logprobs": 21})),
            ("prompt", json!({"messages": hello, "prompt": "a"})),
            ("echo", json!({"messages": hello, "echo": true})),
            ("temperature", json!({"messages": hello, "temperature": 3})),
            ("unheard_of", json!({"messages": hello, "unheard_of": 3})),
        ] {
            let error = request(&body).unwrap_err();
            assert_eq!(error.json()["error"]["param"], field, "{body}");
        }
    }
}
