//! The kernels of decoding: one row times a matrix, and one query against a cache.
//!
//! With one row there is nothing to block for: every weight is used once, so the product takes as
//! long as reading the matrix does. Both kernels therefore walk their matrix in the order in which
//! it lies in memory. Several rows at a time share each weight and go through
//! [`gemm`](crate::gemm()).

use crate::math::exp;
use crate::parallel::rows_per_thread;
use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

dispatch!(fn row_times_columns(x: &[f32], w: &[f32], stride: usize, out: &mut [f32]) = row_times_columns_kernel);
dispatch!(fn row_times_rows(x: &[f32], w: &[f32], out: &mut [f32]) = row_times_rows_kernel);
dispatch!(fn attend_one(q: &[f32], keys: &[f32], values: &[f32], scores: &mut [f32], out: &mut [f32]) = attend_kernel);

/// Below this many multiply-adds a product is done before other threads have woken up.
const WORTH_DIVIDING: usize = 64 * 1024;

/// `out ← x · w` for a row `x` `[K]` and `w` `[K, M]`.
///
/// # Panics
/// If the lengths do not fit together.
pub fn row_times_matrix(x: &[f32], w: &[f32], out: &mut [f32], threads: usize) {
    let m = out.len();
    assert_eq!(w.len(), x.len() * m, "a row of {} times a matrix with {m} columns", x.len());
    if threads <= 1 || w.len() < WORTH_DIVIDING {
        return row_times_columns(x, w, m, out);
    }
    // Whole cache lines per thread.
    let each = rows_per_thread(m.div_ceil(16), threads) * 16;
    out.par_chunks_mut(each)
        .enumerate()
        .for_each(|(i, out)| row_times_columns(x, &w[i * each..], m, out));
}

/// `out ← x · wᵀ` for a row `x` `[K]` and `w` `[M, K]`.
///
/// # Panics
/// If the lengths do not fit together.
pub fn row_times_transposed(x: &[f32], w: &[f32], out: &mut [f32], threads: usize) {
    let k = x.len();
    assert_eq!(w.len(), k * out.len(), "a row of {k} times the rows of a matrix");
    if threads <= 1 || w.len() < WORTH_DIVIDING {
        return row_times_rows(x, w, out);
    }
    let each = rows_per_thread(out.len(), threads);
    out.par_chunks_mut(each)
        .zip(w.par_chunks(each * k))
        .for_each(|(out, w)| row_times_rows(x, w, out));
}

/// `out ← softmax(q · keysᵀ / √D) · values`, one query of one head `[D]` against the cached
/// positions: `keys` and `values` `[S, D]`, `scores` `[S]` is scratch.
///
/// # Panics
/// If the lengths do not fit together.
pub fn attend(q: &[f32], keys: &[f32], values: &[f32], scores: &mut [f32], out: &mut [f32]) {
    let cached = scores.len() * q.len();
    assert!(
        keys.len() == cached && values.len() == cached && out.len() == q.len(),
        "{} positions of {} channels need {cached} keys and values, got {} and {}",
        scores.len(),
        q.len(),
        keys.len(),
        values.len()
    );
    attend_one(q, keys, values, scores, out);
}

/// Rows of `w` that are added to `out` in one sweep over it.
const SWEEP: usize = 8;

/// `out[j] = Σ_p x[p] · w[p · stride + j]`: eight rows of `w` are streamed at a time, so that `out`,
/// which stays in L1, is read and written once for eight.
#[inline(always)]
fn row_times_columns_kernel<V: Vector>(x: &[f32], w: &[f32], stride: usize, out: &mut [f32]) {
    out.fill(0.0);
    for (x, w) in x.chunks(SWEEP).zip(w.chunks(SWEEP * stride)) {
        let mut col = 0;
        for out in out.chunks_mut(V::LANES) {
            let mut sum = V::load(out);
            for (p, &x) in x.iter().enumerate() {
                let w = &w[p * stride + col..][..out.len()];
                sum = V::splat(x).mul_add(V::load(w), sum);
            }
            sum.store(out);
            col += V::LANES;
        }
    }
}

