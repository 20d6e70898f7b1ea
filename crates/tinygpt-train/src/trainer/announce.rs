//! What a run says before its first step.

use tinygpt_model::{Gpt, Recompute};

use super::Trainer;
use crate::config::TrainConfig;
use crate::report::Report;

impl Trainer {
    /// Reports what is about to run, and what was noticed on the way.
    pub(super) fn announce(&mut self, report: &mut dyn Report) {
        report.run_summary(&self.summary());
        for notice in self.notices.drain(..) {
            report.notice(&notice);
        }
    }
}

/// What is computed again because the memory of the GPU is not enough, if nothing was asked for.
pub(super) fn recomputing(config: &TrainConfig, gpt: &Gpt) -> Option<String> {
    let chosen = gpt.recompute().filter(|chosen| *chosen != Recompute::None)?;
    config.recompute.is_none().then(|| {
        format!(
            "the GPU has too little memory to keep all activations, so `recompute` is {}; a smaller `batch_size` \
             with more `gradient_accumulation_steps` may be faster",
            chosen.name()
        )
    })
}
