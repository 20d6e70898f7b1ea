//! A model and a run for a text of a given size: a table from size to shape and number of steps.
//!
//! A text of less than 10 MB gets about the shape of the quick start, which trains in minutes. A
//! short text is read at most 15 times: the validation loss rises again when a model memorizes the
//! training text.

use serde_json::{Map, Value, json};
use tinygpt_data::Meta;

/// A row of the table.
struct Row {
    /// The row is for training text of fewer bytes.
    below_bytes: u64,
    n_layer: usize,
    n_head: usize,
    n_embd: usize,
    block_size: usize,
    batch_size: usize,
    max_iters: u64,
    learning_rate: f64,
}

/// From the smallest text to the largest. The first row is config/own_text.json.
const ROWS: [Row; 3] = [
    Row {
        below_bytes: 10_000_000,
        n_layer: 3,
        n_head: 5,
        n_embd: 160,
        block_size: 128,
        batch_size: 16,
        max_iters: 1300,
        learning_rate: 2e-3,
    },
    Row {
        below_bytes: 100_000_000,
        n_layer: 4,
        n_head: 8,
        n_embd: 256,
        block_size: 256,
        batch_size: 16,
        max_iters: 4000,
        learning_rate: 1e-3,
    },
    Row {
        below_bytes: u64::MAX,
        n_layer: 6,
        n_head: 6,
        n_embd: 384,
        block_size: 256,
        batch_size: 32,
        max_iters: 10_000,
        learning_rate: 1e-3,
    },
];

/// The most epochs of a text, and the fewest steps.
///
/// Measured with the first row's shape on 3 to 200 KB of English: the loss on held-out text is
/// lowest after 10 to 30 epochs, and before 100 steps the model spells no words. A pretrained model
/// needs half as many.
const MAX_EPOCHS: u64 = 15;
const MIN_STEPS: u64 = 100;
const MIN_STEPS_OF_MODEL: u64 = 50;

/// The learning rate at the end of a run, if it starts above this.
const MIN_LR: f64 = 2e-4;

/// Speed of a training step as a fraction of a plain matrix product, roughly.
pub(super) const STEP_EFFICIENCY: f64 = 0.5;

/// The shortest context that a model can learn anything in.
const MIN_CONTEXT: usize = 8;

/// The size of a prepared text.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextSize {
    /// Bytes of training text.
    pub(super) train_bytes: u64,
    pub(super) train_tokens: u64,
    pub(super) val_tokens: u64,
}

impl TextSize {
    pub(super) fn of(meta: &Meta) -> Self {
        Self {
            train_bytes: meta.train.n_bytes,
            train_tokens: meta.train.n_tokens,
            val_tokens: meta.val.n_tokens,
        }
    }
}

/// A shape and a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StartingPoint {
    pub(super) n_layer: usize,
    pub(super) n_head: usize,
    pub(super) n_embd: usize,
    pub(super) block_size: usize,
    pub(super) batch_size: usize,
    pub(super) gradient_accumulation_steps: usize,
    pub(super) max_iters: u64,
    pub(super) learning_rate: f64,
}

impl StartingPoint {
    /// For a text of this size; `None` if it is too short for any model.
    pub(super) fn of(text: TextSize) -> Option<Self> {
        Self::of_row(&ROWS[row_of(text)], text)
    }

    /// For a run of at most this many floating-point operations: the largest model of the table, up to
    /// that of the text, of whose run at least half fits; the smallest if none does.
    pub(super) fn within(flops: f64, text: TextSize, vocab_size: usize) -> Option<Self> {
        let fits = |start: &Self| start.flops(vocab_size) <= 2.0 * flops;
        let mut larger = ROWS[1..=row_of(text)].iter().rev();
        let largest = larger.find_map(|row| Self::of_row(row, text).filter(fits));
        largest.or_else(|| Self::of_row(&ROWS[0], text))
    }

    fn of_row(row: &Row, text: TextSize) -> Option<Self> {
        let block_size = block_size(row.block_size, text)?;
        Some(Self {
            n_layer: row.n_layer,
            n_head: row.n_head,
            n_embd: row.n_embd,
            block_size,
            batch_size: row.batch_size,
            gradient_accumulation_steps: 1,
            max_iters: steps(row.max_iters, MIN_STEPS, text, row.batch_size * block_size),
            learning_rate: row.learning_rate,
        })
    }

