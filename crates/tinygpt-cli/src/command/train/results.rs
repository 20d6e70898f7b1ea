//! `train --json`: the results of a run as one line, for programs.

use serde::Serialize;
use serde_json::json;
use tinygpt_train::metrics::{self, FILE_NAME, Line};
use tinygpt_train::{EvalRecord, Outcome, TrainConfig, TrainError, Trainer};

use crate::exit::{self, Ended};
use crate::memory;
use crate::terminal::Output;

/// The results, in the order in which they are printed.
#[derive(Debug, Serialize)]
struct Results<'a> {
    /// Of the last evaluation, in bits per byte of text.
    val_bpb: Option<f32>,
    /// The same in nats per token.
    val_loss: Option<f32>,
    train_loss: Option<f32>,
    /// Of the checkpoint `best`.
    best_val_loss: Option<f32>,
    best_step: Option<u64>,
    /// Wall time of the run, in all its processes.
    seconds: f64,
    steps: u64,
    tokens: u64,
    epochs: f64,
    n_params: usize,
    /// The most memory that this process has had; null if the system does not count it.
    peak_bytes: Option<u64>,
    out_dir: &'a std::path::Path,
    outcome: &'static str,
    exit: u8,
}

/// Prints the results of a run that ended without an error.
///
/// # Errors
/// Standard output that cannot be written.
pub(super) fn print_results(
    config: &TrainConfig,
    trainer: &Trainer,
    outcome: Outcome,
    ended: Ended,
) -> anyhow::Result<()> {
    let eval = trainer.last_eval().cloned().or_else(|| last_eval_of(config).ok().flatten());
    let eval = eval.as_ref();
    let steps = trainer.n_steps();
    print(&Results {
        val_bpb: eval.map(|eval| eval.val_bits_per_byte),
        val_loss: eval.map(|eval| eval.val_loss),
        train_loss: eval.map(|eval| eval.train_loss),
        best_val_loss: trainer.best().map(|best| best.val_loss),
        best_step: trainer.best().map(|best| best.step),
        seconds: (trainer.seconds() * 1e3).round() / 1e3,
        steps,
        tokens: steps * trainer.tokens_per_step() as u64,
        epochs: (trainer.epochs() * 1e4).round() / 1e4,
        n_params: trainer.gpt().config().num_params(),
        peak_bytes: memory::peak_bytes(),
        out_dir: &config.out_dir,
        outcome: name_of(outcome),
        exit: exit::code_of_end(ended),
    })
}

/// Prints that the run ended with an error.
///
/// # Errors
/// Standard output that cannot be written.
pub(super) fn print_error(error: &anyhow::Error) -> anyhow::Result<()> {
    let message = tinygpt_train::chain(&**error);
    print(&json!({ "error": message, "outcome": "error", "exit": exit::code(error) }))
}

fn print(results: &impl Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(results)?;
    Ok(Output::lock().print(&format!("{line}\n"))?)
}

/// The last evaluation in the metrics of a run that had nothing left to do.
fn last_eval_of(config: &TrainConfig) -> Result<Option<EvalRecord>, TrainError> {
    let lines = metrics::read(&config.out_dir.join(FILE_NAME))?;
    Ok(lines.into_iter().rev().find_map(|line| match line {
        Line::Eval(record) => Some(record),
        _ => None,
    }))
}

fn name_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Finished => "finished",
        Outcome::AlreadyFinished => "already_finished",
        Outcome::Evaluated => "evaluated",
        Outcome::StoppedEarly(_) => "stopped_early",
        Outcome::TimeUp(_) => "time_up",
        Outcome::Stopped(_) => "stopped",
        _ => "ended",
    }
}
