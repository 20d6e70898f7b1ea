//! The learning-rate range test (Smith 2017): steps with a rising rate, until the loss explodes.
//! Nothing is written.

use super::Trainer;
use super::step::StepResult;
use crate::error::TrainError;
use crate::stop::StopFlag;

/// The test ends when the smoothed loss is above its minimum by this fraction of the fall so far.
const EXPLODED: f64 = 1.0;
/// Weight of the earlier losses in the smoothed one.
const SMOOTHING: f64 = 0.8;

/// One step of the test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatePoint {
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// Its loss, before the step.
    pub loss: f64,
    /// The exponential running mean of the losses so far, without bias.
    pub smoothed: f64,
}

impl Trainer {
    /// Makes up to `n_steps` steps with rates from `first` to `last`, which grow by the same factor
    /// in each step. The weights are useless afterwards.
    ///
    /// # Errors
    /// Data and model errors. Numbers that are not finite end the test like a loss that explodes.
    pub fn range_test(
        &mut self,
        (first, last): (f64, f64),
        n_steps: u64,
        stop: &StopFlag,
    ) -> Result<Vec<RatePoint>, TrainError> {
        let mut points: Vec<RatePoint> = Vec::new();
        let (mut mean, mut weight) = (0.0, 0.0);
        for step in 0..n_steps {
            let part = step as f64 / n_steps.saturating_sub(1).max(1) as f64;
            let learning_rate = first * (last / first).powf(part);
            let loss = match self.make_step(learning_rate, stop) {
                Ok(StepResult::Made { loss, .. }) => loss,
                Ok(StepResult::Skipped(_)) | Err(TrainError::NonFinite { .. }) => break,
                Ok(StepResult::BrokenOff) => break,
                Err(error) => return Err(error),
            };
            self.progress.step += 1;
            mean = SMOOTHING * mean + (1.0 - SMOOTHING) * loss;
            weight = SMOOTHING * weight + (1.0 - SMOOTHING);
            points.push(RatePoint { learning_rate, loss, smoothed: mean / weight });
            if stop.signal().is_some() || has_exploded(&points) {
                break;
            }
        }
        Ok(points)
    }
}

/// Whether the smoothed loss has risen again by as much as it had fallen.
fn has_exploded(points: &[RatePoint]) -> bool {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return false };
    let lowest = points.iter().map(|point| point.smoothed).fold(f64::INFINITY, f64::min);
    last.smoothed - lowest > EXPLODED * (first.smoothed - lowest).max(0.5)
}

/// The learning rate to train with: a third of the rate at which the smoothed loss is lowest, where
/// the next steps make it worse. `None` if the loss never fell.
pub fn suggested_rate(points: &[RatePoint]) -> Option<f64> {
    let first = points.first()?;
    let lowest = points.iter().min_by(|a, b| a.smoothed.total_cmp(&b.smoothed))?;
    (lowest.smoothed < 0.99 * first.smoothed).then_some(lowest.learning_rate / 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(losses: &[f64]) -> Vec<RatePoint> {
        let rate = |i: usize| 1e-5 * 10f64.powi(i as i32);
        let point = |(i, &loss)| RatePoint { learning_rate: rate(i), loss, smoothed: loss };
        losses.iter().enumerate().map(point).collect()
    }

    #[test]
    fn the_suggestion_lies_below_the_lowest_loss() {
        let curve = points(&[8.0, 7.9, 6.0, 4.0, 7.0]);
        let rate = suggested_rate(&curve).unwrap_or_default();
        assert!((rate - 1e-2 / 3.0).abs() < 1e-9, "{rate}");
        assert_eq!(suggested_rate(&points(&[8.0, 8.0, 9.0])), None);
        assert_eq!(suggested_rate(&[]), None);
    }

    #[test]
    fn a_loss_that_returns_to_where_it_started_has_exploded() {
        assert!(!has_exploded(&points(&[8.0, 4.0, 7.0])));
        assert!(has_exploded(&points(&[8.0, 4.0, 8.5])));
        assert!(!has_exploded(&points(&[8.0, 8.3])));
    }
}