#[inline(always)]
fn row_times_rows_kernel<V: Vector>(x: &[f32], w: &[f32], out: &mut [f32]) {
    for (w, out) in w.chunks_exact(x.len()).zip(out) {
        *out = dot::<V>(x, w);
    }
}

#[inline(always)]
fn dot<V: Vector>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [V::zero(); 4];
    for (a, b) in a.chunks(4 * V::LANES).zip(b.chunks(4 * V::LANES)) {
        for ((a, b), sum) in a.chunks(V::LANES).zip(b.chunks(V::LANES)).zip(&mut sums) {
            *sum = V::load(a).mul_add(V::load(b), *sum);
        }
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
}

#[inline(always)]
fn attend_kernel<V: Vector>(
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    scores: &mut [f32],
    out: &mut [f32],
) {
    let d = q.len();
    let scale = 1.0 / (d as f32).sqrt();
    let mut max = f32::NEG_INFINITY;
    for (key, score) in keys.chunks_exact(d).zip(scores.iter_mut()) {
        *score = dot::<V>(q, key) * scale;
        max = max.max(*score);
    }
    let m = V::splat(max);
    let mut sum = V::zero();
    for x in scores.chunks_mut(V::LANES) {
        let e = exp(V::load_or(x, f32::NEG_INFINITY) - m);
        sum = sum + e;
        e.store(x);
    }
    let factor = 1.0 / sum.sum();
    for (i, out) in out.chunks_mut(V::LANES).enumerate() {
        let mut total = V::zero();
        for (value, &weight) in values.chunks_exact(d).zip(scores.iter()) {
            let lanes = &value[i * V::LANES..][..out.len()];
            total = V::splat(weight).mul_add(V::load(lanes), total);
        }
        (total * V::splat(factor)).store(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, at_every_level, noise};

    #[test]
    fn products_equal_the_plain_sums() {
        at_every_level(|level| {
            for (k, m, threads) in [(1, 1, 1), (7, 33, 1), (64, 5, 2), (300, 401, 2), (17, 8000, 3)]
            {
                let what = format!("{level:?} [{k}] times [{k}, {m}]");
                let (x, w) = (noise(k, 1), noise(k * m, 2));
                let mut out = vec![f32::NAN; m];
                row_times_matrix(&x, &w, &mut out, threads);
                let column = |j: usize| (0..k).map(|p| x[p] * w[p * m + j]).sum::<f32>();
                assert_close(&out, &(0..m).map(column).collect::<Vec<_>>(), 1e-5, &what);
                row_times_transposed(&x, &w, &mut out, threads);
                let row = |j: usize| (0..k).map(|p| x[p] * w[j * k + p]).sum::<f32>();
                assert_close(&out, &(0..m).map(row).collect::<Vec<_>>(), 1e-5, &what);
            }
        });
    }

    #[test]
    fn attending_equals_the_last_row_of_the_whole_attention() {
        use crate::attention::{Shape, forward};
        at_every_level(|level| {
            for (t, d) in [(1, 1), (5, 7), (50, 33), (131, 64)] {
                let qkv = noise(t * 3 * d, 3);
                let shape = Shape { batch: 1, time: t, heads: 1, head_dim: d };
                let (mut expected, mut lse) = (vec![0.0; t * d], vec![0.0; t]);
                forward(&qkv, shape, None, &mut expected, &mut lse, 1);
                let part = |i: usize| -> Vec<f32> {
                    qkv.chunks(3 * d).flat_map(|row| row[i * d..(i + 1) * d].to_vec()).collect()
                };
                let (mut scores, mut out) = (vec![0.0; t], vec![0.0; d]);
                attend(&part(0)[(t - 1) * d..], &part(1), &part(2), &mut scores, &mut out);
                assert_close(&out, &expected[(t - 1) * d..], 1e-5, &format!("{level:?} {t} {d}"));
            }
        });
    }
}
