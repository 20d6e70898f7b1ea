//! The length of a run that was given in tokens or epochs, in steps.
//!
//! It is known once the data is open, and is then part of the configuration of the run: a resumed
//! run has the same number of steps.

use anyhow::Result;
use tinygpt_data::{Loader, Prepared};
use tinygpt_train::TrainConfig;

use crate::options::{Layered, ProgramConfig, TrainOptions};

/// Replaces `--max-tokens` or `--max-epochs` by the smallest number of steps that reaches it.
///
/// # Errors
/// Data without a single window.
pub(super) fn resolve_horizon(
    layered: &mut Layered<TrainOptions>,
    config: &mut TrainConfig,
    program: &ProgramConfig,
    prepared: &Prepared,
) -> Result<()> {
    let windows = config.gradient_accumulation_steps * config.batch_size;
    let (key, max_iters) = match (program.max_tokens, program.max_epochs) {
        (Some(tokens), _) => ("max_tokens", tokens.div_ceil((windows * config.block_size) as u64)),
        (None, Some(epochs)) => {
            let (batch_size, block_size) = (config.batch_size, config.block_size);
            let loader = Loader::training(&prepared.train, batch_size, block_size, config.seed)?;
            let steps = epochs * loader.n_windows() as f64 / windows as f64;
            ("max_epochs", steps.ceil() as u64)
        }
        (None, None) => return Ok(()),
    };
    layered.set_horizon(key, max_iters.max(1));
    adopt(layered, config)
}

/// Takes the length of the run and its learning rate from the options.
pub(super) fn adopt(layered: &Layered<TrainOptions>, config: &mut TrainConfig) -> Result<()> {
    let now = layered.resolve()?.0;
    config.max_iters = now.max_iters;
    config.lr_decay_iters = now.lr_decay_iters;
    config.warmup_iters = now.warmup_iters;
    Ok(())
}
