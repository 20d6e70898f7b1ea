//! `train --budget`: the length of a run from the time that it may take.
//!
//! The length is fixed before the run, from timed steps. The trainer corrects it if the speed of the
//! machine changes (`trainer/budget.rs` in `tinygpt-train`).

use std::time::Instant;

use anyhow::Result;
use tinygpt_data::Prepared;
use tinygpt_model::ComputeDevice;
use tinygpt_train::{BUDGET_TARGET, StopFlag, TrainConfig};

use super::horizon::adopt;
use super::plan::measure;
use crate::options::{Layered, Origin, TrainOptions};
use crate::terminal::{grouped, say, spoken};
use crate::usage::UsageError;

/// The timed steps take at most about this fraction of the budget.
const TRIAL: f64 = 0.04;
/// The fewest steps that are worth a run.
const MIN_STEPS: u64 = 10;

/// Fixes the length of a run with a budget that starts now. `None` if it was stopped meanwhile.
///
/// # Errors
/// A budget that is too short, or other than that of the run that is resumed; those of training.
pub(super) fn resolve_budget(
    device: &ComputeDevice,
    layered: &mut Layered<TrainOptions>,
    config: &mut TrainConfig,
    prepared: Prepared,
    (started, stop): (Instant, &StopFlag),
) -> Result<Option<Prepared>> {
    let Some(budget) = config.budget else { return Ok(Some(prepared)) };
    if let Some(recorded) = layered.recorded("budget") {
        if recorded.as_str() == Some(&budget.to_string()) {
            return Ok(Some(prepared));
        }
        let recorded = recorded.as_str().unwrap_or("none").to_owned();
        return Err(UsageError::new(format!(
            "the run in {} started with --budget {recorded}, not {budget}: a budget is fixed before \
             the run",
            config.out_dir.display()
        ))
        .hint("leave --budget out, or start a new run with another --out-dir")
        .into());
    }
    let seconds = budget.seconds();
    say(&format!("timing some steps, to fit the run into {}", spoken(seconds)));
    let Some((trainer, trial)) = measure(device, config, prepared, TRIAL * seconds, stop)? else {
        return Ok(None);
    };
    let prepared = trainer.into_prepared();
    // Before the first step there is an evaluation, too.
    let begun = started.elapsed().as_secs_f64() + trial.pace.eval_seconds;
    let left = BUDGET_TARGET * seconds - begun;
    let max_iters = trial.pace.max_iters(0, left, config.eval_interval);
    if max_iters < MIN_STEPS {
        let needed = begun + trial.pace.seconds(0, MIN_STEPS, config.eval_interval);
        return Err(UsageError::new(format!(
            "--budget {budget} is too short: {MIN_STEPS} steps with their evaluations end after {}",
            spoken(needed)
        ))
        .hint("raise it, or lower --eval-iters, --batch-size or the size of the model")
        .into());
    }
    layered.set_horizon("budget", max_iters);
    // A warm-up for a longer run would be all of this one.
    let longest = max_iters / 10;
    if layered.given_by("warmup_iters") != Origin::Flag && config.warmup_iters > longest {
        layered.fit("warmup_iters", longest.into());
    }
    adopt(layered, config)?;
    let steps = grouped(max_iters);
    say(&format!(
        "budget   {}: {steps} steps of {:.0} ms",
        spoken(seconds),
        trial.pace.step_seconds * 1e3
    ));
    Ok(Some(prepared))
}
