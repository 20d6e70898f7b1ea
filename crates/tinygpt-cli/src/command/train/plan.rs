//! `train --plan`: what a run needs and may reach, from a few timed steps. Nothing is written.

use anyhow::Result;
use indicatif::HumanBytes;
use serde::Serialize;
use tinygpt_data::Prepared;
use tinygpt_model::ComputeDevice;
use tinygpt_train::{RunSummary, StopFlag, TrainConfig, Trainer, Trial};

use super::expected::{Expected, expected_loss};
use crate::exit::Ended;
use crate::memory;
use crate::terminal::{Output, grouped, say, spoken};

/// Steps that are timed.
pub(super) const TIMED_STEPS: u64 = 20;

/// A run that is planned, in the order in which it is printed.
#[derive(Debug, Serialize)]
struct Plan {
    n_params: usize,
    train_tokens: usize,
    tokens_per_step: usize,
    step_seconds: f64,
    tokens_per_second: f64,
    eval_seconds: f64,
    start_iter: u64,
    max_iters: u64,
    tokens: u64,
    epochs: f64,
    /// Memory of this process.
    host_bytes: u64,
    /// Memory of the GPU.
    card_bytes: Option<u64>,
    /// Wall time from `start_iter` to the end.
    seconds: f64,
    expected: Option<Expected>,
    #[serde(skip)]
    why_not: String,
}

/// Times some steps of `config` and prints the plan.
///
/// # Errors
/// Those of training.
pub(super) fn plan(
    config: &TrainConfig,
    prepared: Prepared,
    device: &ComputeDevice,
    is_json: bool,
    stop: &StopFlag,
) -> Result<Ended> {
    say(&format!("timing {TIMED_STEPS} steps; nothing is written"));
    let Some((trainer, trial)) = measure(device, config, prepared, f64::INFINITY, stop)? else {
        return Ok(Ended::Stopped(stop.signal().unwrap_or_default()));
    };
    let plan = Plan::new(config, &trainer, trial);
    let text = if is_json { serde_json::to_string(&plan)? + "\n" } else { plan.table(config) };
    Output::lock().print(&text)?;
    Ok(Ended::Done)
}

/// A trainer that has made some timed steps, and their times; `None` if it was stopped. Nothing is
/// written, and `out_dir` is not locked.
///
/// # Errors
/// Those of training.
pub(super) fn measure(
    device: &ComputeDevice,
    config: &TrainConfig,
    prepared: Prepared,
    seconds: f64,
    stop: &StopFlag,
) -> Result<Option<(Trainer, Trial)>> {
    // A run that only evaluates claims no directory.
    let config = TrainConfig { eval_only: true, profile: false, ..config.clone() };
    let mut trainer = Trainer::on(device, config, prepared)?;
    Ok(trainer.trial(TIMED_STEPS, seconds, stop)?.map(|trial| (trainer, trial)))
}

impl Plan {
    fn new(config: &TrainConfig, trainer: &Trainer, trial: Trial) -> Self {
        let summary: RunSummary = trainer.summary();
        let start_iter = summary.start_iter - trial.n_made;
        let max_iters = config.max_iters;
        let tokens = max_iters * summary.tokens_per_step as u64;
        let windows = config.batch_size * config.gradient_accumulation_steps;
        let prepared = trainer.prepared();
        let expected = expected_loss(
            &config.dataset_name,
            &prepared.meta.encoding.to_string(),
            trainer.gpt().config().vocab_size,
            (summary.n_params as u64, tokens),
        );
        let expected = match config.init_from.is_model() {
            true => Err("not known for fine-tuning".to_owned()),
            false => expected,
        };
        Self {
            n_params: summary.n_params,
            train_tokens: summary.train_tokens,
            tokens_per_step: summary.tokens_per_step,
            step_seconds: trial.pace.step_seconds,
            tokens_per_second: summary.tokens_per_step as f64 / trial.pace.step_seconds,
            eval_seconds: trial.pace.eval_seconds,
            start_iter,
            max_iters,
            tokens,
            epochs: (max_iters * windows as u64) as f64 / summary.windows_per_epoch as f64,
            host_bytes: memory::peak_bytes().unwrap_or(summary.memory.total()),
            card_bytes: summary.device.is_cuda().then(|| summary.memory.total()),
            // Before the first step there is an evaluation, too.
            seconds: trial.pace.seconds(start_iter, max_iters, config.eval_interval)
                + if start_iter == 0 { trial.pace.eval_seconds } else { 0.0 },
            why_not: expected.as_ref().err().cloned().unwrap_or_default(),
            expected: expected.ok(),
        }
    }

    /// The plan for people.
    fn table(&self, config: &TrainConfig) -> String {
        let TrainConfig { n_layer, n_head, n_embd, block_size, .. } = config;
        let step = format!(
            "{} tokens, {:.0} ms, {} tokens/s",
            grouped(self.tokens_per_step as u64),
            self.step_seconds * 1e3,
            grouped(self.tokens_per_second as u64)
        );
        let card = self.card_bytes.map(|bytes| format!(", GPU {}", HumanBytes(bytes)));
        let rows = [
            (
                "model",
                format!(
                    "{} parameters: {n_layer} layers, {n_head} heads, width {n_embd}, context \
                     {block_size}",
                    grouped(self.n_params as u64)
                ),
            ),
            ("data", format!("{} training tokens", grouped(self.train_tokens as u64))),
            ("step", step),
            (
                "length",
                format!(
                    "{} steps, {} tokens, {:.2} epochs",
                    grouped(self.max_iters),
                    grouped(self.tokens),
                    self.epochs
                ),
            ),
            ("memory", format!("host {}{}", HumanBytes(self.host_bytes), card.unwrap_or_default())),
            (
                "time",
                format!(
                    "{}, of which each evaluation takes {}",
                    spoken(self.seconds),
                    spoken(self.eval_seconds)
                ),
            ),
            ("loss", self.loss()),
        ];
        rows.map(|(name, value)| format!("{name:8} {value}\n")).concat()
    }

    fn loss(&self) -> String {
        match self.expected {
            Some(Expected { val_loss, error, val_bpb }) => format!(
                "about {val_loss:.2} nats per token on validation data ({val_bpb:.2} bits per byte), \
                 give or take {error:.2}"
            ),
            None => format!("no expectation: {} (docs/scaling.md)", self.why_not),
        }
    }
}
