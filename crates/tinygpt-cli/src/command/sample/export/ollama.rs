//! The `Modelfile` of `--export ollama`: which template, stop texts and settings Ollama uses with the GGUF file
//! next to it.
//!
//! Ollama's `TEMPLATE` is a Go template. ChatML is written as one. Any other chat template stays in the GGUF
//! file only, which Ollama 0.30 and later reads.

use std::fmt::Write as _;

use anyhow::Result;
use tinygpt_data::Tokenizer;
use tinygpt_model::SamplingParams;

use super::chat::end_of_turn;
use crate::options::SampleSettings;
use crate::terminal::say;
use crate::usage::UsageError;

/// Names of the two files.
pub(super) const WEIGHTS: &str = "model.gguf";
pub(super) const FILE_NAME: &str = "Modelfile";

/// ChatML. The end of each line belongs to it.
const CHATML: &str = "{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
";

/// The prompt and nothing else. Without a `TEMPLATE`, Ollama 0.30 and later would take ChatML.
const PLAIN: &str = "{{ .Prompt }}";

const NO_TEMPLATE: &str = "there is no TEMPLATE, because the chat template is not ChatML: Ollama 0.30 and later uses \
                           the one in model.gguf, older versions do not";

/// The longest name of a model that is suggested.
const MAX_NAME: usize = 40;

/// The text of the file.
///
/// # Errors
/// [`UsageError`] for a system message or a sampling parameter that Ollama cannot express.
pub(super) fn modelfile(
    tokenizer: &Tokenizer,
    context: usize,
    settings: &SampleSettings,
) -> Result<String> {
    let template = tokenizer.chat_template();
    let mut text = format!("FROM ./{WEIGHTS}\n");
    match template {
        None => text += &format!("TEMPLATE \"\"\"{PLAIN}\"\"\"\n"),
        Some(template) if template.is_chatml() => {
            text += &format!("TEMPLATE \"\"\"{CHATML}\"\"\"\n");
        }
        Some(_) => {
            say(&format!("note: {NO_TEMPLATE}"));
            text += &format!("# {NO_TEMPLATE}\n");
        }
    }
    if let Some(system) = &settings.system {
        text += &format!("SYSTEM \"\"\"{}\"\"\"\n", checked_system(system, template.is_some())?);
    }
    let end_of_turn = end_of_turn(tokenizer).map(|id| tokenizer.decode(&[id])).transpose()?;
    let mut stops: Vec<String> = end_of_turn.into_iter().collect();
    stops.push(tokenizer.decode(&[tokenizer.eot_id()])?);
    stops.dedup();
    for stop in stops.iter().chain(&settings.stop) {
        let quotes = if stop.contains(['"', '\n']) { "\"\"\"" } else { "\"" };
        text += &format!("PARAMETER stop {quotes}{stop}{quotes}\n");
    }
    Ok(text + &parameters(&settings.sampling, context)?)
}

/// The system message, if Ollama can read it and the model has one.
fn checked_system(system: &str, chats: bool) -> Result<&str> {
    let error = if !chats {
        UsageError::new("--system needs a model with a chat template, which this one lacks")
            .hint("remove --system")
    } else if system.contains("\"\"\"") {
        UsageError::new("--system contains \"\"\", which a Modelfile cannot express")
            .hint("use single quotes")
    } else {
        return Ok(system);
    };
    Err(error.into())
}

/// How tokens are chosen, under Ollama's names; those that Ollama has by default are written, too, since its
/// versions differ.
fn parameters(params: &SamplingParams, context: usize) -> Result<String> {
    if params.no_repeat_ngram_size != 0 {
        let error = UsageError::new(
            "--no-repeat-ngram-size cannot be exported: Ollama has no such parameter",
        );
        return Err(error.hint("remove --no-repeat-ngram-size").into());
    }
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "PARAMETER {name} {value}");
    };
    line("num_ctx", context.to_string());
    line("num_predict", params.max_new_tokens.to_string());
    line("temperature", params.temperature.to_string());
    line("top_k", params.top_k.to_string());
    line("top_p", params.top_p.to_string());
    line("min_p", params.min_p.to_string());
    line("repeat_penalty", params.repetition_penalty.to_string());
    line("presence_penalty", params.presence_penalty.to_string());
    line("frequency_penalty", params.frequency_penalty.to_string());
    // Penalties count the tokens of the whole context.
    line("repeat_last_n", "-1".to_owned());
    Ok(text)
}

/// A name that Ollama accepts, made from that of the model.
pub(super) fn model_name(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().take(MAX_NAME).map(kept).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_only_characters_that_ollama_accepts() {
        for (name, expected) in [
            ("tiny_talks", "tiny-talks"),
            ("Ünï Code!", "n--code"),
            ("gpt2", "gpt2"),
            ("…", "model"),
        ] {
            assert_eq!(model_name(name), expected);
        }
    }
}
