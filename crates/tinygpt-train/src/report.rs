//! What a training run reports: its only output.
//!
//! The loop calls a [`Report`] at each event; the command line implements it with progress bars and
//! lines, a test with a vector. Nothing here prints. The records are also the lines of
//! `metrics.jsonl` (see [`crate::metrics`]). Losses are f32: they are computed in f32, and their
//! shortest decimal form survives JSON exactly, which a 17-digit f64 does not always.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tinygpt_kernels::profile::Entry;
use tinygpt_model::memory::MemoryEstimate;
use tinygpt_model::{ComputeDevice, KernelTime};

/// Receives the events of a training run. Every method has an empty default.
pub trait Report {
    /// Once, before the first step.
    fn run_summary(&mut self, _summary: &RunSummary) {}
    /// Before the first step of a resumed run: its metrics, cut back to the checkpoint.
    fn resumed(&mut self, _metrics: &Path) {}
    /// After each step.
    fn step(&mut self, _record: &StepRecord) {}
    /// In place of a skipped step.
    fn skip(&mut self, _record: &SkipRecord) {}
    /// After a run with a budget has changed its length.
    fn horizon(&mut self, _record: &HorizonRecord) {}
    /// During an evaluation, which can take minutes: `done` of `total` batches.
    fn evaluating(&mut self, _done: usize, _total: usize) {}
    /// After each evaluation.
    fn eval(&mut self, _record: &EvalRecord) {}
    /// A short text that the model generated, after an evaluation.
    fn sample(&mut self, _record: &SampleRecord) {}
    /// After a checkpoint has become durable.
    fn saved(&mut self, _saved: &SaveRecord) {}
    /// At the end of a run that was profiled.
    fn profile(&mut self, _profile: &Profile) {}
    /// Something the user should know and that does not stop the run.
    fn notice(&mut self, _text: &str) {}
}

/// Two reports of one run: both receive every event, the first one first.
pub struct Both<'a>(pub &'a mut dyn Report, pub &'a mut dyn Report);

impl fmt::Debug for Both<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Both")
    }
}

impl Report for Both<'_> {
    fn run_summary(&mut self, summary: &RunSummary) {
        self.0.run_summary(summary);
        self.1.run_summary(summary);
    }

    fn resumed(&mut self, metrics: &Path) {
        self.0.resumed(metrics);
        self.1.resumed(metrics);
    }

    fn step(&mut self, record: &StepRecord) {
        self.0.step(record);
        self.1.step(record);
    }

    fn skip(&mut self, record: &SkipRecord) {
        self.0.skip(record);
        self.1.skip(record);
    }

    fn horizon(&mut self, record: &HorizonRecord) {
        self.0.horizon(record);
        self.1.horizon(record);
    }

    fn evaluating(&mut self, done: usize, total: usize) {
        self.0.evaluating(done, total);
        self.1.evaluating(done, total);
    }

    fn eval(&mut self, record: &EvalRecord) {
        self.0.eval(record);
        self.1.eval(record);
    }

    fn sample(&mut self, record: &SampleRecord) {
        self.0.sample(record);
        self.1.sample(record);
    }

    fn saved(&mut self, saved: &SaveRecord) {
        self.0.saved(saved);
        self.1.saved(saved);
    }

    fn profile(&mut self, profile: &Profile) {
        self.0.profile(profile);
        self.1.profile(profile);
    }

    fn notice(&mut self, text: &str) {
        self.0.notice(text);
        self.1.notice(text);
    }
}

/// Ignores every event.
#[derive(Debug, Default)]
pub struct Silent;

impl Report for Silent {}

/// The run that is about to start.
#[derive(Debug, Clone)]
pub struct RunSummary {
    /// Steps already made, 0 unless the run is resumed.
    pub start_iter: u64,
    /// Steps after which the run is finished.
    pub max_iters: u64,
    /// Where the weights came from, in words.
    pub started_from: String,
    /// Number of weights; the tied head counts once.
    pub n_params: usize,
    /// Weights with weight decay (matrices and embeddings).
    pub n_decayed_params: usize,
    /// Tokens per step: accumulation · batch · block.
    pub tokens_per_step: usize,
    /// Tokens in the training split.
    pub train_tokens: usize,
    /// Tokens in the validation split.
    pub val_tokens: usize,
    /// Windows of `block_size + 1` tokens in one epoch of the training split.
    pub windows_per_epoch: usize,
    /// Conversations of the training split that are longer than a window.
    pub n_cut: usize,
    /// The memory that training is expected to use.
    pub memory: MemoryEstimate,
    /// The device.
    pub device: ComputeDevice,
    /// Threads used on the CPU.
    pub threads: usize,
    /// Processes that train together.
    pub ranks: usize,
    /// The vector instructions in use on the CPU.
    pub instruction_set: String,
    /// The measured speed of matrix products on this device, on a CPU with these threads, in
    /// floating-point operations per second, times the number of ranks; `None` on Metal.
    pub peak_flops: Option<f64>,
    /// The run's directory.
    pub out_dir: PathBuf,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Steps made before this one: the first is 0.
    pub iter: u64,
    /// Mean loss of the batch in nats per token, before the step.
    pub loss: f32,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// L2 norm of the whole gradient, before clipping.
    pub grad_norm: f32,
    /// Wall time of the step in milliseconds.
    pub step_ms: f64,
    /// Training tokens per second of this step.
    pub tokens_per_second: f64,
    /// The share of the machine's measured speed in matrix products that the step's arithmetic
    /// reached (model FLOPs utilisation, Chowdhery et al. 2022, appendix B); not on Metal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfu: Option<f32>,
}

