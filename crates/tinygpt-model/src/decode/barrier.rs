//! Threads that make one step together and meet many times within it.
//!
//! A step of decoding is some fifty small products; waking a pool's threads for each would cost
//! more than the small ones do. So a decoder has threads of its own for as long as it lives. They
//! wait for the next step by looking at a counter, for a few hundred microseconds; then they sleep.
//! Within a step they meet at a counter too. None of this needs the standard pool, on which threads
//! that wait for each other could wait for ever.
//!
//! What the threads compute is in `part.rs`.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use std::sync::Arc;

/// How often a waiting thread looks before it lets others run, or sleeps.
const LOOKS: u32 = 10_000;

/// Where the threads of one decoder meet.
#[derive(Debug, Default)]
pub(super) struct Meeting {
    n_threads: u64,
    /// Arrivals so far; the meeting number r is over at `r · n_threads`.
    arrived: AtomicU64,
    /// Steps begun so far.
    steps: AtomicU64,
    /// The decoder is being dropped, or a thread ended early.
    over: AtomicBool,
}

impl Meeting {
    /// Waits until all threads came to meeting number `round`, counted from 1. False if one of
    /// them never will.
    pub(super) fn meet(&self, round: u64) -> bool {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let mut looks = 0;
        while self.arrived.load(Ordering::Acquire) < round * self.n_threads {
            if self.over.load(Ordering::Relaxed) {
                return false;
            }
            looks += 1;
            if looks < LOOKS { spin_loop() } else { thread::yield_now() }
        }
        true
    }

    /// Waits for step number `step`, counted from 1; false when there will be none.
    fn wait_for(&self, step: u64) -> bool {
        let mut looks = 0;
        while self.steps.load(Ordering::Acquire) < step {
            if self.over.load(Ordering::Acquire) {
                return false;
            }
            looks += 1;
            if looks < LOOKS { spin_loop() } else { thread::park() }
        }
        true
    }
}

/// Ends the meeting for all when its thread ends, for whatever reason.
struct EndsMeeting(Arc<Meeting>);

impl Drop for EndsMeeting {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

/// The helping threads of a decoder; the thread that calls is one more.
#[derive(Debug)]
pub(super) struct Crew {
    meeting: Arc<Meeting>,
    helpers: Vec<JoinHandle<()>>,
}

impl Crew {
    /// Starts `n_threads - 1` helpers. Each calls `make` once, with its index from 1, and what that
    /// returns at every step. A thread that the system refuses is an error.
    pub(super) fn start<M, S>(n_threads: usize, make: M) -> std::io::Result<Self>
    where
        M: Fn(usize, Arc<Meeting>) -> S + Clone + Send + 'static,
        S: FnOnce(&mut dyn FnMut() -> bool),
    {
        let meeting = Arc::new(Meeting { n_threads: n_threads as u64, ..Meeting::default() });
        let mut crew = Self { meeting: Arc::clone(&meeting), helpers: Vec::new() };
        for index in 1..n_threads {
            let (meeting, make) = (Arc::clone(&meeting), make.clone());
            let work = move || {
                let _ends = EndsMeeting(Arc::clone(&meeting));
                let mut step = 0;
                make(index, Arc::clone(&meeting))(&mut || {
                    step += 1;
                    meeting.wait_for(step)
                });
            };
            crew.helpers.push(thread::Builder::new().name(format!("decode-{index}")).spawn(work)?);
        }
        Ok(crew)
    }

    /// Where its threads meet.
    pub(super) fn meeting(&self) -> &Meeting {
        &self.meeting
    }

    /// Lets every helper make one step; the caller makes its own part after this.
    pub(super) fn begin_step(&self) {
        self.meeting.steps.fetch_add(1, Ordering::Release);
        self.helpers.iter().for_each(|helper| helper.thread().unpark());
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.meeting.over.store(true, Ordering::Release);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper that panicked has said so on stderr.
            let _ = helper.join();
        }
    }
}
