//! What a run is doing, for the message after a signal.
//!
//! The run updates it, and the thread that waits for signals reads it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::ProgressBar;
use signal_hook::consts::SIGINT;

use crate::signals::Answer;
use crate::terminal::{say, spoken};

/// The activity of a run, shared between the run and the thread for signals.
#[derive(Clone, Debug, Default)]
pub(super) struct Doing(Arc<Mutex<Now>>);

/// The current activity.
#[derive(Debug, Default)]
pub(super) struct Now {
    pub(super) bar: Option<ProgressBar>,
    /// Whether it evaluates; otherwise it makes a step.
    pub(super) evaluates: bool,
    /// Whether a step has several micro-batches, between which it can stop.
    pub(super) accumulates: bool,
    /// Seconds until it can stop, if known.
    pub(super) seconds: Option<f64>,
    /// The newest checkpoint.
    pub(super) saved: Option<PathBuf>,
}

impl Doing {
    /// Locks the current activity.
    pub(super) fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, line: &str) {
        let bar = self.now().bar.clone();
        match bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }
}

impl Answer for Doing {
    fn asked(&self, signal: usize) {
        let line = self.now().stopping(signal);
        self.say(&line);
    }

    fn ended(&self) {
        let line = self.now().ending();
        self.say(&line);
    }
}

impl Now {
    /// `stopping after this step (about 20 s) to save; press Ctrl-C again to exit without saving`.
    fn stopping(&self, signal: usize) -> String {
        let what = match (self.evaluates, self.accumulates) {
            (true, _) => "stopping this evaluation",
            (false, true) => "stopping within this step",
            (false, false) => "stopping after this step",
        };
        let time = match self.seconds {
            Some(seconds) if seconds >= 1.0 => format!(" (about {})", about(seconds)),
            _ => String::new(),
        };
        let again = match i32::try_from(signal) {
            Ok(SIGINT) => "press Ctrl-C again",
            _ => "send another signal",
        };
        format!("{what}{time}, then saving; {again} to exit without saving")
    }

    fn ending(&self) -> String {
        match &self.saved {
            Some(dir) => {
                format!("exiting without saving; the last checkpoint is {}", dir.display())
            }
            None => "exiting without saving; there is no checkpoint".to_owned(),
        }
    }
}

/// A duration in whole seconds or minutes.
fn about(seconds: f64) -> String {
    if seconds < 60.0 { format!("{:.0} s", seconds.ceil()) } else { spoken(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_what_stops_and_how_to_exit_at_once() {
        let now = |evaluates, accumulates, seconds| Now {
            evaluates,
            accumulates,
            seconds,
            ..Now::default()
        };
        for (now, signal, expected) in [
            (
                now(false, false, Some(19.6)),
                2,
                "stopping after this step (about 20 s), then saving; press Ctrl-C again to exit \
                 without saving",
            ),
            (
                now(false, true, None),
                2,
                "stopping within this step, then saving; press Ctrl-C again to exit without saving",
            ),
            (
                now(true, false, Some(125.0)),
                15,
                "stopping this evaluation (about 2 min 5 s), then saving; send another signal to \
                 exit without saving",
            ),
            (
                now(false, false, Some(0.3)),
                15,
                "stopping after this step, then saving; send another signal to exit without saving",
            ),
        ] {
            assert_eq!(now.stopping(signal), expected);
        }
        let saved = Now { saved: Some("out/checkpoints/step-00000130".into()), ..Now::default() };
        assert!(saved.ending().ends_with("the last checkpoint is out/checkpoints/step-00000130"));
        assert!(Now::default().ending().ends_with("there is no checkpoint"));
    }
}
