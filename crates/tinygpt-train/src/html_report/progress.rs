//! How far a run is at each step, in tokens and in seconds.
//!
//! Seconds are those of the steps themselves: evaluations and saves are not in the metrics.

use super::run::Run;
use crate::metrics::Line;

/// The keys whose product, with the context of the model, is the number of tokens of a step.
const KEYS: [&str; 2] = ["batch_size", "gradient_accumulation_steps"];

/// What a curve is drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Steps,
    Tokens,
    Seconds,
}

impl Axis {
    pub(super) const ALL: [Self; 3] = [Self::Steps, Self::Tokens, Self::Seconds];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Tokens => "tokens",
            Self::Seconds => "seconds",
        }
    }
}

/// Tokens and seconds by step.
#[derive(Debug)]
pub(super) struct Progress {
    /// From which step on a step has how many tokens, and the tokens before it. Empty if unknown.
    tokens: Vec<(u64, u64, u64)>,
    /// The steps that took time, and the seconds before each; then the end.
    seconds: Vec<(u64, f64)>,
}

impl Progress {
    pub(super) fn of(run: &Run) -> Self {
        let (mut seconds, mut total, mut end) = (Vec::new(), 0.0, 0);
        for record in run.steps() {
            seconds.push((record.iter, total));
            total += record.step_ms / 1000.0;
            end = record.iter + 1;
        }
        seconds.push((end, total));
        Self { tokens: token_counts(run), seconds }
    }

    /// The tokens of the first `n` steps; `None` before there is a checkpoint, which has the numbers.
    pub(super) fn tokens(&self, n: u64) -> Option<u64> {
        let idx = self.tokens.partition_point(|(from, ..)| *from <= n).checked_sub(1)?;
        let (from, each, before) = self.tokens[idx];
        Some(before + (n - from) * each)
    }

    /// The seconds that the first `n` steps took, as far as they are in the metrics.
    pub(super) fn seconds(&self, n: u64) -> f64 {
        let idx = self.seconds.partition_point(|(iter, _)| *iter < n);
        self.seconds.get(idx).or(self.seconds.last()).map_or(0.0, |(_, seconds)| *seconds)
    }

    /// Where `n` steps are on `axis`.
    pub(super) fn at(&self, n: u64, axis: Axis) -> Option<f64> {
        match axis {
            Axis::Steps => Some(n as f64),
            Axis::Tokens => self.tokens(n).map(|tokens| tokens as f64),
            Axis::Seconds => Some(self.seconds(n)),
        }
    }
}

/// The tokens of a step, from each step at which a resumed run changed them.
fn token_counts(run: &Run) -> Vec<(u64, u64, u64)> {
    let Some(newest) = &run.newest else { return Vec::new() };
    let resumes = || {
        run.lines.iter().filter_map(|line| match line {
            Line::Resume(record) => Some(record),
            _ => None,
        })
    };
    let saved = &newest.state.config.train;
    let saved = [saved.batch_size as u64, saved.gradient_accumulation_steps as u64];
    // The checkpoint has the values at its step; the first change of a key has those before.
    let mut values = [0, 1].map(|i| {
        let first = resumes().find_map(|record| record.changed.get(KEYS[i])?[0].as_u64());
        first.unwrap_or(saved[i])
    });
    let block_size = newest.model.block_size as u64;
    let mut counts = vec![(0, values[0] * values[1] * block_size, 0)];
    for record in resumes() {
        for (value, key) in values.iter_mut().zip(KEYS) {
            let changed = record.changed.get(key).and_then(|[_, now]| now.as_u64());
            *value = changed.unwrap_or(*value);
        }
        if let Some(&(from, each, before)) = counts.last() {
            let so_far = before + (record.iter - from.min(record.iter)) * each;
            counts.push((record.iter, values[0] * values[1] * block_size, so_far));
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_follow_a_changed_batch_and_seconds_the_steps_that_are_there() {
        let tokens = vec![(0, 10, 0), (4, 30, 40)];
        // Step 2 is missing.
        let seconds = vec![(0, 0.0), (1, 0.5), (3, 1.0), (4, 1.5)];
        let progress = Progress { tokens, seconds };
        assert_eq!([0, 3, 4, 6].map(|n| progress.tokens(n)), [0, 30, 40, 100].map(Some));
        let seconds = [0, 1, 2, 3, 4, 9].map(|n| progress.seconds(n));
        assert_eq!(seconds, [0.0, 0.5, 1.0, 1.0, 1.5, 1.5]);
        assert_eq!(progress.at(3, Axis::Tokens), Some(30.0));
        assert_eq!(Progress { tokens: vec![], seconds: vec![] }.at(3, Axis::Tokens), None);
    }
}
