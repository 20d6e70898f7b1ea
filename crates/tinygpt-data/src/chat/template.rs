//! A chat template: conversations to text.

use minijinja::Environment;

use super::{Message, jinja};
use crate::error::DataError;

/// The template of a new model: each turn between `<|im_start|>` and `<|im_end|>`.
const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A Jinja template as in `tokenizer_config.json`, which turns a conversation into text.
///
/// ```
/// use tinygpt_data::chat::{ChatTemplate, Message};
/// let text = ChatTemplate::chatml().text(&[Message::new("user", "Hello!")])?;
/// assert_eq!(text, "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
/// # Ok::<(), tinygpt_data::DataError>(())
/// ```
#[derive(Clone)]
pub struct ChatTemplate {
    source: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    /// The compiled template, or what is wrong with it.
    compiled: Result<Environment<'static>, String>,
}

impl ChatTemplate {
    /// The special tokens of [`Self::chatml`].
    pub const CHATML_TOKENS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];

    /// A template and the names of the two tokens that it may print. A mistake in it is an error of
    /// its first use, so that a model with such a template can still be used without it.
    pub fn new(
        source: impl Into<String>,
        bos_token: Option<String>,
        eos_token: Option<String>,
    ) -> Self {
        let source = source.into();
        let compiled = jinja::compile(&source);
        Self { source, bos_token, eos_token, compiled }
    }

    /// ChatML, the template of new models.
    pub fn chatml() -> Self {
        Self::new(CHATML, None, None)
    }

    /// Whether conversations become the text that [`Self::chatml`] makes of them, however the template is
    /// written. A default system message, for example, is a difference.
    pub fn is_chatml(&self) -> bool {
        let turn = Message::new;
        let short = vec![turn("user", "Hello")];
        let long = vec![
            turn("system", "S"),
            turn("user", "Hi"),
            turn("assistant", "Yes"),
            turn("user", "A\nb"),
        ];
        [short, long].iter().all(|messages| {
            match (self.text(messages), Self::chatml().text(messages)) {
                (Ok(text), Ok(expected)) => text == expected,
                _ => false,
            }
        })
    }

    /// The Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The token that the template knows as `bos_token`.
    pub fn bos_token(&self) -> Option<&str> {
        self.bos_token.as_deref()
    }

    /// The token that the template knows as `eos_token`.
    pub fn eos_token(&self) -> Option<&str> {
        self.eos_token.as_deref()
    }

    /// The text of a conversation up to the start of the assistant's next turn, for people to read.
    ///
    /// # Errors
    /// [`DataError::ChatTemplate`] if the template is invalid or refuses the conversation.
    pub fn text(&self, messages: &[Message]) -> Result<String, DataError> {
        self.render(messages, true)
    }

    pub(crate) fn render(
        &self,
        messages: &[Message],
        generation: bool,
    ) -> Result<String, DataError> {
        let invalid = |what: &String| {
            DataError::chat_template(format!("is invalid: {what}"), "correct it, or use ChatML")
        };
        let environment = self.compiled.as_ref().map_err(invalid)?;
        let tokens = [self.bos_token(), self.eos_token()];
        jinja::render(environment, tokens, messages, generation).map_err(|what| {
            DataError::chat_template(
                format!("refuses the conversation: {what}"),
                "change the roles or their order: most templates take an optional `system` message, \
                 then `user` and `assistant` in turn",
            )
        })
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatml_is_recognized_by_what_it_prints() {
        let long = "{%- for m in messages -%}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{{ '' }}\
                    {%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant\n{{ '' }}{%- endif -%}";
        let default_system = format!(
            "{{% if messages[0].role != 'system' %}}<|im_start|>system\nBe kind.<|im_end|>\n{{% endif %}}{CHATML}"
        );
        let no_system = format!(
            "{{% if messages[0].role == 'system' %}}{{{{ raise_exception('no') }}}}{{% endif %}}{CHATML}"
        );
        for (source, expected) in [
            (CHATML, true),
            (long, true),
            (&default_system, false),
            (&no_system, false),
            ("{{ messages[0].content }}", false),
            ("{% for %}", false),
        ] {
            assert_eq!(ChatTemplate::new(source, None, None).is_chatml(), expected, "{source}");
        }
    }
}
