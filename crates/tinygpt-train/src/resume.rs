//! Going on with a run: the newest good checkpoint, and whether it is the same run at all.
//!
//! A resumed run must be the run that was saved: other data, another tokenizer, another shape or
//! another seed are refused with both values. What may change (a longer run, another learning
//! rate, other threads) is taken and said.

use std::path::Path;

use candle_core::Device;
use tinygpt_data::Prepared;
use tinygpt_model::hf;

use crate::adamw::AdamW;
use crate::checkpoint::{self, BEST, Best, Found, LAST, OPTIMIZER_FILE, State};
use crate::config::TrainConfig;
use crate::error::{Rejected, TrainError};
use crate::start::{Named, Progress, Start, check_tokenizer, device_name, instruction_set};

/// Loads the newest good checkpoint of `config.out_dir`.
///
/// # Errors
/// [`TrainError::NothingToResume`], [`TrainError::NoGoodCheckpoint`], [`TrainError::Mismatch`] if
/// it belongs to another run.
pub(crate) fn resume(
    config: &TrainConfig,
    prepared: &Prepared,
    device: &Device,
) -> Result<Start, TrainError> {
    let found = checkpoint::newest_good(&config.out_dir)?
        .ok_or_else(|| TrainError::NothingToResume(config.out_dir.clone()))?;
    let Found { dir, state, rejected } = found;
    check_same_run(config, prepared, &dir, &state)?;
    let mut gpt = hf::read_dir(&dir, device)?;
    gpt.set_dropout(config.dropout)?;
    let moments = checkpoint::read_moments(&dir.join(OPTIMIZER_FILE), gpt.params())?;
    let threads = config.resolved_threads();
    let optimizer = AdamW::restore(config.adamw(), threads, state.optimizer_steps, moments);
    let mut notices: Vec<String> = rejected.iter().map(|r| passed_over(r, &state)).collect();
    notices.extend(changed_machine(threads, device, &state));
    notices.extend(changed_settings(config, &state.config));
    let best = usable_best(&config.out_dir, &state, &mut notices);
    let progress = Progress {
        step: state.step,
        window_cursor: state.window_cursor,
        last_eval_iter: state.last_eval_iter,
        best,
        skipped: state.skipped,
        last_saved: Some(state.step),
    };
    if !config.eval_only {
        // A crash may have come between a checkpoint and its links.
        checkpoint::point(&config.out_dir, LAST, state.step)?;
        if let Some(best) = best {
            checkpoint::point(&config.out_dir, BEST, best.step)?;
        }
    }
    let from = format!("the checkpoint {}", dir.display());
    Ok(Start { gpt, optimizer, progress, from, notices })
}

/// Refuses to go on where the numbers could not be those of the saved run.
fn check_same_run(
    config: &TrainConfig,
    prepared: &Prepared,
    dir: &Path,
    state: &State,
) -> Result<(), TrainError> {
    let mismatch = |key, saved: String, now: String, cure: String| {
        Err(TrainError::Mismatch { checkpoint: dir.to_path_buf(), key, saved, now, cure })
    };
    let saved = &state.config;
    let or_null = |size: Option<usize>| size.map_or("null".to_string(), |size| size.to_string());
    for (key, saved, now) in [
        ("n_layer", saved.n_layer.to_string(), config.n_layer.to_string()),
        ("n_head", saved.n_head.to_string(), config.n_head.to_string()),
        ("n_embd", saved.n_embd.to_string(), config.n_embd.to_string()),
        ("block_size", saved.block_size.to_string(), config.block_size.to_string()),
        ("bias", saved.bias.to_string(), config.bias.to_string()),
        ("vocab_size", or_null(saved.vocab_size), or_null(config.vocab_size)),
        ("seed", saved.seed.to_string(), config.seed.to_string()),
    ] {
        if saved != now {
            let cure = format!(
                "set `{key}` to {saved} again, or start a new run with another `--out-dir`"
            );
            return mismatch(key, saved, now, cure);
        }
    }
    check_tokenizer(&Named { dir, name: dir }, &state.tokenizer_sha256, prepared)?;
    let now = prepared.meta.fingerprint();
    if state.data_fingerprint != now {
        let cure = format!(
            "prepare {} again as it was, or start a new run with `--init-from {}` elsewhere",
            saved.dataset_name,
            dir.display()
        );
        return mismatch("the fingerprint of the data", state.data_fingerprint.clone(), now, cure);
    }
    Ok(())
}

fn passed_over(rejected: &Rejected, state: &State) -> String {
    let lost = step_of(&rejected.dir).map_or(0, |step| step.saturating_sub(state.step));
    format!(
        "CHECKPOINT DAMAGED: {} cannot be used ({}). Going on from step {} instead: {lost} steps \
         are lost and will be trained again",
        rejected.dir.display(),
        rejected.reason,
        state.step
    )
}

fn step_of(dir: &Path) -> Option<u64> {
    dir.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

fn changed_machine(threads: usize, device: &Device, state: &State) -> Option<String> {
    let saved = format!("{} {} {} threads", state.device, state.instruction_set, state.threads);
    let now = format!("{} {} {threads} threads", device_name(device), instruction_set());
    (saved != now).then(|| {
        format!(
            "saved on {saved}, going on with {now}: the results will differ in the last bits from \
             those of an uninterrupted run"
        )
    })
}

/// Which keys differ, but for those that only say how to start, where, and how much to save.
fn changed_settings(config: &TrainConfig, saved: &TrainConfig) -> Option<String> {
    const NOT_THE_RUN: [&str; 12] = [
        "init_from",
        "overwrite",
        "out_dir",
        "data_dir",
        "device",
        "threads",
        "eval_only",
        "verify_resume",
        "checkpoint_interval",
        "checkpoint_minutes",
        "keep_checkpoints",
        "max_seconds",
    ];
    let as_map = |config: &TrainConfig| match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (saved, now) = (as_map(saved), as_map(config));
    let changed: Vec<String> = now
        .iter()
        .filter(|(key, _)| !NOT_THE_RUN.contains(&key.as_str()))
        .filter_map(|(key, now)| {
            let saved = saved.get(key)?;
            (saved != now).then(|| format!("{key} {saved} → {now}"))
        })
        .collect();
    (!changed.is_empty()).then(|| format!("going on with other settings: {}", changed.join(", ")))
}

/// The best checkpoint, if it is still good; its loss alone would be a promise without a file.
fn usable_best(out_dir: &Path, state: &State, notices: &mut Vec<String>) -> Option<Best> {
    let best = state.best?;
    if best.step == state.step {
        return Some(best);
    }
    let dir = checkpoint::dir_of(out_dir, best.step);
    match checkpoint::open(&dir) {
        Ok(_) => Some(best),
        Err(error) => {
            notices.push(format!(
                "CHECKPOINT DAMAGED: the best one, {}, cannot be used ({}). The next \
                 evaluation chooses anew",
                dir.display(),
                checkpoint::why(&error)
            ));
            None
        }
    }
}
