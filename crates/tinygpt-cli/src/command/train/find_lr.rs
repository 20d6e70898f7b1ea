//! `train --find-lr`: a rising learning rate, its curve and a suggestion. The run itself is not kept.

use std::io::Read as _;
use std::path::Path;

use anyhow::Result;
use tinygpt_data::Prepared;
use tinygpt_model::ComputeDevice;
use tinygpt_train::{StopFlag, TrainConfig, Trainer, as_typed, chain, draw_rates, suggested_rate};

use crate::exit::Ended;
use crate::terminal::{Output, say};
use crate::usage::UsageError;

/// The rates of the first and the last step.
const RATES: (f64, f64) = (1e-6, 1.0);
/// Steps between them.
const STEPS: u64 = 100;

/// Refuses a file that is there and is not a drawing, before any work.
///
/// # Errors
/// [`UsageError`].
pub(super) fn check_drawing(path: &Path) -> Result<(), UsageError> {
    let mut start = [0; 4];
    let is_missing = !path.exists();
    let is_svg = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    if is_missing || is_svg.is_ok() && &start == b"<svg" {
        return Ok(());
    }
    Err(UsageError::new(format!("--find-lr {}: the file is there and is not SVG", path.display()))
        .hint("name another file"))
}

/// Tests rates on the configuration, draws the curve into `path` and prints the suggestion.
///
/// # Errors
/// Those of training; a drawing that cannot be written.
pub(super) fn find_lr(
    device: &ComputeDevice,
    config: &TrainConfig,
    prepared: Prepared,
    path: &Path,
    stop: &StopFlag,
) -> Result<Ended> {
    let (first, last) = RATES;
    say(&format!(
        "up to {STEPS} steps with learning rates from {} to {}; no checkpoint is written",
        as_typed(first),
        as_typed(last)
    ));
    // A run that only evaluates claims no directory.
    let config = TrainConfig { eval_only: true, profile: false, ..config.clone() };
    let points = Trainer::on(device, config, prepared)?.range_test(RATES, STEPS, stop)?;
    if let Some(signal) = stop.signal() {
        return Ok(Ended::Stopped(signal));
    }
    let suggested = suggested_rate(&points).map(rounded);
    match draw_rates(path, &points, suggested) {
        Ok(()) => say(&format!("curve: {}", path.display())),
        Err(error) => say(&format!("note: no curve: {}", chain(&error))),
    }
    let text = match suggested {
        Some(rate) => format!("--learning-rate {}\n", as_typed(rate)),
        None => "no suggestion: the loss did not fall\n".to_owned(),
    };
    Output::lock().print(&text)?;
    Ok(Ended::Done)
}

/// The rate with one digit: more digits would mean nothing.
fn rounded(rate: f64) -> f64 {
    format!("{rate:.0e}").parse().unwrap_or(rate)
}
