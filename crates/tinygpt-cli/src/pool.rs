//! The thread pool that readers and kernels share.

use std::num::NonZero;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result};

use crate::terminal::say;

/// The threads of a program without a `threads` key: one for each logical CPU that this process may
/// use, or fewer if `RAYON_NUM_THREADS` is set.
pub fn default_threads() -> usize {
    let allowed = thread::available_parallelism().map_or(1, NonZero::get);
    let wanted = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.trim().parse().ok());
    wanted.filter(|n| *n > 0).map_or(allowed, |n: usize| n.min(allowed))
}

/// Threads that a program starts in addition to the pool and one worker for each thread of the pool:
/// for signals, readers of untrusted files, progress.
const OTHERS: usize = 4;

/// Starts the pool with `n_threads` threads, or fewer if the system allows no more, and returns their
/// number.
///
/// # Errors
/// If the pool was already started, or the system refuses a thread.
pub fn start(n_threads: usize) -> Result<usize> {
    // The pool can be built only once, so it must not fail for lack of threads.
    let n = size(n_threads, possible_threads(2 * n_threads + OTHERS));
    if n < n_threads {
        let threads = if n == 1 { "thread" } else { "threads" };
        say(&format!(
            "note: using {n} {threads} instead of {n_threads}, because of a limit: see `ulimit -u` and \
             `ulimit -v`, or the pids limit of the container"
        ));
    }
    builder(n).build_global().context("cannot start the thread pool")?;
    Ok(n)
}

/// The size of the pool if the system allows `n_possible` threads in total.
fn size(n_threads: usize, n_possible: usize) -> usize {
    n_threads.min(n_possible.saturating_sub(OTHERS) / 2).max(1)
}

/// The threads that this process can start now, at most `most`.
fn possible_threads(most: usize) -> usize {
    thread::scope(|scope| {
        let mut started = Vec::new();
        for _ in 0..most {
            let (end, ended) = mpsc::channel::<()>();
            let wait = move || _ = ended.recv();
            if thread::Builder::new().spawn_scoped(scope, wait).is_err() {
                break;
            }
            started.push(end);
        }
        started.len()
    })
}

/// A pool of one thread uses the current thread.
fn builder(n_threads: usize) -> rayon::ThreadPoolBuilder {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(n_threads);
    if n_threads == 1 { builder.use_current_thread() } else { builder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_leaves_room_for_other_threads() {
        let sizes = [0, 4, 5, 7, 8, 9, 12, 100].map(|n_possible| size(4, n_possible));
        assert_eq!(sizes, [1, 1, 1, 1, 2, 2, 4, 4]);
    }

    #[test]
    fn all_threads_are_possible_without_a_limit() {
        assert_eq!(possible_threads(9), 9);
    }

    #[test]
    fn a_pool_of_one_thread_uses_the_thread_of_the_caller() {
        let pool = builder(1).build();
        let here = thread::current().id();
        assert!(pool.is_ok_and(|pool| pool.install(|| thread::current().id()) == here));
    }
}
