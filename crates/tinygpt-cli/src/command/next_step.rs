//! The `train` command for a prepared dataset, and about how long it will take.
//!
//! The command works as printed: a config file of this repository, if it can be found from the
//! current directory, and flags for keys that differ from it.

use std::path::Path;

use serde_json::{Map, Value, json};
use tinygpt_data::{Encoding, Meta, PrepareRequest, Source, shell_word};
use tinygpt_kernels::peak::gemm_flops_per_second;
use tinygpt_model::hf;
use tinygpt_train::TrainConfig;

use super::starting_point::{STEP_EFFICIENCY, StartingPoint, TextSize};
use crate::options::{ConfigFile, Options as _, TrainOptions};
use crate::terminal::grouped;

/// Datasets with a config file in this repository.
const SHIPPED: [(&str, &str); 5] = [
    ("tiny_stories", "config/tiny_stories.json"),
    ("tiny_tales", "config/quickstart.json"),
    ("tiny_talks", "config/chat.json"),
    ("shakespeare_char", "config/shakespeare_char_cpu.json"),
    ("fineweb_edu", "config/gpt2_124m.json"),
];

/// The configuration for any other text.
const OWN_TEXT: &str = "config/own_text.json";

/// The configuration to fine-tune GPT-2 with.
const FINE_TUNE: &str = "config/finetune_gpt2.json";
const FINE_TUNE_CHAT: &str = "config/chat_gpt2.json";

/// The model of the quick start.
const QUICKSTART_MODEL: &str = "out-quickstart/best";

/// Text of fewer bytes is too little to learn a language from.
const LITTLE_TEXT: u64 = 1_000_000;

/// With fewer windows in an epoch, a model memorizes the text.
const FEW_WINDOWS: u64 = 160;

/// Models of this width or more are trained like GPT-2, others like the quick start's.
const GPT2_WIDTH: usize = 768;

/// The lines to print.
pub(super) fn lines(request: &PrepareRequest, meta: &Meta) -> Vec<String> {
    if let Some(config) = shipped_config(request) {
        return vec![format!("next: {}", shipped_command(request, meta, config))];
    }
    let text = TextSize::of(meta);
    let lines = match model_of_tokenizer(request) {
        Some(model) => fine_tuning(request, meta, text, &model),
        None => from_scratch(request, meta, text),
    };
    lines.unwrap_or_else(|| {
        let (train, val) = (grouped(text.train_tokens), grouped(text.val_tokens));
        vec![format!(
            "note: {train} training and {val} validation tokens are too few to train on: add text"
        )]
    })
}

/// The command that trains a new model on the text.
fn from_scratch(request: &PrepareRequest, meta: &Meta, text: TextSize) -> Option<Vec<String>> {
    let start = StartingPoint::of(text)?;
    let mut keys = Map::from_iter([("out_dir".to_owned(), json!(format!("out-{}", meta.dataset)))]);
    keys.extend(start.keys());
    let next = format!("next: {}", command(request, meta, OWN_TEXT, &keys));
    let mut lines = vec![next, expectation(text, &start, Some(seconds(&start, meta.vocab_size)))];
    lines.extend(few_windows(text, &start));
    lines.extend(advice(meta, text));
    Some(lines)
}

/// The config file of a dataset, if its text is the recipe's.
fn shipped_config(request: &PrepareRequest) -> Option<&'static str> {
    let (_, config) = SHIPPED.iter().find(|(name, _)| *name == request.dataset_name)?;
    (request.tokenizer.is_none() && Path::new(config).is_file()).then_some(*config)
}

fn shipped_command(request: &PrepareRequest, meta: &Meta, config: &str) -> String {
    let mut wanted = Map::new();
    let of_file = ConfigFile::read::<TrainOptions>(Path::new(config));
    let of_file = of_file.map(|file| file.values().clone()).unwrap_or_default();
    if of_file.contains_key("encoding_type") {
        wanted.insert("encoding_type".to_owned(), json!(meta.encoding));
    }
    // A few more rows than tokens do no harm.
    let rows = of_file.get("vocab_size").and_then(Value::as_u64);
    let fitting = meta.vocab_size as u64..=2 * meta.vocab_size as u64;
    if rows.is_some_and(|rows| !fitting.contains(&rows)) {
        wanted.insert("vocab_size".to_owned(), json!(meta.vocab_size));
    }
    command(request, meta, config, &wanted)
}

/// The command that trains with `config`, if it is here, and a flag for each of the `wanted` keys
/// that differs from it.
fn command(
    request: &PrepareRequest,
    meta: &Meta,
    config: &str,
    wanted: &Map<String, Value>,
) -> String {
    let defaults = serde_json::to_value(TrainConfig::default()).unwrap_or_default();
    let mut known = defaults.as_object().cloned().unwrap_or_default();
    let mut command = format!("cargo run --bin {} --", TrainOptions::BINARY);
    if let Ok(file) = ConfigFile::read::<TrainOptions>(Path::new(config)) {
        known.extend(file.values().clone());
        command.push_str(&format!(" --config-file {config}"));
    }
    let mut all = Map::new();
    all.insert("dataset_name".to_owned(), json!(meta.dataset));
    all.insert("data_dir".to_owned(), json!(request.data_dir));
    if meta.settings.chat.is_some() {
        all.insert("rows".to_owned(), json!("documents"));
    }
    all.extend(wanted.clone());
    for (key, value) in all {
        let is_same = match (known.get(&key).and_then(Value::as_f64), value.as_f64()) {
            // As good as equal: 3e-5 / 10 is not quite 3e-6.
            (Some(known), Some(value)) => (known - value).abs() <= 1e-6 * value.abs(),
            _ => known.get(&key) == Some(&value),
        };
        if !is_same {
            let value = value.as_str().map_or_else(|| typed(&value), str::to_owned);
            command.push_str(&format!(" --{} {}", key.replace('_', "-"), shell_word(&value)));
        }
    }
    command
}

