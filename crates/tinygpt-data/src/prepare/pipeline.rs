//! Work in parallel, results in order, in bounded memory.
//!
//! One thread reads batches, one worker per core processes them, and the calling thread takes the
//! results in the order of the text. All queues are short: a thread that is too fast waits. The
//! code is generic over the type of a batch.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, Builder};

use crate::error::DataError;

/// A batch for a worker, and the channel for its result.
type Job<T, R> = (T, SyncSender<Result<R, DataError>>);

/// Receives the result of one batch.
type Pending<R> = Receiver<Result<R, DataError>>;

/// Reads batches until `None`, processes each, and takes the results in order.
///
/// `worker` is called once on each worker's thread, so that what it keeps (a cache, a table) is
/// that thread's own.
///
/// # Errors
/// The first error in the order of the text.
pub(super) fn in_order<T, R, W>(
    read: impl FnMut() -> Result<Option<T>, DataError> + Send,
    worker: impl Fn() -> W + Sync,
    take: impl FnMut(R) -> Result<(), DataError>,
) -> Result<(), DataError>
where
    T: Send,
    R: Send,
    W: FnMut(T) -> Result<R, DataError>,
{
    let n_workers = rayon::current_num_threads();
    let (jobs_in, jobs) = sync_channel::<Job<T, R>>(n_workers);
    let (order_in, order) = sync_channel::<Pending<R>>(2 * n_workers);
    // Shared by the workers alone: when the last of them ends, `read_all` cannot send any more.
    let jobs = Arc::new(Mutex::new(jobs));
    thread::scope(|scope| {
        let reader = move || read_all(read, &jobs_in, &order_in);
        Builder::new().spawn_scoped(scope, reader).map_err(DataError::Thread)?;
        for i in 0..n_workers {
            let (jobs, worker) = (Arc::clone(&jobs), &worker);
            match Builder::new().spawn_scoped(scope, move || work_on(&jobs, worker())) {
                Ok(_) => {}
                // Fewer workers do the same work.
                Err(_) if i > 0 => break,
                Err(error) => return Err(DataError::Thread(error)),
            }
        }
        drop(jobs);
        take_all(order, take)
    })
}

/// Sends each batch to the workers, and the receiver of its result to the caller.
fn read_all<T, R>(
    mut read: impl FnMut() -> Result<Option<T>, DataError>,
    jobs: &SyncSender<Job<T, R>>,
    order: &SyncSender<Pending<R>>,
) {
    loop {
        let (reply, pending) = sync_channel(1);
        let is_wanted = match read() {
            Ok(None) => return,
            Ok(Some(batch)) => order.send(pending).is_ok() && jobs.send((batch, reply)).is_ok(),
            // Its place in the order is that of the batch that could not be read.
            Err(error) => {
                _ = reply.send(Err(error));
                _ = order.send(pending);
                return;
            }
        };
        if !is_wanted {
            return;
        }
    }
}

/// Works on batches until there are no more.
fn work_on<T, R>(
    jobs: &Mutex<Receiver<Job<T, R>>>,
    mut work: impl FnMut(T) -> Result<R, DataError>,
) {
    loop {
        // Only poisoned by a panic, which ends the work.
        let Ok((batch, reply)) = jobs.lock().map_or(Err(()), |jobs| jobs.recv().map_err(|_| ()))
        else {
            return;
        };
        // After an error the receiver may be gone.
        _ = reply.send(work(batch));
    }
}

/// Takes the results in order; a worker that panicked has sent no result.
fn take_all<R>(
    order: Receiver<Pending<R>>,
    mut take: impl FnMut(R) -> Result<(), DataError>,
) -> Result<(), DataError> {
    for pending in order {
        match pending.recv() {
            Ok(result) => take(result?)?,
            // The panic continues when the threads are joined.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn counting(up_to: usize) -> impl FnMut() -> Result<Option<usize>, DataError> {
        let mut next = 0..up_to;
        move || Ok(next.next())
    }

    #[test]
    fn results_come_in_order_if_a_worker_is_slow() {
        let mut taken = Vec::new();
        let slow = || {
            |n: usize| {
                thread::sleep(Duration::from_micros((n * 7 % 11) as u64 * 50));
                Ok(n * 2)
            }
        };
        in_order(counting(300), slow, |n| {
            taken.push(n);
            Ok(())
        })
        .unwrap();
        assert_eq!(taken, (0..300).map(|n| n * 2).collect::<Vec<_>>());
    }

    #[test]
    fn reading_ahead_is_bounded() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let (n_read, mut most) = (AtomicUsize::new(0), 0);
        let mut n_taken = 0;
        pool.install(|| {
            let mut numbers = counting(200);
            let read = || {
                n_read.fetch_add(1, Ordering::SeqCst);
                numbers()
            };
            let take = |_| {
                thread::sleep(Duration::from_micros(200));
                n_taken += 1;
                most = most.max(n_read.load(Ordering::SeqCst) - n_taken);
                Ok(())
            };
            in_order(read, || Ok, take).unwrap();
        });
        assert!((3..=10).contains(&most), "{most}");
    }

    #[test]
    fn the_first_error_of_the_text_is_returned_and_ends_all() {
        let fail = |at: usize| DataError::usage(format!("number {at}"), "");
        let worker = || |n: usize| if n >= 20 { Err(fail(n)) } else { Ok(n) };
        let error = in_order(counting(usize::MAX), worker, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("number 20"), "{error}");
        let take = |n: usize| if n == 7 { Err(fail(n)) } else { Ok(()) };
        let error = in_order(counting(usize::MAX), worker, take).unwrap_err();
        assert!(error.to_string().contains("number 7"), "{error}");
        let mut numbers = counting(5);
        let read = || numbers().and_then(|n| n.map(Some).ok_or_else(|| fail(5)));
        let mut n_taken = 0;
        let take = |_| {
            n_taken += 1;
            Ok(())
        };
        let error = in_order(read, worker, take).unwrap_err();
        assert!(error.to_string().contains("number 5"), "{error}");
        assert_eq!(n_taken, 5);
    }

    #[test]
    #[should_panic(expected = "scoped thread")]
    fn a_panic_of_a_worker_is_not_swallowed() {
        let worker = || |n: usize| if n == 3 { panic!("worker") } else { Ok(n) };
        drop(in_order(counting(usize::MAX), worker, |_| Ok(())));
    }
}
