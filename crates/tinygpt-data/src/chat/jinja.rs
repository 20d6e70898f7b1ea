//! Jinja as `transformers` sets it up for chat templates, with limits: a template is a stranger's program.
//!
//! Tokens are not known here.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, State, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::Message;
use crate::clock;

/// The name of the only template of an environment.
const NAME: &str = "chat template";

/// Instructions and pieces of 64 bytes that one rendering may use: some tenths of a second, 256 MB.
const FUEL: u64 = 4_000_000;

/// How deep calls and blocks may be nested.
const RECURSION: usize = 100;

/// Compiles a template; the error says what is wrong with it, and on which line.
pub(super) fn compile(source: &str) -> Result<Environment<'static>, String> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| error.to_string())?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    environment.add_filter("tojson", to_json);
    environment.add_test("iterable", is_iterable);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: &str| clock::strftime_now(format));
    environment
        .add_template_owned(NAME, without_generation_blocks(source))
        .map_err(|error| error.to_string())?;
    Ok(environment)
}

/// The text of `messages`; the error says why the template refuses them.
pub(super) fn render(
    environment: &Environment<'_>,
    [bos_token, eos_token]: [Option<&str>; 2],
    messages: &[Message],
    add_generation_prompt: bool,
) -> Result<String, String> {
    let template = environment.get_template(NAME).map_err(|error| error.to_string())?;
    let token = |token: Option<&str>| token.map_or(Value::UNDEFINED, Value::from);
    let context = context! {
        messages => messages.iter().map(value_of).collect::<Vec<_>>(),
        add_generation_prompt,
        bos_token => token(bos_token),
        eos_token => token(eos_token),
        tools => (),
        documents => (),
    };
    template.render(context).map_err(|error| error.to_string())
}

fn value_of(message: &Message) -> Value {
    Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
}

/// As in Python, where `None` is not iterable: templates ask this of `tools`.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// The template without the marks around answers (`{% generation %}`), which print nothing.
fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (before, tag) = (&rest[..start], &rest[start + 2..start + length]);
        out.push_str(before);
        let name = tag.trim_matches(['-', '+']).trim();
        let replaced = match name {
            "generation" => tag.replacen(name, "if true", 1),
            "endgeneration" => tag.replacen(name, "endif", 1),
            _ => tag.to_owned(),
        };
        out.push_str("{%");
        out.push_str(&replaced);
        out.push_str("%}");
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    out
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent.map(|width| " ".repeat(width.min(16))) {
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)),
        Some(indent) => {
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
    };
    let invalid = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::BadSerialization, format!("tojson: {error}"))
    };
    written.map_err(|error| invalid(&error))?;
    state.consume_fuel(bytes.len() as u64 / 8)?;
    String::from_utf8(bytes).map_err(|error| invalid(&error))
}

/// JSON in one line with a space after `,` and `:`.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn rendered(source: &str) -> Result<String, String> {
        let messages = [Message::new("user", " <Hi> "), Message::new("assistant", "Yes")];
        render(&compile(source)?, [Some("<s>"), None], &messages, true)
    }

    #[test]
    fn templates_print_what_jinja_prints() {
        for (source, expected) in [
            ("{{ bos_token }}{{ eos_token }}|{{ messages[0].content.strip() }}", "<s>|<Hi>"),
            ("{% if true %}\n  {% set x = 1 %}\n x={{ x }}\n{% endif %}\n", " x=1\n"),
            ("{{ messages[1:] | length }}{{ messages[-1]['content'].startswith('Y') }}", "1True"),
            ("{{ messages[0] | tojson }}", r#"{"role": "user", "content": " <Hi> "}"#),
            ("{{ [1, 'é'] | tojson(indent=2) }}", "[\n  1,\n  \"é\"\n]"),
            (
                "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}a{% endfor %}",
                "a",
            ),
            ("{%- generation %} x {%- endgeneration -%} y", " xy"),
            ("{% if tools is not none %}a{% endif %}{% if tools %}b{% endif %}c", "c"),
            (
                "{{ tools is iterable and tools | length > 0 }} {{ messages is iterable }} \
                 {{ 'a' is iterable }} {{ 1 is iterable }}",
                "False True True False",
            ),
            ("{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 2 %}{{ ns.n }}", "2"),
            ("{{ 'a,b'.split(',')[-1] }}{{ ' a' ~ 'b' | upper }}{{ 'ab'.rstrip('b') }}", "b aBa"),
        ] {
            assert_eq!(rendered(source).as_deref(), Ok(expected), "{source}");
        }
        assert_eq!(rendered("{{ strftime_now('%Y') }}").unwrap().len(), 4);
    }

    #[test]
    fn a_hostile_template_ends_with_an_error() {
        for (source, expected) in [
            (
                "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
                "fuel",
            ),
            (
                "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('aaaaaaaaaaaaaaaa') }}",
                "recursion",
            ),
            (
                "{% set ns = namespace(x='aaaaaaaa') %}\
                 {% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
                "fuel",
            ),
            ("{{ 'a' * 99999999999 }}", "fuel"),
            ("{{ raise_exception('no tools here') }}", "no tools here"),
            ("{{ messages[0].content.nothing() }}", "nothing"),
            ("{% include 'other' %}", "include"),
            ("a\n{% for %}", "chat template:2"),
            ("{% generation", "chat template:1"),
        ] {
            let error = rendered(source).unwrap_err();
            assert!(error.contains(expected), "{source}: {error}");
        }
    }
}
