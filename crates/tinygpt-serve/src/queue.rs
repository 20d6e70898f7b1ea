//! Requests that wait for the model: a bounded queue, first in, first out.
//!
//! Connections add jobs and never block; the worker thread removes them. Jobs of disconnected clients
//! are dropped.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tinygpt_data::chat::Message;
use tinygpt_model::SamplingParams;
use tokio::sync::mpsc::UnboundedSender;

use crate::delta::Delta;
use crate::error::ApiError;

/// What a text continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    Text(String),
    /// Token ids, all of them in the vocabulary.
    Ids(Vec<u32>),
    /// A conversation, whose next answer is generated.
    Chat(Vec<Message>),
}

/// One request: several prompts with the same settings, each continued `n` times.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) n: usize,
    pub(crate) params: SamplingParams,
    pub(crate) stop: Vec<String>,
    /// Whether each text starts with its prompt.
    pub(crate) echo: bool,
    /// Receives the updates; closed when the client has disconnected.
    ///
    /// Unbounded, so that the model never waits for a client. `max_tokens` bounds what a request can
    /// add, and a connection that reads nothing is closed after the write timeout.
    pub(crate) updates: UnboundedSender<Update>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended the document, or a stop text was found.
    Stop,
    /// The requested length was reached.
    Length,
}

/// Progress of a job. Choice `i` is sample `i % n` of prompt `i / n`.
#[derive(Debug)]
pub(crate) enum Update {
    /// A prompt was tokenized; `notes` are warnings about it.
    Prefilled { n_tokens: usize, notes: Vec<String> },
    /// More text of a choice.
    Delta { choice: usize, delta: Delta },
    /// The last text of a choice, which has `n_tokens` tokens.
    End { choice: usize, delta: Delta, finish: Finish, n_tokens: usize },
    /// The whole job failed.
    Failed(ApiError),
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
    abandoned: bool,
}

impl Queue {
    /// A queue for at most `capacity` jobs.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), capacity }
    }

    /// Adds a job at the end.
    ///
    /// # Errors
    /// 503 if the queue is full or closed.
    pub(crate) fn push(&self, job: Job) -> Result<(), ApiError> {
        let mut state = self.lock();
        if state.closed {
            return Err(ApiError::busy("the server is shutting down"));
        }
        state.jobs.retain(|job| !job.updates.is_closed());
        if state.jobs.len() >= self.capacity {
            return Err(ApiError::busy(format!(
                "{} requests are already waiting, try again in a few seconds",
                state.jobs.len()
            )));
        }
        state.jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// Removes the first job whose client is still connected.
    pub(crate) fn take(&self) -> Option<Job> {
        self.lock().first()
    }

    /// As [`Queue::take`], but waits for one; `None` when the queue is closed.
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

    /// Accepts no more jobs; those in the queue are still served.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Drops all jobs, and asks the worker to drop those it is working on.
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
        // The state is consistent after each call above, even if a thread panicked.
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
        (Job { prompts: Vec::new(), n, params, stop: Vec::new(), echo: false, updates }, receiver)
    }

    #[test]
    fn the_queue_is_bounded_and_in_order() {
        let queue = Queue::new(2);
        let (jobs, _receivers): (Vec<_>, Vec<_>) = (0..3).map(job).unzip();
        let pushed: Vec<bool> = jobs.into_iter().map(|job| queue.push(job).is_ok()).collect();
        assert_eq!(pushed, [true, true, false]);
        assert_eq!((queue.take().unwrap().n, queue.wait().unwrap().n), (0, 1));
        assert!(queue.take().is_none());
    }

    #[test]
    fn a_job_without_a_client_is_dropped() {
        let queue = Queue::new(1);
        let (first, receiver) = job(0);
        queue.push(first).unwrap();
        drop(receiver);
        let (second, _receiver) = job(1);
        queue.push(second).unwrap();
        assert_eq!(queue.take().unwrap().n, 1);
    }

    #[test]
    fn a_closed_queue_is_emptied_and_accepts_no_more() {
        let queue = Queue::new(9);
        let (jobs, _receivers): (Vec<_>, Vec<_>) = (0..2).map(job).unzip();
        let mut jobs = jobs.into_iter();
        queue.push(jobs.next().unwrap()).unwrap();
        queue.close();
        assert!(queue.push(jobs.next().unwrap()).is_err());
        assert!(queue.wait().is_some() && queue.wait().is_none());
    }
}
