//! Requests that wait for the model: a bounded line, first come, first served.
//!
//! Connections put jobs in and never wait; the thread that writes takes them out. Who has left the
//! line gives up the place at once. What is done with a job is `writer.rs`'s business.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tinygpt_model::SamplingParams;
use tokio::sync::mpsc::UnboundedSender;

use crate::error::ApiError;
use crate::piece::Piece;

/// What a text goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    Text(String),
    /// Token ids, all of them in the vocabulary.
    Ids(Vec<u32>),
}

/// One request: several prompts with the same settings, each continued `n` times.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) n: usize,
    pub(crate) params: SamplingParams,
    pub(crate) stop: Vec<String>,
    /// Where to tell how it goes; closed when the client has left.
    ///
    /// Unbounded, so that the model never waits for a client. What a request can put in is bounded
    /// by its `max_tokens`, and a connection that takes nothing out is closed after a while.
    pub(crate) updates: UnboundedSender<Update>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended the document, or a stop text came.
    Stop,
    /// As long as was asked for.
    Length,
}

/// How a job goes. Choice `i` is sample `i % n` of prompt `i / n`.
#[derive(Debug)]
pub(crate) enum Update {
    /// The model has read a prompt of this many tokens; what there is to know of it.
    Read { n_tokens: usize, notes: Vec<String> },
    /// More text of a choice.
    Piece { choice: usize, piece: Piece },
    /// The last text of a choice, which took so many tokens.
    End { choice: usize, piece: Piece, finish: Finish, n_tokens: usize },
    /// There will be no more of any choice.
    Failed(ApiError),
}

/// The line.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    n_places: usize,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
    abandoned: bool,
}

impl Queue {
    /// A line with so many places.
    pub(crate) fn new(n_places: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), n_places }
    }

    /// Puts a job at the end.
    ///
    /// # Errors
    /// 503 if the line is full or closed.
    pub(crate) fn push(&self, job: Job) -> Result<(), ApiError> {
        let mut state = self.lock();
        if state.closed {
            return Err(ApiError::busy("the server is shutting down"));
        }
        state.jobs.retain(|job| !job.updates.is_closed());
        if state.jobs.len() >= self.n_places {
            return Err(ApiError::busy(format!(
                "{} requests are waiting already, try again in a few seconds",
                state.jobs.len()
            )));
        }
        state.jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// The first job whose client is still there, if there is one.
    pub(crate) fn take(&self) -> Option<Job> {
        self.lock().first()
    }

    /// As [`Queue::take`], but waits for one; `None` when the line is closed.
    pub(crate) fn wait(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            match state.first() {
                Some(job) => return Some(job),
                None if state.closed => return None,
                None => {
                    let woken = self.changed.wait(state);
                    state = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Lets no one in any more; who is in the line is still served.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Sends everyone away, and asks the writer to drop what it is writing.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.abandoned = true;
        state.jobs.clear();
        self.changed.notify_all();
    }

    /// Whether [`Queue::abandon`] was called.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A line is whole after each of the calls above, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn first(&mut self) -> Option<Job> {
        while let Some(job) = self.jobs.pop_front() {
            if !job.updates.is_closed() {
                return Some(job);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    fn job(n: usize) -> (Job, UnboundedReceiver<Update>) {
        let (updates, receiver) = unbounded_channel();
        let params = SamplingParams::unfiltered();
        (Job { prompts: Vec::new(), n, params, stop: Vec::new(), updates }, receiver)
    }

    #[test]
    fn the_line_is_bounded_and_in_order() {
        let queue = Queue::new(2);
        let (jobs, _receivers): (Vec<_>, Vec<_>) = (0..3).map(job).unzip();
        let pushed: Vec<bool> = jobs.into_iter().map(|job| queue.push(job).is_ok()).collect();
        assert_eq!(pushed, [true, true, false]);
        assert_eq!((queue.take().unwrap().n, queue.wait().unwrap().n), (0, 1));
        assert!(queue.take().is_none());
    }

    #[test]
    fn who_leaves_gives_up_the_place() {
        let queue = Queue::new(1);
        let (first, receiver) = job(0);
        queue.push(first).unwrap();
        drop(receiver);
        let (second, _receiver) = job(1);
        queue.push(second).unwrap();
        assert_eq!(queue.take().unwrap().n, 1);
    }

    #[test]
    fn a_closed_line_is_emptied_and_lets_no_one_in() {
        let queue = Queue::new(9);
        let (jobs, _receivers): (Vec<_>, Vec<_>) = (0..2).map(job).unzip();
        let mut jobs = jobs.into_iter();
        queue.push(jobs.next().unwrap()).unwrap();
        queue.close();
        assert!(queue.push(jobs.next().unwrap()).is_err());
        assert!(queue.wait().is_some() && queue.wait().is_none());
    }
}
