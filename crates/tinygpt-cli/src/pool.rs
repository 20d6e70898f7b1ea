//! The thread pool that readers and kernels share.

use std::num::NonZero;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result};

use crate::terminal::say;

/// The threads of a program that has no `threads` of its own: one for each logical CPU that this
/// process may use, or as few as `RAYON_NUM_THREADS` says.
pub fn default_threads() -> usize {
    let allowed = thread::available_parallelism().map_or(1, NonZero::get);
    let wanted = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.trim().parse().ok());
    wanted.filter(|n| *n > 0).map_or(allowed, |n: usize| n.min(allowed))
}

/// Threads that a program starts besides the pool and as many workers as the pool has: for
/// signals, for the readers of untrusted files, for progress.
const OTHERS: usize = 4;

/// Starts the pool with `n_threads` threads, or with fewer if a limit of the system leaves room for
/// no more, and returns their number.
///
/// # Errors
/// If the pool was started before, or the system refuses a thread nevertheless.
pub fn start(n_threads: usize) -> Result<usize> {
    // The pool is built once: if that fails, no smaller one can follow.
    let n = size(n_threads, possible_threads(2 * n_threads + OTHERS));
    if n < n_threads {
        let threads = if n == 1 { "thread" } else { "threads" };
        say(&format!(
            "note: continuing with {n} {threads}, not {n_threads}: a limit is in the way, see \
             `ulimit -u` and `ulimit -v`, or the pids limit of the container"
        ));
    }
    builder(n).build_global().context("cannot start the thread pool")?;
    Ok(n)
}

/// The size of the pool if the system allows `n_possible` threads in all.
fn size(n_threads: usize, n_possible: usize) -> usize {
    n_threads.min(n_possible.saturating_sub(OTHERS) / 2).max(1)
}

/// How many threads the system lets this process start now, tried up to `most`.
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

/// A pool of one thread needs no new one.
fn builder(n_threads: usize) -> rayon::ThreadPoolBuilder {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(n_threads);
    if n_threads == 1 { builder.use_current_thread() } else { builder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_leaves_room_for_its_programs_other_threads() {
        let sizes = [0, 4, 5, 7, 8, 9, 12, 100].map(|n_possible| size(4, n_possible));
        assert_eq!(sizes, [1, 1, 1, 1, 2, 2, 4, 4]);
    }

    #[test]
    fn threads_without_a_limit_are_all_possible() {
        assert_eq!(possible_threads(9), 9);
    }

    #[test]
    fn a_pool_of_one_thread_works_on_the_callers() {
        let pool = builder(1).build();
        let here = thread::current().id();
        assert!(pool.is_ok_and(|pool| pool.install(|| thread::current().id()) == here));
    }
}
