//! Threads for libraries that may answer a broken file with a panic, as those for parquet and for
//! `tokenizer.json` do. The thread has a name by which the program knows to stay silent; the panic
//! ends there and is an error here.

use std::io;
use std::thread::{self, Builder, JoinHandle};

/// The name of the threads whose panics are a broken file's and no bug of ours.
pub const FOREIGN_THREAD: &str = "foreign reader";

fn builder() -> Builder {
    Builder::new().name(FOREIGN_THREAD.to_owned())
}

/// Starts `work` on such a thread.
///
/// # Errors
/// If the system refuses a thread.
pub(crate) fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    builder().spawn(work)
}

/// Runs `work` on such a thread; `None` if it panics.
///
/// # Errors
/// If the system refuses a thread.
pub(crate) fn run<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<Option<T>> {
    thread::scope(|scope| Ok(builder().spawn_scoped(scope, work)?.join().ok()))
}
