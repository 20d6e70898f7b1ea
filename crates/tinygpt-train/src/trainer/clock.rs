//! The time limits of a run: when to save again, and when its time is up.
//!
//! The clock is monotonic: setting the time of day changes nothing. The clock does not affect any
//! number of the training.

use std::time::{Duration, Instant};

use crate::config::TrainConfig;

/// The clock of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
    last_saved: Instant,
    save_every: Option<Duration>,
    deadline: Option<Instant>,
    /// The longest step and the longest save so far: what has to fit before the deadline.
    longest_step: Duration,
    longest_save: Duration,
}

impl Clock {
    /// Starts the clock.
    pub(super) fn start(config: &TrainConfig) -> Self {
        let now = Instant::now();
        let minutes = Some(config.checkpoint_minutes).filter(|minutes| *minutes > 0.0);
        Self {
            started: now,
            last_saved: now,
            // A deadline that overflows the clock is never reached.
            save_every: minutes.and_then(|m| Duration::try_from_secs_f64(m * 60.0).ok()),
            deadline: config
                .max_seconds
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .and_then(|budget| now.checked_add(budget)),
            longest_step: Duration::ZERO,
            longest_save: Duration::ZERO,
        }
    }

    /// Counts from an earlier time than the call of [`Clock::start`].
    pub(super) fn count_from(&mut self, started: Instant) {
        self.started = started;
    }

    /// Seconds since the start.
    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// A step that began at `started` has ended.
    pub(super) fn stepped(&mut self, started: Instant) {
        self.longest_step = self.longest_step.max(started.elapsed());
    }

    /// A save that began at `started` has succeeded or failed.
    pub(super) fn saved(&mut self, started: Instant) {
        self.longest_save = self.longest_save.max(started.elapsed());
        self.last_saved = Instant::now();
    }

    /// Whether the last save is too long ago.
    pub(super) fn is_time_to_save(&self) -> bool {
        self.save_every.is_some_and(|every| self.last_saved.elapsed() >= every)
    }

    /// Whether another step and a save would end after the deadline.
    pub(super) fn is_time_up(&self) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let needed = self.longest_step + self.longest_save;
        Instant::now().checked_add(needed).is_none_or(|end| end >= deadline)
    }
}
