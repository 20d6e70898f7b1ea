//! The choices of OpenAI's chat API: a message, or the next part of it, and its tokens.

use serde_json::{Value, json};

use crate::delta::TokenReport;
use crate::response::Part;

impl Part {
    /// As a choice of the chat API: a whole message, or a part of a stream.
    pub(crate) fn chat_choice(self, has_logprobs: bool, is_stream: bool) -> Value {
        let Self { index, is_first, text, tokens, finish_reason } = self;
        let mut message = json!({});
        if is_first {
            message["role"] = json!("assistant");
        }
        // The last part of a stream may have no text.
        if is_first || !text.is_empty() {
            message["content"] = json!(text);
        }
        let logprobs = has_logprobs.then(
            || json!({"content": tokens.iter().map(token).collect::<Vec<_>>(), "refusal": null}),
        );
        json!({
            "index": index,
            (if is_stream { "delta" } else { "message" }): message,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        })
    }
}

fn token(report: &TokenReport) -> Value {
    let mut object = alternative(&report.name, report.logprob);
    let top = report.top.iter().map(|(name, logprob)| alternative(name, Some(*logprob)));
    object["top_logprobs"] = top.collect();
    object
}

/// A token with its bytes: those of an incomplete character are written in its name.
fn alternative(name: &str, logprob: Option<f32>) -> Value {
    let bytes: Vec<u8> = match name.strip_prefix("bytes:") {
        Some(escaped) => {
            escaped.split("\\x").filter_map(|hex| u8::from_str_radix(hex, 16).ok()).collect()
        }
        None => name.as_bytes().to_vec(),
    };
    json!({"token": name, "logprob": logprob, "bytes": bytes})
}
