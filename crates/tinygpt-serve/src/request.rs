//! The body of `POST /v1/completions`: OpenAI's fields, and a few more (`top_k`, `min_p`,
//! `repetition_penalty`, `no_repeat_ngram_size`).
//!
//! Invalid values are rejected, and so are fields that the server would otherwise silently ignore
//! (`known_fields.rs`).

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use axum::http::StatusCode;
use serde_json::{Map, Value};
use tinygpt_model::SamplingParams;

use crate::error::{ApiError, cut};
use crate::fields::{Fields, wrong};
use crate::known_fields;
use crate::queue::Prompt;

/// As in OpenAI's API.
const DEFAULT_MAX_TOKENS: i64 = 16;

/// The newer name of `max_tokens`.
const NEW_NAME: &str = "max_completion_tokens";

/// The most tokens with a bias, as in OpenAI's API.
const MAX_BIASES: usize = 1024;

/// The longest text, in tokens.
pub(crate) const MAX_TOKENS: i64 = 4096;

/// The most alternatives per token.
const MAX_LOGPROBS: i64 = 5;

/// The most stop texts, and their maximum length in bytes.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// What this server's model supports.
#[derive(Clone, Debug)]
pub(crate) struct ModelLimits {
    /// The model's name.
    pub(crate) model: String,
    /// Number of tokens of the tokenizer.
    pub(crate) vocab_size: usize,
    /// The token that ends a document.
    pub(crate) eos: Option<u32>,
    /// The most texts of one request.
    pub(crate) choices: usize,
}

/// A checked request.
#[derive(Debug)]
pub(crate) struct CompletionRequest {
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) n: usize,
    pub(crate) params: SamplingParams,
    pub(crate) stop: Vec<String>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    /// Whether each text starts with its prompt.
    pub(crate) echo: bool,
}

impl CompletionRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 with the invalid field, 404 for another model.
    pub(crate) fn parse(body: &[u8], limits: &ModelLimits) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        let prompts = prompts(&fields, limits)?;
        Self::of(&fields, prompts, limits)
    }

    /// Reads the fields that requests of texts and of answers share.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn of(
        fields: &Fields,
        prompts: Vec<Prompt>,
        limits: &ModelLimits,
    ) -> Result<Self, ApiError> {
        if let Some(model) = fields.text("model")? {
            check_model(model, limits)?;
        }
        known_fields::check(fields)?;
        let most = limits.choices as i64;
        let n = fields.whole("n", 1..=most, &format!("an integer from 1 to {most}"))?;
        let n = n.unwrap_or(1) as usize;
        if let Some(best_of) =
            fields.get("best_of").filter(|value| value.as_u64() != Some(n as u64))
        {
            return Err(wrong("best_of", best_of, "nothing, or the same as `n`"));
        }
        if prompts.len() * n > limits.choices {
            let asked = format!("{} prompts with {n} texts each", prompts.len());
            return Err(ApiError::field("n", format!("{asked}, expected at most {most} in all")));
        }
        let stream = fields.flag("stream")?;
        Ok(Self {
            prompts,
            n,
            params: params(fields, limits)?,
            stop: stop(fields)?,
            stream,
            include_usage: include_usage(fields, stream)?,
            echo: fields.flag("echo")?,
        })
    }
}

/// Rejects the name of another model.
///
/// # Errors
/// 404.
pub(crate) fn check_model(name: &str, limits: &ModelLimits) -> Result<(), ApiError> {
    if name == limits.model {
        return Ok(());
    }
    let message =
        format!("unknown model `{}`, expected `{}` or no `model`", cut(name), limits.model);
    Err(ApiError::refused(StatusCode::NOT_FOUND, message).code("model_not_found"))
}

