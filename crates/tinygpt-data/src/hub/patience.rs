//! How long the download waits and how often it tries again.
//!
//! Only failures that may pass are tried again, a bounded number of times, and a host that asks
//! for a pause (`Retry-After`) gets it. No jitter: one command is one client, and its behaviour
//! stays the same from run to run.

use std::time::{Duration, Instant};

use super::error::HubError;
use crate::progress::PrepareProgress;

/// How long a wish to stop may go unheard.
const NAP: Duration = Duration::from_millis(100);

/// Limits on waiting and trying again. The default suits the public hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// Failures in a row, without progress between them, that are forgiven.
    pub retries: u32,
    /// Pause after the first failure; it doubles with each further one.
    pub first_delay: Duration,
    /// Longest pause; a host that asks for a longer one is left alone.
    pub longest_delay: Duration,
    /// Time for a connection to be made and for an answer to begin.
    pub answer_timeout: Duration,
    /// A transfer slower than 1 KiB/s over this time has stalled.
    pub stall_timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retries: 5,
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(120),
            answer_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
        }
    }
}

/// The failures so far of one request that is tried again.
pub(super) struct Backoff<'a> {
    patience: &'a Patience,
    progress: &'a dyn PrepareProgress,
    failures: u32,
}

impl<'a> Backoff<'a> {
    pub(super) fn new(patience: &'a Patience, progress: &'a dyn PrepareProgress) -> Self {
        Self { patience, progress, failures: 0 }
    }

    /// Forgets earlier failures: the transfer has moved on since.
    pub(super) fn forgive(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next try, or hands the failure back when there shall be none.
    pub(super) fn pause_or_give_up(&mut self, error: HubError) -> Result<(), HubError> {
        if !error.is_transient() || self.failures >= self.patience.retries {
            return Err(error);
        }
        self.failures += 1;
        let Some(pause) = pause(self.patience, self.failures, error.wait()) else {
            return Err(error);
        };
        self.progress.notice(&format!(
            "{error}; trying again in {:.1} s ({} of {})",
            pause.as_secs_f64(),
            self.failures,
            self.patience.retries
        ));
        self.sleep(pause)
    }

    /// Sleeps, in short naps, so that a wish to stop is heard.
    fn sleep(&self, pause: Duration) -> Result<(), HubError> {
        let awake = Instant::now() + pause;
        loop {
            if self.progress.is_stopped() {
                return Err(HubError::Stopped);
            }
            let rest = awake.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            std::thread::sleep(rest.min(NAP));
        }
    }

    /// Runs `request` until it succeeds or fails for good.
    pub(super) fn run<T>(
        mut self,
        mut request: impl FnMut() -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        loop {
            match request() {
                Ok(answer) => return Ok(answer),
                Err(error) => self.pause_or_give_up(error)?,
            }
        }
    }
}

/// The pause after failure number `failures` (from 1), `None` if the host asks for too long a one.
fn pause(patience: &Patience, failures: u32, asked: Option<Duration>) -> Option<Duration> {
    match asked {
        Some(asked) => (asked <= patience.longest_delay).then_some(asked),
        None => {
            let doubled = patience.first_delay.saturating_mul(1 << (failures - 1).min(16));
            Some(doubled.min(patience.longest_delay))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let patience = Patience { longest_delay: Duration::from_secs(3), ..Patience::default() };
        let millis: Vec<u128> = (1..=5)
            .filter_map(|failures| pause(&patience, failures, None))
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(millis, [500, 1000, 2000, 3000, 3000]);
        assert_eq!(pause(&patience, u32::MAX, None), Some(Duration::from_secs(3)));
    }

    #[test]
    fn the_hosts_wish_rules_unless_it_is_too_long() {
        let patience = Patience::default();
        let asked = |seconds| pause(&patience, 1, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(7), Some(Duration::from_secs(7)));
        assert_eq!(asked(0), Some(Duration::ZERO));
        assert_eq!(asked(3600), None);
    }
}
