//! Whether the files in `out_dir` are still those of this run.
//!
//! Somebody may remove, move or replace the directory, its lock or its metrics while a run trains,
//! and start another run there. A run that continued to write would damage the other one, so it
//! stops.

use super::Trainer;
use crate::checkpoint::{self, Lost};
use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::metrics::Metrics;
use crate::report::Report;

/// Checks that everything that a run would replace in `out_dir` was written by a run, and cleans up
/// what an earlier process left unfinished.
///
/// # Errors
/// [`TrainError::Foreign`] if there is a file that no run has written.
pub(super) fn claim_out_dir(config: &TrainConfig) -> Result<(), TrainError> {
    let out_dir = &config.out_dir;
    if let Some(path) = checkpoint::foreign(out_dir, config.overwrite)? {
        return Err(TrainError::Foreign(path));
    }
    checkpoint::finish(out_dir)?;
    checkpoint::clean_parts(out_dir)?;
    checkpoint::clean_leftovers(out_dir)
}

impl Trainer {
    /// Checks that `out_dir` still belongs to this run; called before every write.
    ///
    /// # Errors
    /// [`TrainError::OutDirLost`] if not: from then on nothing is written.
    pub(super) fn check_out_dir(&self, metrics: &mut Metrics) -> Result<(), TrainError> {
        let lock = self.lock.as_ref().and_then(checkpoint::OutDirLock::lost);
        let of_metrics = || metrics.lost().map(|what| Lost { what, moved_to: None });
        let Some(Lost { what, moved_to }) = lock.or_else(of_metrics) else { return Ok(()) };
        metrics.discard_pending();
        let out_dir = moved_to.unwrap_or_else(|| self.config.out_dir.clone());
        let last_good = checkpoint::newest_good(&out_dir).ok().flatten();
        Err(TrainError::OutDirLost {
            what,
            step: self.progress.step,
            last_good: last_good.map(|found| found.dir.into_boxed_path()),
            out_dir: Some(out_dir),
        })
    }

    /// Hands the metrics to the operating system; a failure is only reported.
    ///
    /// # Errors
    /// As [`Trainer::check_out_dir`].
    pub(super) fn flush(
        &self,
        metrics: &mut Metrics,
        report: &mut dyn Report,
    ) -> Result<(), TrainError> {
        self.check_out_dir(metrics)?;
        metrics.flush_or_report(report);
        Ok(())
    }
}