/// One or more prompts, each a text or token ids; without one, the start of a document.
fn prompts(fields: &Fields, limits: &ModelLimits) -> Result<Vec<Prompt>, ApiError> {
    let Some(value) = fields.get("prompt") else { return Ok(vec![Prompt::Ids(Vec::new())]) };
    let expected = "a string, a list of strings, a list of token ids, or a list of such lists";
    let bad = || wrong("prompt", value, expected);
    let prompts: Vec<Prompt> = match value {
        Value::String(text) => vec![Prompt::Text(text.clone())],
        Value::Array(items) => match items.first() {
            Some(Value::String(_)) => {
                let text = |item: &Value| item.as_str().map(|text| Prompt::Text(text.to_owned()));
                items.iter().map(text).collect::<Option<_>>().ok_or_else(bad)?
            }
            Some(Value::Array(_)) => {
                let of = |item: &Value| ids(item.as_array().ok_or_else(bad)?, limits);
                items.iter().map(of).collect::<Result<_, _>>()?
            }
            Some(Value::Number(_)) => vec![ids(items, limits)?],
            _ => return Err(bad()),
        },
        _ => return Err(bad()),
    };
    let most = limits.choices;
    if prompts.len() > most {
        let message = format!("`prompt` is a list of {}, expected at most {most}", prompts.len());
        return Err(ApiError::field("prompt", message));
    }
    Ok(prompts)
}

/// A list of token ids.
fn ids(items: &[Value], limits: &ModelLimits) -> Result<Prompt, ApiError> {
    let most = limits.vocab_size - 1;
    let id = |item: &Value| {
        let id = item.as_u64().filter(|id| *id <= most as u64);
        id.and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| wrong("prompt", item, &format!("token ids from 0 to {most}")))
    };
    items.iter().map(id).collect::<Result<_, _>>().map(Prompt::Ids)
}

/// The sampling parameters; without a field, the model's own distribution, as in OpenAI's API.
fn params(fields: &Fields, limits: &ModelLimits) -> Result<SamplingParams, ApiError> {
    let mut shape = Map::new();
    for range in &SamplingParams::RANGES {
        shape.extend(fields.in_range(range)?.map(|value| (range.key.to_owned(), value)));
    }
    let seed = fields.whole("seed", i64::MIN..=i64::MAX, "an integer")?;
    let logprobs = fields.whole(
        "logprobs",
        0..=MAX_LOGPROBS,
        &format!("an integer from 0 to {MAX_LOGPROBS}"),
    )?;
    let shape = SamplingParams::unfiltered().with(shape);
    let shape = shape.map_err(|e| ApiError::refused(StatusCode::BAD_REQUEST, e.to_string()))?;
    Ok(SamplingParams {
        max_new_tokens: max_tokens(fields)?,
        logit_bias: logit_bias(fields, limits)?,
        seed: seed.map_or_else(any_seed, i64::cast_unsigned),
        eos: limits.eos,
        vocab_size: Some(limits.vocab_size),
        logprobs: logprobs.map(|n| n as usize),
        ..shape
    })
}

/// The longest text, by either of its names.
fn max_tokens(fields: &Fields) -> Result<usize, ApiError> {
    let expected = format!("an integer from 0 to {MAX_TOKENS}");
    let of = |name| fields.whole(name, 0..=MAX_TOKENS, &expected);
    let (old, new) = (of("max_tokens")?, of(NEW_NAME)?);
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        let message = format!("`{NEW_NAME}` is {new} and `max_tokens` {old}, expected only one");
        return Err(ApiError::field(NEW_NAME, message));
    }
    Ok(new.or(old).unwrap_or(DEFAULT_MAX_TOKENS) as usize)
}

