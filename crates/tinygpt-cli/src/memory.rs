//! Refuses a training run that cannot fit into this machine's memory, before it takes any.
//!
//! The estimate is the model crate's; how much there is, only Linux is asked. Elsewhere, and on a
//! GPU, nothing is refused: the system or the driver will.

use indicatif::HumanBytes;
use tinygpt_model::{ModelConfig, memory};
use tinygpt_train::TrainConfig;

use crate::usage::UsageError;

/// Checks that training with `vocab_size` rows of the token table fits.
///
/// # Errors
/// [`UsageError`] with the estimate, the memory there is, and what to lower.
pub fn check_fits(config: &TrainConfig, vocab_size: usize) -> Result<(), UsageError> {
    let model: ModelConfig = config.model_config(config.vocab_size.unwrap_or(0).max(vocab_size));
    let threads = config.resolved_threads();
    let estimate = memory::training_bytes(&model, config.batch_size, config.block_size, threads);
    match installed_bytes() {
        Some(installed) if estimate.total() > installed => Err(too_large(&estimate, installed)),
        _ => Ok(()),
    }
}

fn too_large(estimate: &memory::MemoryEstimate, installed: u64) -> UsageError {
    let (total, installed) = (HumanBytes(estimate.total()), HumanBytes(installed));
    let cure = if estimate.activations > estimate.total() / 2 {
        "lower `batch_size` (and raise `gradient_accumulation_steps`) or `block_size`"
    } else {
        "lower `n_layer`, `n_embd` or `vocab_size`"
    };
    UsageError::new(format!(
        "training needs about {total} of memory, and this machine has {installed}: {cure}"
    ))
}

/// The memory that this process may use at most: the machine's, or its control group's limit.
fn installed_bytes() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    Some(limit.min(kibibytes.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_beyond_any_machine_is_refused_and_the_usual_one_is_not() {
        let usual = TrainConfig { batch_size: 4, ..TrainConfig::default() };
        assert!(check_fits(&usual, 322).is_ok());
        let huge = TrainConfig { n_embd: 6 << 40, ..usual };
        assert_eq!(check_fits(&huge, 322).is_err(), cfg!(target_os = "linux"));
    }
}
