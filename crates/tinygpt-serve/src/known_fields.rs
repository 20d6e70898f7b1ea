//! Which fields a request may have: those that this server uses, those without effect on the text, and
//! unsupported ones with the value that changes nothing.
//!
//! Any other field is rejected, as OpenAI's API does: a setting that is silently ignored would give
//! another text than the client asked for. `null` is the same as an absent field.

use serde_json::{Value, json};

use tinygpt_model::SamplingParams;

use crate::error::ApiError;
use crate::fields::{Fields, wrong};

/// Fields that this server uses, in addition to the sampling parameters.
const USED: [&str; 13] = [
    "model",
    "prompt",
    "max_tokens",
    "max_completion_tokens",
    "logit_bias",
    "seed",
    "n",
    "best_of",
    "stop",
    "stream",
    "stream_options",
    "logprobs",
    "echo",
];

fn used() -> impl Iterator<Item = &'static str> {
    USED.into_iter().chain(SamplingParams::RANGES.map(|range| range.key))
}

/// Fields without effect on the text.
const WITHOUT_EFFECT: [&str; 12] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "cache_prompt",
    "id_slot",
    "request_id",
    "priority",
    "add_special_tokens",
];

/// Unsupported fields, with the values that change nothing.
fn neutral_values() -> [(&'static str, Value); 24] {
    [
        ("suffix", json!([""])),
        ("modalities", json!([["text"]])),
        ("response_format", json!([{"type": "text"}])),
        ("tools", json!([[]])),
        ("functions", json!([[]])),
        ("min_tokens", json!([0])),
        ("ignore_eos", json!([false])),
        ("skip_special_tokens", json!([true])),
        ("include_stop_str_in_output", json!([false])),
        ("use_beam_search", json!([false])),
        ("num_beams", json!([1])),
        ("length_penalty", json!([1])),
        ("early_stopping", json!([false])),
        ("typical_p", json!([1])),
        ("tfs_z", json!([1])),
        ("top_a", json!([0])),
        ("mirostat", json!([0])),
        ("mirostat_mode", json!([0])),
        ("dynatemp_range", json!([0])),
        ("dry_multiplier", json!([0])),
        ("xtc_probability", json!([0])),
        ("epsilon_cutoff", json!([0])),
        ("eta_cutoff", json!([0])),
        ("grammar", json!([""])),
    ]
}

/// Other names for our fields.
const SYNONYMS: [(&str, &str); 12] = [
    ("n_predict", "max_tokens"),
    ("num_predict", "max_tokens"),
    ("max_new_tokens", "max_tokens"),
    ("max_length", "max_tokens"),
    ("stop_sequences", "stop"),
    ("stopping_strings", "stop"),
    ("repeat_penalty", "repetition_penalty"),
    ("rep_pen", "repetition_penalty"),
    ("num_return_sequences", "n"),
    ("num_samples", "n"),
    ("top_logprobs", "logprobs"),
    ("messages", "prompt"),
];

/// Fields of texts that requests of answers do not have.
const NOT_OF_CHATS: [&str; 4] = ["prompt", "echo", "best_of", "suffix"];

/// Rejects fields that only requests of texts have.
///
/// # Errors
/// 400 with the first such field.
pub(crate) fn check_chat(fields: &Fields) -> Result<(), ApiError> {
    match NOT_OF_CHATS.into_iter().find(|name| fields.get(name).is_some()) {
        None => Ok(()),
        Some(name) => {
            let message = format!("unknown field `{name}`: use `messages`, or /v1/completions");
            Err(ApiError::unknown_field(name.to_owned(), message))
        }
    }
}

/// The most characters of a name in a message.
const QUOTED_CHARS: usize = 40;

/// Rejects unknown and unsupported fields.
///
/// # Errors
/// 400 with the first such field.
pub(crate) fn check(fields: &Fields) -> Result<(), ApiError> {
    // A parameter that the sampler has is not unsupported.
    let unsupported = neutral_values().into_iter().filter(|(name, _)| used().all(|it| it != *name));
    for (name, values) in unsupported {
        let Some(value) = fields.get(name) else { continue };
        let is_neutral = |neutral: &Value| {
            *neutral == *value || neutral.as_f64().is_some_and(|it| Some(it) == value.as_f64())
        };
        let list = values.as_array().map(Vec::as_slice).unwrap_or_default();
        if !list.iter().any(is_neutral) {
            let expected = list.first().map(Value::to_string).unwrap_or_default();
            let expected = format!("{expected} or no value: it is not supported");
            return Err(wrong(name, value, &expected));
        }
    }
    let is_known = |name: &str| {
        used().any(|known| known == name)
            || WITHOUT_EFFECT.contains(&name)
            || neutral_values().iter().any(|(known, _)| *known == name)
    };
    match fields.names().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> ApiError {
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == name).map(|(_, ours)| *ours);
    let near = || used().find(|ours| strsim::damerau_levenshtein(ours, name) <= 2);
    let hint = match synonym.or_else(near) {
        Some(ours) => format!("did you mean `{ours}`?"),
        None => "leave it out".to_owned(),
    };
    let quoted: String = name.chars().take(QUOTED_CHARS).collect();
    ApiError::unknown_field(quoted.clone(), format!("unknown field `{quoted}`: {hint}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn message(body: &Value) -> Option<String> {
        let fields = Fields::parse(body.to_string().as_bytes()).unwrap();
        let error = check(&fields).err()?;
        Some(error.json()["error"]["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn values_without_effect_are_accepted() {
        for body in [
            json!({"user": "me", "metadata": {"a": "b"}, "store": true, "suffix": null}),
            json!({"echo": false, "suffix": "", "typical_p": 1.0, "mirostat": 0, "grammar": ""}),
            json!({"unheard_of": null, "tools": [], "response_format": {"type": "text"}}),
        ] {
            assert_eq!(message(&body), None, "{body}");
        }
    }

    #[test]
    fn unsupported_and_unknown_fields_are_rejected_by_name() {
        for (body, expected) in [
            (json!({"num_beams": 4}), "`num_beams` is 4, expected 1 or no value"),
            (json!({"mirostat": 2}), "`mirostat` is 2, expected 0 or no value"),
            (json!({"suffix": "x"}), "`suffix` is \"x\""),
            (json!({"n_predict": 5}), "unknown field `n_predict`: did you mean `max_tokens`?"),
            (json!({"max_token": 5}), "unknown field `max_token`: did you mean `max_tokens`?"),
            (json!({"temprature": 1}), "did you mean `temperature`?"),
            (json!({"messages": []}), "did you mean `prompt`?"),
            (json!({"unheard_of": [1]}), "unknown field `unheard_of`: leave it out"),
        ] {
            let message = message(&body).unwrap();
            assert!(message.starts_with(expected) || message.ends_with(expected), "{message}");
        }
        let long = message(&json!({"x".repeat(100_000): 1})).unwrap();
        assert!(long.len() < 200, "{}", long.len());
    }
}
