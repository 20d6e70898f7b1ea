//! What a run on several processes needs of the library that connects them.

use std::fmt;
use std::time::Duration;

/// The connection of one process, a rank, to all others of the same run. Every rank calls the same
/// methods in the same order.
///
/// No method waits longer than `timeout` for the others.
pub trait Collective: fmt::Debug + Send {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn n_ranks(&self) -> usize;

    /// Starts to add up `values` over all ranks, while this process does other work. The sum has the same bits on
    /// each rank, and again in the next run on as many ranks. May be called on any thread, one at a time.
    ///
    /// # Errors
    /// [`Lost`] if another rank does not take part.
    fn start_sum(&mut self, values: Vec<f32>) -> Result<(), Lost>;

    /// The sums that were started and not finished yet, in their order.
    ///
    /// # Errors
    /// [`Lost`] if another rank does not take part.
    fn finish_sums(&mut self, timeout: Duration) -> Result<Vec<Vec<f32>>, Lost>;

    /// Replaces `values` by those of rank 0.
    ///
    /// # Errors
    /// [`Lost`] if another rank does not take part.
    fn broadcast(&mut self, values: &mut [f32], timeout: Duration) -> Result<(), Lost>;

    /// Gives every rank the small records of all, in their order. Nobody returns before all have called
    /// it, so it is a barrier too.
    ///
    /// # Errors
    /// [`Lost`], which names the ranks whose records are missing.
    fn gather(&mut self, record: &[u8], timeout: Duration) -> Result<Vec<Vec<u8>>, Lost>;
}

/// Other ranks have died, hang, or cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Which, if that is known.
    pub ranks: Vec<usize>,
    /// What the library reports, or how long it was waited for.
    pub reason: String,
}
