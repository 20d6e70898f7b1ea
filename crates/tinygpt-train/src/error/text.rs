//! The parts of the messages that depend on what happened.

use std::ops::Range;
use std::path::Path;

use tinygpt_data::{Shown, excerpt, excerpt_quoted, shell_word};

use super::{Fault, Rejected};
use crate::checkpoint::{DIR_NAME, STATE_FILE, Skipped};
use crate::report::{as_typed, few_digits};

pub(super) fn on_dataset(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!(" on dataset `{}`", excerpt(name)))
}

pub(super) fn nothing_to_resume(dir: &Path) -> String {
    let run = dir.parent().and_then(Path::parent).filter(|_| dir.join(STATE_FILE).exists());
    match run {
        // A checkpoint was named: of `run/best` the run is the parent, of `run/checkpoints/step-1`
        // the parent's parent.
        Some(above) => {
            let parent = dir.parent().unwrap_or(above);
            let is_listed = parent.file_name().is_some_and(|name| name == DIR_NAME);
            let run = if is_listed { above } else { parent };
            format!(
                "{} is a checkpoint: name the run, `out_dir` {}",
                Shown(dir),
                shell_word(&Shown(run).to_string())
            )
        }
        None => "name the directory of a run with `out_dir`, or start one with `init_from` \
                 scratch (`auto` resumes if there is a checkpoint)"
            .to_string(),
    }
}

pub(super) fn unsaved(step: u64, n_failed: u32, last_good: Option<&Path>) -> String {
    let times = match n_failed {
        1 => String::new(),
        n => format!(", {n} times in a row"),
    };
    let rest = match last_good {
        Some(dir) => format!("the last checkpoint, {}, is whole", Shown(dir)),
        None => "there is no earlier checkpoint".to_string(),
    };
    format!("step {step} could not be saved{times}; {rest}")
}

/// The last complete checkpoint of a run that lost its directory.
pub(super) fn last_whole(last_good: Option<&Path>) -> String {
    match last_good {
        Some(dir) => format!("; the last whole checkpoint is {}", Shown(dir)),
        None => "; no checkpoint is left".to_string(),
    }
}

/// How to continue a run that lost its directory and is in `out_dir` now.
pub(super) fn out_dir_lost(out_dir: Option<&Path>) -> String {
    match out_dir {
        Some(dir) => format!(
            "if no other run uses it, continue with `init_from` resume and `out_dir` {}; do not \
             remove or move files of a run while it trains",
            Shown(dir)
        ),
        None => "start again with another `out_dir`; do not remove or move files of a run while \
                 it trains"
            .to_string(),
    }
}

pub(super) fn list_faults(faults: &[Fault]) -> String {
    match faults {
        [only] => format!("a fault: {only}"),
        many => {
            let lines: Vec<String> = many.iter().map(|fault| format!("\n  {fault}")).collect();
            format!("{} faults:{}", many.len(), lines.concat())
        }
    }
}

pub(super) fn list_rejected(rejected: &[Rejected]) -> String {
    let name = |dir: &Path| dir.file_name().map(|n| n.to_string_lossy().into_owned());
    let each: Vec<String> = rejected
        .iter()
        .map(|r| format!("{} ({})", name(&r.dir).unwrap_or_default(), excerpt_quoted(&r.reason)))
        .collect();
    each.join("; ")
}

/// What a person needs to find out why numbers are NaN or infinite.
pub(super) fn circumstances(
    learning_rate: f64,
    last_grad_norm: f64,
    windows: Option<&Range<u64>>,
    skipped: &Skipped,
) -> String {
    let mut text = format!("learning rate {}", as_typed(learning_rate));
    if last_grad_norm.is_finite() {
        text += &format!(", gradient norm of the step before {}", few_digits(last_grad_norm, 4));
    }
    if let Some(Range { start, end }) = windows {
        text += &format!(", batch of windows {start} to {}", end - 1);
    }
    if skipped.total > 0 {
        text += &format!(", {} skipped before, {} in a row", skipped.total, skipped.in_row);
    }
    text
}

/// How to continue after a number that is not finite; `may_skip` if skipping the batch may help.
pub(super) fn after_non_finite(last_good: Option<&Path>, may_skip: bool) -> String {
    let skip = if may_skip { ", or skip such batches with `on_non_finite` skip" } else { "" };
    match last_good {
        Some(dir) => format!(
            "the last good checkpoint is {}: continue from it with `init_from` resume and a \
             lower `learning_rate`{skip}",
            Shown(dir)
        ),
        None => format!("no checkpoint was saved yet: try a lower `learning_rate`{skip}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_norm_is_printed_in_few_digits() {
        let text = |norm: f64| circumstances(1e-3, norm, None, &Skipped::default());
        let norm = "learning rate 0.001, gradient norm of the step before";
        assert_eq!(text(0.84312), format!("{norm} 0.8431"));
        assert_eq!(text(1e30), format!("{norm} 1.0000e30"));
        assert_eq!(text(f64::NAN), "learning rate 0.001");
    }
}
