//! What the page shows about the model: its name, training data and loss curve.
//!
//! Plain data, collected by the caller.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The model card.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Card {
    /// The model's name, also in the API.
    pub name: String,
    /// The dataset it was trained on, if known.
    pub dataset: Option<String>,
    /// The kind of tokens, such as `byte pairs`.
    pub tokens: String,
    /// Number of parameters; the tied head counts once.
    pub n_params: usize,
    /// Layers.
    pub n_layer: usize,
    /// Attention heads per layer.
    pub n_head: usize,
    /// Width.
    pub n_embd: usize,
    /// Context length in tokens.
    pub block_size: usize,
    /// Vocabulary size.
    pub vocab_size: usize,
    /// Whether the model has a chat template.
    pub chat: bool,
    /// Training steps.
    pub n_iters: Option<u64>,
    /// The loss curve, if it was recorded.
    pub curve: Curve,
    /// Initial values of the page's controls.
    pub defaults: Defaults,
    /// The run, if it trains while it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveRun>,
}

/// A run that trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LiveRun {
    /// Steps after which it is finished.
    pub max_iters: u64,
}

/// Losses in nats per token, by step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// On the training batches, smoothed.
    pub train: Vec<(u64, f32)>,
    /// On the validation split.
    pub val: Vec<(u64, f32)>,
}

/// Initial values of the controls.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Defaults {
    /// The prompt.
    pub prompt: String,
    /// The sampling parameters, by their keys.
    #[serde(flatten)]
    pub sampling: BTreeMap<&'static str, Value>,
    /// Maximum number of tokens.
    pub max_tokens: usize,
    /// Number of samples.
    pub n: u64,
}