    /// For fine-tuning a small model with this context: a lower learning rate, so that it does not
    /// forget its training.
    pub(super) fn from_model(text: TextSize, context: usize) -> Option<Self> {
        let start = Self::of(text)?;
        let block_size = block_size(context.min(128), text)?;
        let batch_size = 16;
        let max_iters = steps(1300, MIN_STEPS_OF_MODEL, text, batch_size * block_size);
        Some(Self { block_size, batch_size, max_iters, learning_rate: 5e-4, ..start })
    }

    /// For fine-tuning GPT-2 or a model like it, whose steps are slow.
    pub(super) fn from_gpt2(text: TextSize, context: Option<usize>) -> Option<Self> {
        let start = Self::of(text)?;
        Some(Self {
            block_size: block_size(context.unwrap_or(1024).min(256), text)?,
            batch_size: 2,
            gradient_accumulation_steps: 4,
            max_iters: 100,
            learning_rate: 3e-5,
            ..start
        })
    }

    /// The keys of a configuration of `train`.
    pub(super) fn keys(&self) -> Map<String, Value> {
        let length = json!({
            "max_iters": self.max_iters,
            "warmup_iters": if self.max_iters < 200 { self.max_iters / 10 } else { 50 },
            "eval_interval": self.eval_interval(),
        });
        let mut keys = self.keys_of_any_length();
        keys.extend(length.as_object().cloned().unwrap_or_default());
        keys
    }

    /// Those of the keys that do not depend on the number of steps.
    pub(super) fn keys_of_any_length(&self) -> Map<String, Value> {
        let keys = json!({
            "n_layer": self.n_layer,
            "n_head": self.n_head,
            "n_embd": self.n_embd,
            "block_size": self.block_size,
            "batch_size": self.batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "dropout": 0.0,
            "learning_rate": self.learning_rate,
            "min_lr": if self.learning_rate > MIN_LR { MIN_LR } else { self.learning_rate / 10.0 },
        });
        keys.as_object().cloned().unwrap_or_default()
    }

    /// Ten evaluations at round step numbers, fewer if steps are slow.
    fn eval_interval(&self) -> u64 {
        if self.learning_rate > MIN_LR { self.max_iters.div_ceil(100) * 10 } else { 25 }
    }

    /// How many times the run reads the training text.
    pub(super) fn epochs(&self, text: TextSize) -> f64 {
        (self.max_iters * self.tokens_per_step()) as f64 / text.train_tokens.max(1) as f64
    }

    /// Tokens of one step.
    fn tokens_per_step(&self) -> u64 {
        (self.gradient_accumulation_steps * self.batch_size * self.block_size) as u64
    }

    /// Floating-point operations of the whole run for a vocabulary of this size. For each token, the
    /// forward pass takes two for each weight, the backward pass four.
    pub(super) fn flops(&self, vocab_size: usize) -> f64 {
        let (layers, width) = (self.n_layer as f64, self.n_embd as f64);
        let weights = 12.0 * layers * width * width + width * vocab_size as f64;
        // Scores and weighted sums of attention, half of which are masked.
        let attention = 2.0 * layers * width * self.block_size as f64 / 2.0;
        6.0 * (weights + attention) * (self.max_iters * self.tokens_per_step()) as f64
    }
}

/// The row for a text of this size.
fn row_of(text: TextSize) -> usize {
    ROWS.iter().position(|row| text.train_bytes < row.below_bytes).unwrap_or(ROWS.len() - 1)
}

/// The context: that of the row, or less, so that both splits have some windows of it.
fn block_size(usual: usize, text: TextSize) -> Option<usize> {
    let shorter = text.train_tokens.min(text.val_tokens);
    let most = usize::try_from(shorter.checked_sub(1)?).unwrap_or(usize::MAX);
    let comfortable = most / 4;
    let mut block_size = usual;
    while block_size > MIN_CONTEXT && block_size > comfortable {
        block_size /= 2;
    }
    (block_size <= most).then_some(block_size)
}