/// A number as it would be typed: `0.002` and `3e-6`, not `2.9999999999999997e-6`.
fn typed(value: &Value) -> String {
    let rounded = value.as_f64().filter(|_| value.is_f64());
    let rounded = rounded.and_then(|number| format!("{number:.6e}").parse::<f64>().ok());
    rounded.map_or_else(|| value.to_string(), |number| json!(number).to_string())
}

/// What the command reads, how often, and about how long that takes on this machine, if known.
fn expectation(text: TextSize, start: &StartingPoint, seconds: Option<f64>) -> String {
    let tokens = grouped(text.train_tokens);
    let epochs = start.epochs(text);
    let read = if epochs < 1.5 {
        format!("{:.0}% of the {tokens} training tokens", (epochs * 100.0).min(100.0))
    } else {
        format!("the {tokens} training tokens {epochs:.0} times")
    };
    let time = seconds.map(|it| format!(", in about {} on this machine", rough(it)));
    format!("      reads {read}{}", time.unwrap_or_default())
}

/// The time of a run from scratch.
fn seconds(start: &StartingPoint, vocab_size: usize) -> f64 {
    let threads = TrainConfig::default().resolved_threads();
    start.flops(vocab_size) / (STEP_EFFICIENCY * gemm_flops_per_second(threads))
}

/// A rough duration.
fn rough(seconds: f64) -> String {
    let counted = |n: f64, unit: &str| match n.round() {
        1.0 => format!("1 {unit}"),
        n => format!("{n} {unit}s"),
    };
    match seconds {
        ..60.0 => "a minute".to_owned(),
        60.0..5400.0 => counted(seconds / 60.0, "minute"),
        5400.0..172_800.0 => counted(seconds / 3600.0, "hour"),
        _ => counted(seconds / 86_400.0, "day"),
    }
}

/// A warning if an epoch has few windows.
fn few_windows(text: TextSize, start: &StartingPoint) -> Option<String> {
    let (block_size, n) = (start.block_size, text.train_tokens / start.block_size as u64);
    (n < FEW_WINDOWS).then(|| {
        format!(
            "      a model will memorize so little text: an epoch has {n} windows of {block_size} tokens"
        )
    })
}

/// Suggestions for better text after the same time, for text in ASCII.
fn advice(meta: &Meta, text: TextSize) -> Vec<String> {
    let is_ascii = meta.train.n_bytes as f64 <= 1.05 * meta.train.n_characters as f64;
    if !is_ascii || meta.settings.tokenizer.is_some() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    if meta.encoding == Encoding::Simple {
        lines.push(
            "      to learn words faster, prepare again with --encoding-type bpe --vocab-size 4096"
                .to_owned(),
        );
    }
    if text.train_bytes < LITTLE_TEXT {
        let is_there = Path::new(QUICKSTART_MODEL).exists();
        let first = if is_there { "" } else { "train config/quickstart.json, then " };
        // Another encoding of a dataset has its own directory and needs no --force.
        let force = if meta.encoding == Encoding::Bpe { " --force" } else { "" };
        lines.push(format!(
            "      for stories in simple English, start from the quickstart's model: {first}prepare \
             again with --tokenizer {QUICKSTART_MODEL}{force}"
        ));
    }
    lines
}

/// The model of the tokenizer that was used.
struct Model {
    /// The value for `--init-from`.
    name: String,
    /// Its context, if it is on this machine.
    block_size: Option<usize>,
    is_large: bool,
}

/// The model next to the tokenizer that the text was prepared with, if there is one.
fn model_of_tokenizer(request: &PrepareRequest) -> Option<Model> {
    match request.tokenizer.as_ref()? {
        Source::Path(path) => {
            let dir = if path.is_dir() { path.clone() } else { path.parent()?.to_path_buf() };
            let has_weights = [hf::WEIGHTS, hf::INDEX].iter().any(|name| dir.join(name).is_file());
            let config = hf::read_config(&dir).ok().filter(|_| has_weights)?;
            let name = dir.display().to_string();
            let is_large = config.n_embd >= GPT2_WIDTH;
            Some(Model { name, block_size: Some(config.block_size), is_large })
        }
        hub @ Source::Hub { folder: None, .. } => {
            let name = hub.to_string();
            let name = name.strip_suffix("@main").unwrap_or(&name).to_owned();
            Some(Model { name, block_size: None, is_large: true })
        }
        Source::Hub { .. } | Source::Stdin => None,
    }
}

/// The command that fine-tunes a model on the text.
fn fine_tuning(
    request: &PrepareRequest,
    meta: &Meta,
    text: TextSize,
    model: &Model,
) -> Option<Vec<String>> {
    let start = match model.block_size {
        Some(context) if !model.is_large => StartingPoint::from_model(text, context),
        context => StartingPoint::from_gpt2(text, context),
    }?;
    let mut keys = Map::from_iter([
        ("init_from".to_owned(), json!(model.name)),
        ("out_dir".to_owned(), json!(format!("out-{}-finetuned", meta.dataset))),
    ]);
    // The model determines the shape.
    keys.extend(start.keys().into_iter().filter(|(key, _)| !key.starts_with("n_")));
    let config = match (model.is_large, meta.settings.chat.is_some()) {
        (true, true) => FINE_TUNE_CHAT,
        (true, false) => FINE_TUNE,
        (false, _) => OWN_TEXT,
    };
    let next = format!("next: {}", command(request, meta, config, &keys));
    let mut lines = vec![next, expectation(text, &start, None)];
    lines.extend(few_windows(text, &start));
    Some(lines)
}
