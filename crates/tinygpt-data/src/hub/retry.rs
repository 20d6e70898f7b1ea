//! Retries of downloads: how often, and how long to wait.
//!
//! Only transient failures are retried, a bounded number of times, and a host that asks
//! for a pause (`Retry-After`) gets it. No jitter: there is one client, and its behaviour
//! is the same in every run.

use std::time::{Duration, Instant};

use super::error::HubError;
use crate::progress::PrepareProgress;

/// How often a pause checks whether to stop.
const NAP: Duration = Duration::from_millis(100);

/// Limits on waiting and retrying. The default suits the public hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The most failures in a row without progress.
    pub retries: u32,
    /// Pause after the first failure; it doubles with each further one.
    pub first_delay: Duration,
    /// Longest pause; if a host asks for a longer one, the download fails.
    pub longest_delay: Duration,
    /// Timeout for a connection and for the start of a response.
    pub answer_timeout: Duration,
    /// A transfer slower than 1 KiB/s over this time has stalled.
    pub stall_timeout: Duration,
}

impl Default for RetryPolicy {
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

/// The failures so far of one request.
pub(super) struct Backoff<'a> {
    retry: &'a RetryPolicy,
    progress: &'a dyn PrepareProgress,
    failures: u32,
}

impl<'a> Backoff<'a> {
    pub(super) fn new(retry: &'a RetryPolicy, progress: &'a dyn PrepareProgress) -> Self {
        Self { retry, progress, failures: 0 }
    }

    /// Forgets earlier failures, after the transfer made progress.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt, or returns the failure if there is none left.
    pub(super) fn retry_after(&mut self, error: HubError) -> Result<(), HubError> {
        if !error.is_transient() || self.failures >= self.retry.retries {
            return Err(error);
        }
        self.failures += 1;
        let Some(pause) = pause(self.retry, self.failures, error.wait()) else {
            return Err(error);
        };
        self.progress.notice(&format!(
            "{error}; trying again in {:.1} s ({} of {})",
            pause.as_secs_f64(),
            self.failures,
            self.retry.retries
        ));
        self.sleep(pause)
    }

    /// Sleeps, and checks in short intervals whether to stop.
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

    /// Runs `request` until it succeeds or the retries are used up.
    pub(super) fn run<T>(
        mut self,
        mut request: impl FnMut() -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        loop {
            match request() {
                Ok(answer) => return Ok(answer),
                Err(error) => self.retry_after(error)?,
            }
        }
    }
}

/// The pause after failure number `failures` (from 1), `None` if the host asks for too long a one.
fn pause(retry: &RetryPolicy, failures: u32, asked: Option<Duration>) -> Option<Duration> {
    match asked {
        Some(asked) => (asked <= retry.longest_delay).then_some(asked),
        None => {
            let doubled = retry.first_delay.saturating_mul(1 << (failures - 1).min(16));
            Some(doubled.min(retry.longest_delay))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let retry = RetryPolicy { longest_delay: Duration::from_secs(3), ..RetryPolicy::default() };
        let millis: Vec<u128> = (1..=5)
            .filter_map(|failures| pause(&retry, failures, None))
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(millis, [500, 1000, 2000, 3000, 3000]);
        assert_eq!(pause(&retry, u32::MAX, None), Some(Duration::from_secs(3)));
    }

    #[test]
    fn the_hosts_wish_rules_unless_it_is_too_long() {
        let retry = RetryPolicy::default();
        let asked = |seconds| pause(&retry, 1, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(7), Some(Duration::from_secs(7)));
        assert_eq!(asked(0), Some(Duration::ZERO));
        assert_eq!(asked(3600), None);
    }
}
