//! Sums of vectors and of rows, also across threads.

use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

dispatch!(
    /// `sum += Σ rows`, for rows of the length of `sum`.
    pub(crate) fn sum_rows(rows: &[f32], sum: &mut [f32]) = sum_rows_kernel
);

/// `sum += x`.
///
/// # Panics
/// If the lengths differ.
pub fn add(sum: &mut [f32], x: &[f32], threads: usize) {
    assert_eq!(sum.len(), x.len(), "adding vectors of different lengths");
    if threads <= 1 || sum.len() < 4096 {
        return sum_rows(x, sum);
    }
    let each = sum.len().div_ceil(threads);
    sum.par_chunks_mut(each).zip(x.par_chunks(each)).for_each(|(sum, x)| sum_rows(x, sum));
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

#[inline(always)]
fn sum_rows_kernel<V: Vector>(rows: &[f32], sum: &mut [f32]) {
    if sum.is_empty() {
        return;
    }
    for row in rows.chunks_exact(sum.len()) {
        for (sum, x) in sum.chunks_mut(V::LANES).zip(row.chunks(V::LANES)) {
            (V::load(sum) + V::load(x)).store(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at_every_level, noise};

    #[test]
    fn adds_every_element_once() {
        at_every_level(|level| {
            for len in [1, 17, 4096, 10_001] {
                let (a, b) = (noise(len, 1), noise(len, 2));
                let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
                for threads in [1, 2, 3] {
                    let mut sum = a.clone();
                    add(&mut sum, &b, threads);
                    assert!(sum == expected, "{level:?} length {len}, {threads} threads");
                }
            }
        });
    }
}
