//! What other programs need to chat with an exported model: its chat template, and what ends a turn.

use std::path::Path;

use anyhow::Result;
use tinygpt_data::Tokenizer;
use tinygpt_model::gguf::{Metadata, Value};
use tinygpt_model::hf::{self, SpecialTokens};

/// The keys of a GGUF file; none for a model without a template.
pub(super) fn metadata(tokenizer: &Tokenizer) -> Metadata {
    let source = tokenizer.chat_template().map(|it| Value::String(it.source().to_owned()));
    let end_of_turn = end_of_turn(tokenizer).map(Value::U32);
    let all = [("tokenizer.chat_template", source), ("tokenizer.ggml.eot_token_id", end_of_turn)];
    all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// What ends a turn; none for a model that does not chat, whose template may not fit its tokenizer.
pub(super) fn end_of_turn(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.chat_template()?.end_of_turn(tokenizer).ok()
}

/// Adds the end of a turn to the tokens that end a text in `generation_config.json`.
pub(super) fn add_end_of_turn(
    dir: &Path,
    tokenizer: &Tokenizer,
    special: SpecialTokens,
) -> Result<()> {
    match end_of_turn(tokenizer) {
        Some(end_of_turn) => Ok(hf::add_end_of_turn(dir, end_of_turn, special.eos)?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tinygpt_data::Encoding;
    use tinygpt_data::chat::ChatTemplate;

    #[test]
    fn gguf_has_the_template_and_the_end_of_a_turn() {
        let tokenizer = Tokenizer::train(Encoding::Bpe, &["the owl"], 300).unwrap();
        assert!(metadata(&tokenizer).is_empty());
        let source = "{% for m in messages %}{{ m.content + '<|endoftext|>' }}{% endfor %}";
        let end = tokenizer.eot_id();
        let tokenizer = tokenizer.with_chat_template(ChatTemplate::new(source, None, None));
        let expected = [
            ("tokenizer.chat_template".to_owned(), Value::String(source.to_owned())),
            ("tokenizer.ggml.eot_token_id".to_owned(), Value::U32(end)),
        ];
        assert_eq!(metadata(&tokenizer), expected);
        // No special token ends its turns.
        let broken = ChatTemplate::new("{{ messages[0].content }}", None, None);
        let keys = metadata(&tokenizer.with_chat_template(broken));
        assert_eq!(keys.len(), 1, "{keys:?}");
    }
}