/// Values added to the logits of tokens, by id.
fn logit_bias(fields: &Fields, limits: &ModelLimits) -> Result<Vec<(u32, f32)>, ApiError> {
    const NAME: &str = "logit_bias";
    let Some(value) = fields.get(NAME) else { return Ok(Vec::new()) };
    let most = limits.vocab_size - 1;
    let expected = format!(
        "an object of at most {MAX_BIASES} token ids from 0 to {most}, each with a number from -100 \
         to 100"
    );
    let biases = value.as_object().filter(|biases| biases.len() <= MAX_BIASES);
    let read = |(id, bias): (&String, &Value)| {
        let id = id.parse().ok().filter(|id| *id as usize <= most)?;
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias))?;
        Some((id, bias as f32))
    };
    let biases = biases.and_then(|biases| biases.iter().map(read).collect());
    biases.ok_or_else(|| wrong(NAME, value, &expected))
}

/// A random seed. The standard library's hash keys are the only available randomness that needs
/// neither a clock nor a further crate.
pub(crate) fn any_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// One stop text or several.
fn stop(fields: &Fields) -> Result<Vec<String>, ApiError> {
    let Some(value) = fields.get("stop") else { return Ok(Vec::new()) };
    let expected = format!(
        "a string or a list of at most {MAX_STOPS} strings, none of them empty or longer than \
         {MAX_STOP_BYTES} bytes"
    );
    let bad = || wrong("stop", value, &expected);
    let texts: Vec<String> = match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => {
            let text = |item: &Value| item.as_str().map(str::to_owned);
            items.iter().map(text).collect::<Option<_>>().ok_or_else(bad)?
        }
        _ => return Err(bad()),
    };
    let is_valid = |text: &String| (1..=MAX_STOP_BYTES).contains(&text.len());
    if texts.len() > MAX_STOPS || !texts.iter().all(is_valid) {
        return Err(bad());
    }
    Ok(texts)
}

