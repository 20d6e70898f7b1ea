//! The flag by which a signal asks the loop to stop.
//!
//! The signal handler itself is installed by the command line; this crate only reads the flag,
//! between two steps and between two evaluation batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Asks a running [`Trainer`](crate::Trainer) to finish its step, save and return.
///
/// Clones share the same flag. It holds 0, or the number of the signal that asked.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicUsize>);

impl StopFlag {
    /// A flag that nobody has raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag for `signal` (2 for SIGINT, 15 for SIGTERM, never 0).
    pub fn raise(&self, signal: usize) {
        self.0.store(signal, Ordering::Relaxed);
    }

    /// The signal that asked to stop, if one did.
    pub fn signal(&self) -> Option<usize> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// The shared cell, in the form that `signal_hook::flag::register_usize` takes.
    pub fn cell(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }
}
