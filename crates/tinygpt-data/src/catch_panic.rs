//! Calls into libraries that may panic on a damaged file, as those for parquet and for
//! `tokenizer.json` do. The panic is caught and becomes an error; the program's panic hook calls
//! [`is_in_library`] and prints nothing.

use std::cell::Cell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::thread::{Builder, JoinHandle};

thread_local! {
    static IN_LIBRARY: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a library whose panics come from a damaged file, not from a bug.
#[must_use]
pub fn is_in_library() -> bool {
    IN_LIBRARY.get()
}

/// Runs `work` and returns its result, or `None` if it panics.
///
/// After a panic, what `work` changes must not be used, or must still be consistent.
pub(crate) fn guard<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = IN_LIBRARY.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    IN_LIBRARY.set(before);
    result.ok()
}

/// Starts a thread that does guarded `work`; it ends with `None` if that panics.
///
/// # Errors
/// If the system refuses a thread.
pub(crate) fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<Option<T>>> {
    Builder::new().name("library".to_owned()).spawn(move || guard(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_returns_nothing_and_the_flag_ends_with_the_call() {
        assert_eq!(guard(|| (is_in_library(), guard(is_in_library))), Some((true, Some(true))));
        assert_eq!(guard(|| guard(|| panic!("expected")).is_none()), Some(true));
        assert!(!is_in_library());
    }
}
