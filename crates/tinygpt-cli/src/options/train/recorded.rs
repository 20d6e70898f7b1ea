//! Resuming: the configuration stored in the checkpoint, so that nobody has to type it again.
//!
//! A config file and flags that are given now override it; the training crate reports what changes.

use std::path::PathBuf;

use serde_json::{Map, Value};
use tinygpt_train::{InitFrom, Recorded, TrainError};

use super::super::layer::Layered;
use super::TrainOptions;

/// Keys that belong to one call of `train`, not to the run, and keys that others have replaced when
/// the run starts.
pub(super) const NOT_RECORDED: [&str; 17] = [
    "out_dir",
    "init_from",
    "overwrite",
    "eval_only",
    "verify_resume",
    "report",
    "serve",
    "max_seconds",
    "profile",
    "json",
    "plan",
    "find_lr",
    "sweep",
    "max_tokens",
    "max_epochs",
    "final_lr_frac",
    "decay_lr",
];

/// Puts the configuration of the newest checkpoint under `layered`, if that asks to resume.
///
/// # Errors
/// [`TrainError::NothingToResume`]; and the errors of reading the checkpoint.
pub(super) fn put_under(layered: Layered<TrainOptions>) -> anyhow::Result<Layered<TrainOptions>> {
    let options = &layered.options;
    let out_dir: PathBuf = options.get("out_dir").unwrap_or_default();
    let overwrite = options.get("overwrite") == Some(true);
    // An empty word and contradictions are refused together with all other faults.
    let (found, is_needed) = match options.get("init_from") {
        Some(InitFrom::Plateau(run_dir)) if !overwrite => {
            (Some(tinygpt_train::recorded_plateau(&run_dir)?), true)
        }
        Some(InitFrom::Resume) if !overwrite => (tinygpt_train::recorded(&out_dir)?, true),
        Some(InitFrom::Auto) if !overwrite => (tinygpt_train::recorded(&out_dir)?, false),
        _ => return Ok(layered),
    };
    match found {
        None if is_needed => Err(TrainError::NothingToResume(out_dir).into()),
        None => Ok(layered),
        Some(Recorded { dir, config, program, .. }) => {
            let is_fine_tuned = config.init_from.is_model();
            let shape = config.model_config(config.vocab_size.unwrap_or_default());
            let mut values = match serde_json::to_value(config)? {
                Value::Object(values) => values,
                _ => Map::new(),
            };
            values.extend(program);
            values.retain(|key, value| !NOT_RECORDED.contains(&key.as_str()) && !value.is_null());
            let mut layered = layered.resuming(dir.clone(), values)?;
            if is_fine_tuned {
                // As when it was started.
                layered.prefer_model_shape(&shape, &dir.display().to_string());
            }
            Ok(layered)
        }
    }
}
