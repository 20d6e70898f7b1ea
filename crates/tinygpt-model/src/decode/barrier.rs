//! The worker threads of a decoder and the barrier at which they wait for each other.
//!
//! A decoding step is about fifty small products; waking the threads of a pool for each would cost
//! more than the small ones do. So a decoder has threads of its own for as long as it lives. They
//! wait for the next step by spinning on a counter for a few hundred microseconds, then they sleep.
//! Within a step they spin on a counter too. None of this uses rayon's pool, on which threads that
//! wait for each other could deadlock.
//!
//! What the threads compute is in `shard.rs`.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// How often a waiting thread spins before it yields, or sleeps.
const SPINS: u32 = 10_000;

/// Another worker has ended: there will be no result.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerEnded;

/// A spin barrier for the workers of one decoder.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    n_threads: u64,
    /// Arrivals so far; round r is complete at `r · n_threads`.
    arrived: AtomicU64,
    /// Steps started so far.
    steps: AtomicU64,
    /// The decoder is being dropped, or a worker ended early.
    is_closed: AtomicBool,
}

impl Barrier {
    /// Waits until all workers have arrived at round number `round`, counted from 1.
    pub(super) fn wait(&self, round: u64) -> Result<(), WorkerEnded> {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0;
        while self.arrived.load(Ordering::Acquire) < round * self.n_threads {
            if self.is_closed.load(Ordering::Relaxed) {
                return Err(WorkerEnded);
            }
            spins += 1;
            if spins < SPINS { spin_loop() } else { thread::yield_now() }
        }
        Ok(())
    }

    /// Waits for step number `step`, counted from 1; false if there will be none.
    fn wait_for_step(&self, step: u64) -> bool {
        let mut spins = 0;
        while self.steps.load(Ordering::Acquire) < step {
            if self.is_closed.load(Ordering::Acquire) {
                return false;
            }
            spins += 1;
            if spins < SPINS { spin_loop() } else { thread::park() }
        }
        true
    }
}

/// Closes the barrier when its thread ends, for whatever reason.
struct CloseOnDrop(Arc<Barrier>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
    }
}

/// The worker threads of a decoder; the calling thread is one more worker.
#[derive(Debug)]
pub(super) struct WorkerThreads {
    barrier: Arc<Barrier>,
    handles: Vec<JoinHandle<()>>,
}

impl WorkerThreads {
    /// Starts `n_threads - 1` threads. Each calls `make` once, with its index from 1, and what that
    /// returns once, with a function that waits for the next step. A thread that the system refuses
    /// is an error.
    pub(super) fn start<M, S>(n_threads: usize, make: M) -> std::io::Result<Self>
    where
        M: Fn(usize, Arc<Barrier>) -> S + Clone + Send + 'static,
        S: FnOnce(&mut dyn FnMut() -> bool),
    {
        let barrier = Arc::new(Barrier { n_threads: n_threads as u64, ..Barrier::default() });
        let mut threads = Self { barrier: Arc::clone(&barrier), handles: Vec::new() };
        for index in 1..n_threads {
            let (barrier, make) = (Arc::clone(&barrier), make.clone());
            let work = move || {
                let _close = CloseOnDrop(Arc::clone(&barrier));
                let mut step = 0;
                make(index, Arc::clone(&barrier))(&mut || {
                    step += 1;
                    barrier.wait_for_step(step)
                });
            };
            let name = format!("decode-{index}");
            threads.handles.push(thread::Builder::new().name(name).spawn(work)?);
        }
        Ok(threads)
    }

    /// Where the workers wait for each other.
    pub(super) fn barrier(&self) -> &Barrier {
        &self.barrier
    }

    /// Lets every thread make one step; the caller computes its own shard after this.
    pub(super) fn start_step(&self) {
        self.barrier.steps.fetch_add(1, Ordering::Release);
        self.handles.iter().for_each(|handle| handle.thread().unpark());
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.barrier.is_closed.store(true, Ordering::Release);
        for handle in self.handles.drain(..) {
            handle.thread().unpark();
            // A worker that panicked has reported it on stderr.
            let _ = handle.join();
        }
    }
}
