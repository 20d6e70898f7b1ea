//! Reading the fields of a JSON object, one by one, with errors that name the field.
//!
//! An absent field and `null` are the same, as in OpenAI's API. `request.rs` decides what the fields
//! mean.

use axum::http::StatusCode;
use serde_json::{Map, Value};
use tinygpt_model::ParamRange;

use crate::error::ApiError;

/// The object of a request.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of `body`.
    ///
    /// # Errors
    /// 400 if it is not a JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let bad = |what: String| {
            ApiError::refused(
                StatusCode::BAD_REQUEST,
                format!("the body is {what}, expected a JSON object such as {{\"prompt\": \"…\"}}"),
            )
        };
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(other) => Err(bad(kind(&other))),
            Err(error) => Err(bad(format!("not valid JSON ({error})"))),
        }
    }

    /// The value of a field, unless it is `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Removes a field; `None` if it is absent or `null`.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Sets a field.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// The names of all fields that are not `null`.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
    }

    /// An integer within `range`; `expected` describes it.
    pub(crate) fn whole(
        &self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
        expected: &str,
    ) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_i64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(name, value, expected)),
        }
    }

    /// A sampling parameter within its range. -1 also turns `top_k` off, as on other servers.
    ///
    /// OpenAI's API allows temperatures up to 2 only. All other ranges are the sampler's.
    pub(crate) fn in_range(&self, range: &ParamRange) -> Result<Option<Value>, ApiError> {
        let range = match range.key {
            "temperature" => ParamRange { max: 2.0, ..*range },
            _ => *range,
        };
        let Some(value) = self.get(range.key) else { return Ok(None) };
        if range.key == "top_k" && value.as_i64() == Some(-1) {
            return Ok(None);
        }
        let is_kind = !range.is_integer || value.is_u64();
        if is_kind && value.as_f64().is_some_and(|number| range.contains(number)) {
            return Ok(Some(value.clone()));
        }
        let kind = if range.is_integer { "an integer" } else { "a number" };
        Err(wrong(range.key, value, &format!("{kind}, {}", range.expected())))
    }

    /// `true` or `false`; an absent field is false.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(wrong(name, other, "true or false")),
        }
    }

    /// A text.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, other, "a string")),
        }
    }
}

/// The error of a field that is not what was expected.
pub(crate) fn wrong(name: &'static str, got: &Value, expected: &str) -> ApiError {
    ApiError::field(name, format!("`{name}` is {}, expected {expected}", kind(got)))
}

/// A short description of a value: the value itself if it is short.
fn kind(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > 40 => "a long string".to_owned(),
        short => short.to_string(),
    }
}