/// Whether a stream ends with the counts of tokens.
fn include_usage(fields: &Fields, stream: bool) -> Result<bool, ApiError> {
    const NAME: &str = "stream_options";
    let Some(value) = fields.get(NAME) else { return Ok(false) };
    let expected = "{\"include_usage\": true}, together with \"stream\": true";
    match value {
        Value::Object(options) if stream => match options.get("include_usage") {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(wrong(NAME, value, expected)),
        },
        _ => Err(wrong(NAME, value, expected)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(body: &str) -> Result<CompletionRequest, ApiError> {
        let limits =
            ModelLimits { model: "tiny".to_owned(), vocab_size: 10, eos: Some(0), choices: 8 };
        CompletionRequest::parse(body.as_bytes(), &limits)
    }

    #[test]
    fn absent_fields_have_the_defaults_of_openai() {
        let request = parse("{}").unwrap();
        assert_eq!(request.prompts, [Prompt::Ids(Vec::new())]);
        assert_eq!((request.n, request.stream, request.stop.len()), (1, false, 0));
        let SamplingParams { temperature, max_new_tokens, top_k, logprobs, .. } = request.params;
        assert_eq!((temperature, max_new_tokens, top_k, logprobs), (1.0, 16, 0, None));
        let nulls = r#"{"prompt": null, "max_tokens": null, "n": null, "stop": null, "seed": null,
            "logit_bias": {}, "suffix": null, "user": "x", "unheard_of": null}"#;
        assert!(parse(nulls).is_ok());
        assert_ne!(parse("{}").unwrap().params.seed, parse("{}").unwrap().params.seed);
    }

    #[test]
    fn penalties_and_biases_reach_the_sampler() {
        let body = r#"{"presence_penalty": 0.5, "frequency_penalty": -1, "no_repeat_ngram_size": 3,
            "logit_bias": {"5": -100, "7": 2.5}, "max_completion_tokens": 9}"#;
        let params = parse(body).unwrap().params;
        assert_eq!((params.presence_penalty, params.frequency_penalty), (0.5, -1.0));
        assert_eq!((params.no_repeat_ngram_size, params.max_new_tokens), (3, 9));
        assert_eq!(params.logit_bias, [(5, -100.0), (7, 2.5)]);
        let both = r#"{"max_tokens": 7, "max_completion_tokens": 7}"#;
        assert_eq!(parse(both).unwrap().params.max_new_tokens, 7);
    }

    #[test]
    fn prompts_come_in_four_forms() {
        let prompts = |prompt: &str| parse(&format!("{{\"prompt\": {prompt}}}")).unwrap().prompts;
        let text = |text: &str| Prompt::Text(text.to_owned());
        assert_eq!(prompts("\"a\""), [text("a")]);
        assert_eq!(prompts("[\"a\", \"b\"]"), [text("a"), text("b")]);
        assert_eq!(prompts("[1, 9]"), [Prompt::Ids(vec![1, 9])]);
        assert_eq!(prompts("[[1], []]"), [Prompt::Ids(vec![1]), Prompt::Ids(vec![])]);
    }

    #[test]
    fn each_wrong_field_is_named() {
        let table = [
            ("prompt", r#"{"prompt": 3}"#),
            ("prompt", r#"{"prompt": []}"#),
            ("prompt", r#"{"prompt": [1, "a"]}"#),
            ("prompt", r#"{"prompt": ["a", 1]}"#),
            ("prompt", r#"{"prompt": [10]}"#),
            ("prompt", r#"{"prompt": [-1]}"#),
            ("prompt", r#"{"prompt": ["","","","","","","","",""]}"#),
            ("max_tokens", r#"{"max_tokens": 4097}"#),
            ("max_tokens", r#"{"max_tokens": 1.5}"#),
            ("temperature", r#"{"temperature": "hot"}"#),
            ("temperature", r#"{"temperature": -0.1}"#),
            ("top_k", r#"{"top_k": -2}"#),
            ("top_p", r#"{"top_p": 1.1}"#),
            ("min_p", r#"{"min_p": -0.1}"#),
            ("repetition_penalty", r#"{"repetition_penalty": 0}"#),
            ("n", r#"{"n": 0}"#),
            ("n", r#"{"n": 9}"#),
            ("n", r#"{"n": 5, "prompt": ["a", "b"]}"#),
            ("best_of", r#"{"best_of": 2}"#),
            ("stream", r#"{"stream": "yes"}"#),
            ("stream_options", r#"{"stream_options": {"include_usage": true}}"#),
            ("stream_options", r#"{"stream": true, "stream_options": {"include_usage": 1}}"#),
            ("stop", r#"{"stop": ""}"#),
            ("stop", r#"{"stop": [1]}"#),
            ("seed", r#"{"seed": "x"}"#),
            ("logprobs", r#"{"logprobs": 6}"#),
            ("logprobs", r#"{"logprobs": true}"#),
            ("echo", r#"{"echo": "yes"}"#),
            ("suffix", r#"{"suffix": "x"}"#),
            ("logit_bias", r#"{"logit_bias": {"10": 1}}"#),
            ("logit_bias", r#"{"logit_bias": {"a": 1}}"#),
            ("logit_bias", r#"{"logit_bias": {"5": 101}}"#),
            ("logit_bias", r#"{"logit_bias": {"5": "1"}}"#),
            ("logit_bias", r#"{"logit_bias": [5]}"#),
            ("presence_penalty", r#"{"presence_penalty": 2.1}"#),
            ("frequency_penalty", r#"{"frequency_penalty": -3}"#),
            ("no_repeat_ngram_size", r#"{"no_repeat_ngram_size": -1}"#),
            ("max_completion_tokens", r#"{"max_completion_tokens": "5"}"#),
            ("max_completion_tokens", r#"{"max_completion_tokens": 5, "max_tokens": 6}"#),
            ("max_token", r#"{"max_token": 5}"#),
        ];
        for (field, body) in table {
            let error = parse(body).unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_REQUEST, "{body}");
            assert_eq!(error.json()["error"]["param"], field, "{body}");
        }
        assert_eq!(parse(r#"{"model": "big"}"#).unwrap_err().status, StatusCode::NOT_FOUND);
        assert!(parse(r#"{"model": "tiny"}"#).is_ok());
    }
}
