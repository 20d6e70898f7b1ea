//! What the page tells of the model: who it is, what it was raised on, and how that went.
//!
//! Plain data, gathered by whoever starts the server.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The model card.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Card {
    /// The model's name, under which the API knows it.
    pub name: String,
    /// The dataset that it was trained on, where that is known.
    pub dataset: Option<String>,
    /// What a token is, in words.
    pub tokens: String,
    /// Number of weights; the tied head counts once.
    pub n_params: usize,
    /// Layers.
    pub n_layer: usize,
    /// Heads of attention in each.
    pub n_head: usize,
    /// Width.
    pub n_embd: usize,
    /// How many tokens it sees.
    pub block_size: usize,
    /// How many tokens it knows.
    pub vocab_size: usize,
    /// Updates that these weights have seen.
    pub n_iters: Option<u64>,
    /// How the loss fell, if that was recorded.
    pub curve: Curve,
    /// Where the page's controls stand at first.
    pub defaults: Defaults,
}

/// Losses in nats a token, by the number of updates.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// Of the training batches, smoothed.
    pub train: Vec<(u64, f32)>,
    /// Of the validation split.
    pub val: Vec<(u64, f32)>,
}

/// The controls.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Defaults {
    /// The text to go on from.
    pub prompt: String,
    /// The sampling parameters, by their keys.
    #[serde(flatten)]
    pub sampling: BTreeMap<&'static str, Value>,
    /// The longest text.
    pub max_tokens: usize,
    /// How many texts side by side.
    pub n: u64,
}
