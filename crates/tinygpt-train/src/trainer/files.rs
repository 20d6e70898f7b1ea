//! The files of a run next to its checkpoints: metrics, the event file for TensorBoard, the loss curves.

use super::Trainer;
use crate::error::{TrainError, chain};
use crate::metrics::{self, Metrics, Seen};
use crate::plot;
use crate::report::{Report, ResumeRecord};

impl Trainer {
    /// Draws `loss.svg`; a failure is only reported.
    pub(super) fn draw_curves(&self, report: &mut dyn Report) {
        if let Err(error) = plot::draw(&self.config.out_dir) {
            report.notice(&chain(&error));
        }
    }

    /// Writes what is missing of a run that has ended; a failure is only reported.
    pub(super) fn complete_files(&self, report: &mut dyn Report) {
        // The process that saved the last checkpoint may have died before it drew the curves.
        if !self.config.out_dir.join(plot::FILE_NAME).exists() {
            self.draw_curves(report);
        }
        if self.config.tensorboard
            && let Err(error) = metrics::write_event_file(&self.config.out_dir)
        {
            report.notice(&chain(&error));
        }
    }

    /// Opens the metrics, cut back to the checkpoint of a resumed run.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub(super) fn open_metrics(&mut self, report: &mut dyn Report) -> Result<Metrics, TrainError> {
        let mut metrics = self.open_lines(report)?;
        metrics.set_event_file(self.config.tensorboard)?;
        Ok(metrics)
    }

    fn open_lines(&mut self, report: &mut dyn Report) -> Result<Metrics, TrainError> {
        let out_dir = &self.config.out_dir;
        let Some(n_iters) = self.progress.last_saved else {
            return if self.replaces {
                Ok(Metrics::held_back(out_dir))
            } else {
                Metrics::create(out_dir)
            };
        };
        let seen = Seen { n_iters, last_eval_iter: self.progress.last_eval_iter };
        let (mut metrics, gap) = Metrics::resume(out_dir, seen)?;
        if let Some(gap) = gap {
            report.notice(&gap);
        }
        report.resumed(&out_dir.join(metrics::FILE_NAME));
        let changed = std::mem::take(&mut self.changed);
        if !changed.is_empty() {
            metrics.resumed(&ResumeRecord { iter: n_iters, changed })?;
        }
        Ok(metrics)
    }
}