/// One step that was not made, because its loss or gradient was not finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkipRecord {
    /// Steps before it: the number of the step that is missing.
    pub iter: u64,
    /// What was not finite.
    pub reason: String,
    /// The learning rate it would have had.
    pub learning_rate: f64,
    /// The first window of its batch, by number in the order of the data.
    pub first_window: u64,
    /// The last one.
    pub last_window: u64,
    /// Steps skipped since the last one that was made, including this one.
    pub in_row: u64,
    /// Steps skipped in the whole run, including this one.
    pub total: u64,
}

/// A run that was resumed with settings other than those it was saved with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResumeRecord {
    /// Steps made before it.
    pub iter: u64,
    /// By key, the saved value and the new one.
    pub changed: BTreeMap<String, [Value; 2]>,
}

/// A run with a budget that has changed its length, because the speed of the machine has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HorizonRecord {
    /// Steps made before it.
    pub iter: u64,
    /// The new length, which is also `lr_decay_iters`.
    pub max_iters: u64,
    /// The length before it.
    pub before: u64,
    /// The new ratio.
    pub warmdown_ratio: f64,
}

/// One evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// Steps made before it.
    pub iter: u64,
    /// Mean loss over fixed training windows, nats per token.
    pub train_loss: f32,
    /// Mean loss over fixed validation windows, nats per token.
    pub val_loss: f32,
    /// The validation loss per byte of text, in bits: comparable between tokenizers.
    pub val_bits_per_byte: f32,
    /// `exp(val_loss)`.
    pub perplexity: f32,
}

/// The text that the model generated at an evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// Steps made before it.
    pub iter: u64,
    /// The text, always from the same seed.
    pub text: String,
}

/// Where the time of a run's steps went.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Steps that were timed.
    pub n_steps: u64,
    /// Their wall time.
    pub seconds: f64,
    /// What took it.
    pub operations: Operations,
}

/// The operations of a step, as each kind of device measures them.
#[derive(Debug, Clone, PartialEq)]
pub enum Operations {
    /// On a CPU.
    Cpu {
        /// Number of threads.
        threads: usize,
        /// Thread seconds by operation.
        entries: Vec<Entry>,
        /// As in [`RunSummary`].
        peak_flops: Option<f64>,
    },
    /// On an NVIDIA GPU.
    Cuda {
        /// Seconds by kernel.
        kernels: Vec<KernelTime>,
        /// What the GPU reaches at best, as measured: bytes read and written by a copy.
        bytes_per_second: f64,
        /// Floating-point operations of a matrix product.
        flops_per_second: f64,
    },
}

/// A checkpoint that is on the disk.
#[derive(Debug, Clone, PartialEq)]
pub struct SaveRecord {
    /// Its directory.
    pub dir: PathBuf,
    /// Steps it holds.
    pub iter: u64,
    /// Whether it has the lowest validation loss of the run so far.
    pub is_best: bool,
    /// Wall time of the save in milliseconds, including its syncs.
    pub save_ms: f64,
}

/// A number as people type it: `0.2`, `3e-5`, `1`.
pub fn as_typed(number: f64) -> String {
    let shortest = format!("{number:?}");
    match shortest.strip_suffix(".0") {
        Some(whole) => whole.to_string(),
        None => shortest,
    }
}

/// `0.8431`, and from a million on `1.0000e30`: losses and norms of a run that explodes have dozens
/// of digits before the point, of which only the first few matter.
pub fn few_digits(number: f64, decimals: usize) -> String {
    if number.abs() < 1e6 {
        format!("{number:.decimals$}")
    } else {
        format!("{number:.decimals$e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_they_are_typed() {
        let numbers = [0.2, 3e-5, 6e-4, 1.0, 0.0, 4000.0, 1e300, 1e-3, 0.1 + 0.2];
        let expected =
            ["0.2", "3e-5", "0.0006", "1", "0", "4000", "1e300", "0.001", "0.30000000000000004"];
        assert_eq!(numbers.map(as_typed), expected);
    }
}
