//! Limits on a `tokenizer.json`. The largest tokenizers in use are far below them;
//! a file beyond them would take minutes or gigabytes to encode a line with.

use serde_json::Value;

/// The most added tokens. The tokenizers of the hub have some thousands at most.
const MAX_ADDED_TOKENS: usize = 10_000;

/// The most steps of a pipeline, all kinds of steps together.
const MAX_STEPS: usize = 32;

/// The most bytes that a step may put before a text.
const MAX_PREFIX_BYTES: usize = 64;

/// The steps of a pipeline, by their keys, and the key of a sequence of such steps.
const PIPELINE: [(&str, &str); 4] = [
    ("normalizer", "normalizers"),
    ("pre_tokenizer", "pretokenizers"),
    ("post_processor", "processors"),
    ("decoder", "decoders"),
];

/// Refuses more tokens and steps than a tokenizer has. The error says what there is too much of.
pub(super) fn check_counts(json: &Value) -> Result<(), String> {
    let n_added = json["added_tokens"].as_array().map_or(0, Vec::len);
    if n_added > MAX_ADDED_TOKENS {
        return Err(format!(
            "{n_added} added tokens, more than the {MAX_ADDED_TOKENS} that a tokenizer may have"
        ));
    }
    let n_steps: usize = PIPELINE.iter().map(|(key, list)| steps(&json[key], list).len()).sum();
    if n_steps > MAX_STEPS {
        return Err(format!(
            "a pipeline of {n_steps} steps, more than the {MAX_STEPS} that a tokenizer may have"
        ));
    }
    Ok(())
}

/// Refuses steps that make a text longer: some of them in a row can make gigabytes of a line, and
/// what they add is in no text that was encoded.
pub(super) fn check_growth(json: &Value) -> Result<(), String> {
    let mut byte_levels = 0;
    for (key, list) in &PIPELINE[..2] {
        for step in steps(&json[key], list) {
            let kind = step["type"].as_str().unwrap_or_default();
            byte_levels += usize::from(kind == "ByteLevel");
            let grows = match kind {
                "Replace" => is_longer(&step["content"], &step["pattern"]),
                "Prepend" => length(&step["prepend"]) > MAX_PREFIX_BYTES,
                "Precompiled" => true,
                // Each writes a byte as up to two, and only one of them is undone.
                _ => byte_levels > 1,
            };
            if grows {
                return Err(format!("loses text: its {key} `{kind}` makes texts longer"));
            }
        }
    }
    Ok(())
}

/// All steps below `step`, those of sequences included.
fn steps<'a>(step: &'a Value, list: &str) -> Vec<&'a Value> {
    let mut all = Vec::new();
    let mut open = vec![step];
    while let Some(step) = open.pop() {
        match step[list].as_array() {
            Some(inner) => open.extend(inner),
            None if step.is_null() => {}
            None => all.push(step),
        }
    }
    all
}

/// Whether a replacement can be longer than what it replaces, which for a pattern is a character.
fn is_longer(content: &Value, pattern: &Value) -> bool {
    let replaced = pattern["String"].as_str().map_or(1, str::len);
    length(content) > replaced
}

fn length(text: &Value) -> usize {
    text.as_str().map_or(0, str::len)
}
