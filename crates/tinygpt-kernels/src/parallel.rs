//! Dividing rows among threads.
//!
//! A kernel cuts its slices into at most `threads` runs of whole rows and hands them to rayon's
//! current pool. The cut depends on the sizes and on `threads` alone, never on timing, so the
//! results of a thread count are always the same.

use crate::bias::sum_rows;
use rayon::prelude::*;

/// How many of `rows` one of `threads` threads takes; at least 1, so that it can size a chunk.
pub(crate) fn rows_per_thread(rows: usize, threads: usize) -> usize {
    rows.div_ceil(threads.max(1)).max(1)
}

/// Runs `kernel` on each part, each with its own zeroed copy of `sum`, and adds the copies to
/// `sum` in the order of the parts. `parts` must hold at most `threads` items.
pub(crate) fn sum_rows_in_parallel<P: Send>(
    sum: &mut [f32],
    parts: impl IndexedParallelIterator<Item = P>,
    threads: usize,
    kernel: impl Fn(P, &mut [f32]) + Sync,
) {
    let mut partial = vec![0.0; sum.len() * threads];
    parts.zip(partial.par_chunks_mut(sum.len())).for_each(|(part, sum)| kernel(part, sum));
    sum_rows(&partial, sum);
}
