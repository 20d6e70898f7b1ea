//! Which fields of a record make its text: one of them, or several joined by a template.

use std::borrow::Cow;

use crate::error::DataError;
use crate::escape::unescape;
use crate::quote::escaped_excerpt;

/// The fields whose text is wanted, and how it is joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fields {
    /// The names, each once; a dot leads into an object.
    names: Vec<String>,
    /// The template; empty if the text is that of the only field.
    template: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// A field, by its place among the names.
    Field(usize),
}

/// What a record has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// No such field.
    Missing,
    Null,
    Text(Cow<'a, str>),
    /// A number or a truth value, as it is written.
    Scalar(&'a str),
    /// A list or an object, in words.
    Other(&'static str),
}

/// The result of reading a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// Its text, which may be empty.
    Text(String),
    /// No value.
    Null,
    /// The field that is not there.
    Missing(String),
    /// What is there in place of text.
    NotText(String),
}

impl Fields {
    /// The text of one field.
    pub(crate) fn column(name: &str) -> Self {
        Self { names: vec![name.to_owned()], template: Vec::new() }
    }

    /// A template such as `{instruction}\n{output}`; `{{` and `}}` are braces.
    ///
    /// # Errors
    /// [`DataError::Usage`] for an unmatched brace and a template without any field.
    pub(crate) fn template(typed: &str) -> Result<Self, DataError> {
        let wrong = |what: &str| {
            DataError::usage(
                format!("text_template is `{}`: {what}", escaped_excerpt(typed)),
                "write names of fields in braces, such as '{instruction}\\n{output}'; `{{` and \
                 `}}` are braces",
            )
        };
        let text = unescape("text_template", typed)?;
        let (mut names, mut template, mut literal) = (Vec::new(), Vec::new(), String::new());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                literal.push_str(&rest[..1]);
                rest = after;
                continue;
            }
            let name = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let (name, after) = name.ok_or_else(|| wrong("a brace without its other"))?;
            if name.trim().is_empty() || name.contains('{') {
                return Err(wrong("a name is missing"));
            }
            template.push(Part::Literal(std::mem::take(&mut literal)));
            let idx = names.iter().position(|known| known == name).unwrap_or(names.len());
            if idx == names.len() {
                names.push(name.to_owned());
            }
            template.push(Part::Field(idx));
            rest = after;
        }
        if names.is_empty() {
            return Err(wrong("no field is named"));
        }
        literal.push_str(rest);
        template.push(Part::Literal(literal));
        Ok(Self { names, template })
    }

    /// The names of the fields that have to be read.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The text of a record that has `values` under the names.
    ///
    /// In a template null is empty and numbers are written out; a record whose fields are all
    /// null is null, and one whose fields are all empty has no text.
    pub(super) fn join(&self, values: &mut [Value<'_>]) -> Joined {
        for (name, value) in self.names.iter().zip(&*values) {
            match value {
                Value::Missing => return Joined::Missing(name.clone()),
                Value::Other(kind) => {
                    return Joined::NotText(format!(
                        "`{}` is {kind}, not a string",
                        escaped_excerpt(name)
                    ));
                }
                Value::Scalar(written) if self.template.is_empty() => {
                    let is_number = written.starts_with(|c: char| c == '-' || c.is_ascii_digit());
                    let kind = if is_number { "a number" } else { "a boolean" };
                    return Joined::NotText(format!(
                        "`{}` is {kind}, not a string",
                        escaped_excerpt(name)
                    ));
                }
                _ => {}
            }
        }
        if values.iter().all(|value| *value == Value::Null) {
            return Joined::Null;
        }
        if self.template.is_empty() {
            return match values.first_mut().map(|value| std::mem::replace(value, Value::Null)) {
                Some(Value::Text(text)) => Joined::Text(text.into_owned()),
                _ => Joined::Null,
            };
        }
        let texts: Vec<&str> = values.iter().map(Value::written).collect();
        if texts.iter().all(|text| text.is_empty()) {
            return Joined::Text(String::new());
        }
        let parts = self.template.iter().map(|part| match part {
            Part::Literal(literal) => literal.as_str(),
            Part::Field(idx) => texts[*idx],
        });
        Joined::Text(parts.collect())
    }
}

impl Value<'_> {
    fn written(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Scalar(written) => written,
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn templates_join_fields() {
        let text = |text: &'static str| Value::Text(text.into());
        let cases: &[(&str, &[Value<'_>], Joined)] = &[
            (r"{a}\n{b}", &[text("1"), text("2")], Joined::Text("1\n2".into())),
            (r"{{{a}}} {b}{a}", &[text("1"), text("2")], Joined::Text("{1} 21".into())),
            (
                "Q: {a} A: {b}",
                &[Value::Scalar("4.0"), Value::Null],
                Joined::Text("Q: 4.0 A: ".into()),
            ),
            ("{a} {b}", &[Value::Null, Value::Null], Joined::Null),
            ("{a} {b}", &[text(""), Value::Null], Joined::Text("".into())),
            ("{a} {b}", &[text("1"), Value::Missing], Joined::Missing("b".into())),
            (
                "{a}",
                &[Value::Other("a list")],
                Joined::NotText("`a` is a list, not a string".into()),
            ),
        ];
        for (template, values, expected) in cases {
            let fields = Fields::template(template).unwrap();
            assert_eq!(fields.join(&mut values.to_vec()), *expected, "{template}");
        }
        assert_eq!(Fields::template("{x.y} {z}").unwrap().names(), ["x.y", "z"]);
    }

    #[test]
    fn one_column_is_text_or_nothing() {
        let fields = Fields::column("text");
        let join = |value: Value<'_>| fields.join(&mut [value]);
        assert_eq!(join(Value::Text("a".into())), Joined::Text("a".into()));
        assert_eq!(join(Value::Null), Joined::Null);
        assert_eq!(
            join(Value::Scalar("5")),
            Joined::NotText("`text` is a number, not a string".into())
        );
        assert_eq!(
            join(Value::Scalar("true")),
            Joined::NotText("`text` is a boolean, not a string".into())
        );
    }

    #[test]
    fn templates_that_cannot_be_meant_are_refused() {
        for wrong in ["", "text", "{a", "a}", "{}", "{ }", "{a{b}}", r"{a}\x"] {
            let error = Fields::template(wrong).unwrap_err().to_string();
            assert!(error.contains("text_template"), "{error}");
        }
    }
}
