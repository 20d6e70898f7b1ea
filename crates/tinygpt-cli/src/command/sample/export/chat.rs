//! What other programs need to chat with an exported model: its chat template, and what ends a turn.

use std::path::Path;

use anyhow::Result;
use tinygpt_data::Tokenizer;
use tinygpt_model::gguf::{Metadata, Value};
use tinygpt_model::hf::{self, SpecialTokens};

/// The keys of a GGUF file; none for a model without a template.
pub(super) fn metadata(tokenizer: &Tokenizer) -> Result<Metadata> {
    let Some(template) = tokenizer.chat_template() else { return Ok(Metadata::new()) };
    let end_of_turn = template.end_of_turn(tokenizer)?;
    Ok(vec![
        ("tokenizer.chat_template".to_owned(), Value::String(template.source().to_owned())),
        ("tokenizer.ggml.eot_token_id".to_owned(), Value::U32(end_of_turn)),
    ])
}

/// Adds the end of a turn to the tokens that end a text in `generation_config.json`.
pub(super) fn add_end_of_turn(
    dir: &Path,
    tokenizer: &Tokenizer,
    special: SpecialTokens,
) -> Result<()> {
    let Some(template) = tokenizer.chat_template() else { return Ok(()) };
    Ok(hf::add_end_of_turn(dir, template.end_of_turn(tokenizer)?, special.eos)?)
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
        assert!(metadata(&tokenizer).unwrap().is_empty());
        let source = "{% for m in messages %}{{ m.content + '<|endoftext|>' }}{% endfor %}";
        let end = tokenizer.eot_id();
        let tokenizer = tokenizer.with_chat_template(ChatTemplate::new(source, None, None));
        let expected = [
            ("tokenizer.chat_template".to_owned(), Value::String(source.to_owned())),
            ("tokenizer.ggml.eot_token_id".to_owned(), Value::U32(end)),
        ];
        assert_eq!(metadata(&tokenizer).unwrap(), expected);
    }
}