/// The number of steps: that of the row, or fewer if they read the text often enough.
fn steps(usual: u64, fewest: u64, text: TextSize, tokens_per_step: usize) -> u64 {
    let epochs = MAX_EPOCHS * text.train_tokens / (tokens_per_step as u64).max(1);
    let steps = usual.min(epochs.max(fewest));
    // Rounded to tens.
    if steps == usual { steps } else { steps.div_ceil(10) * 10 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn text(train_bytes: u64, train_tokens: u64, val_tokens: u64) -> TextSize {
        TextSize { train_bytes, train_tokens, val_tokens }
    }

    #[test]
    fn the_smallest_row_is_the_configuration_for_own_text() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/own_text.json");
        let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let keys = StartingPoint::of(text(5_000_000, 1_500_000, 150_000)).unwrap().keys();
        for (key, value) in keys {
            assert_eq!(file[&key].as_f64(), value.as_f64(), "{key}");
        }
    }

    #[test]
    fn gpt2_is_fine_tuned_as_its_configuration_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/finetune_gpt2.json");
        let Ok(file) = std::fs::read_to_string(path) else { return };
        let file: Value = serde_json::from_str(&file).unwrap();
        let keys =
            StartingPoint::from_gpt2(text(9_000_000, 1 << 20, 1 << 17), None).unwrap().keys();
        for (key, value) in keys.into_iter().filter(|(key, _)| !key.starts_with("n_")) {
            let (ours, theirs) = (value.as_f64().unwrap(), file[&key].as_f64().unwrap());
            assert!((ours - theirs).abs() <= 1e-6 * ours, "{key}: {ours} and {theirs}");
        }
    }

    #[test]
    fn a_run_grows_with_the_text() {
        for (size, shape, max_iters) in [
            (text(100, 90, 10), (3, 8), 100),
            (text(3_500, 3_150, 350), (3, 64), 100),
            (text(20_000, 18_000, 2_000), (3, 128), 140),
            (text(200_000, 55_000, 6_000), (3, 128), 410),
            (text(9_000_000, 2_700_000, 300_000), (3, 128), 1300),
            (text(20_000_000, 5_000_000, 500_000), (4, 256), 4000),
            (text(2_000_000_000, 500_000_000, 5_000_000), (6, 256), 10_000),
        ] {
            let start = StartingPoint::of(size).unwrap();
            assert_eq!((start.n_layer, start.block_size), shape, "{size:?}");
            assert_eq!(start.max_iters, max_iters, "{size:?}");
        }
    }

    #[test]
    fn a_model_fits_the_time_and_the_text() {
        let large = text(2_000_000_000, 500_000_000, 5_000_000);
        let small = text(9_000_000, 2_700_000, 300_000);
        let run = |text, n_layer| {
            let starts = [1e6, 20e6, 2e9].map(|n| TextSize { train_bytes: n as u64, ..text });
            let starts = starts.map(|text| StartingPoint::of(text).unwrap());
            starts.into_iter().find(|start| start.n_layer == n_layer).unwrap().flops(4096)
        };
        let layers = |flops, text| StartingPoint::within(flops, text, 4096).unwrap().n_layer;
        for (flops, n_layer) in [
            (0.0, 3),
            (0.49 * run(large, 4), 3),
            (0.51 * run(large, 4), 4),
            (0.49 * run(large, 6), 4),
            (0.51 * run(large, 6), 6),
            (1e30, 6),
        ] {
            assert_eq!(layers(flops, large), n_layer, "{flops:e}");
            assert_eq!(layers(flops, small), 3, "{flops:e}");
        }
        assert!(StartingPoint::within(1e30, text(9, 5, 0), 64).is_none());
    }

    #[test]
    fn the_context_fits_both_splits_and_the_schedule_the_run() {
        for train_tokens in [1u64, 2, 9, 10, 33, 100, 1000, 12_345, 1 << 20, 1 << 40] {
            for val_tokens in [0u64, 1, 2, 8, 9, 10, 33, 500, 1 << 30] {
                let size = text(train_tokens, train_tokens, val_tokens);
                let Some(start) = StartingPoint::of(size) else {
                    assert!(train_tokens.min(val_tokens) <= 32, "{size:?}");
                    continue;
                };
                let block_size = start.block_size as u64;
                assert!(block_size < train_tokens && block_size < val_tokens, "{size:?}");
                assert_eq!(start.n_embd % start.n_head, 0);
                let keys = start.keys();
                assert!(keys["warmup_iters"].as_u64() < Some(start.max_iters / 3));
                assert!(keys["eval_interval"].as_u64() <= Some(start.max_iters / 5));
                let fine = StartingPoint::from_model(size, 32).unwrap();
                assert!(fine.block_size <= 32 && fine.block_size <= start.block_size);
                assert!(fine.learning_rate < start.learning_rate);
            }
        }
    }

    #[test]
    fn operations_are_six_for_each_weight_and_token() {
        // GPT-2's smallest: 124 million weights are 0.75 GFLOP a token and a little for attention.
        let start = StartingPoint {
            n_layer: 12,
            n_head: 12,
            n_embd: 768,
            block_size: 1024,
            batch_size: 1,
            gradient_accumulation_steps: 1,
            max_iters: 1,
            learning_rate: 1.0,
        };
        let per_token = start.flops(50_257) / 1024.0;
        assert!((0.74e9..0.86e9).contains(&per_token), "{per_token}");
    }
}
