//! Dividing rows among threads.
//!
//! A kernel cuts its slices into at most `threads` runs of whole rows and hands them to rayon's
//! current pool. The cut depends on the sizes and on `threads` alone, never on timing, so the
//! results of a thread count are always the same.

/// How many of `rows` one of `threads` threads takes; at least 1, so that it can size a chunk.
pub(crate) fn rows_per_thread(rows: usize, threads: usize) -> usize {
    rows.div_ceil(threads.max(1)).max(1)
}
