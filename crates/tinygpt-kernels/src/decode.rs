//! The kernels of decoding: a few rows times a matrix, and one query against a cache.
//!
//! With one row there is nothing to block for: every weight is used once, so the product takes as
//! long as reading the matrix does. The kernels therefore walk their matrix in the order in which
//! it lies in memory, and where several rows are decoded together each weight that was read serves
//! all of them. The sum of a row is formed in the same order however many rows there are, so a row
//! of a batch has the bits of the row alone. Nothing here divides work among threads: the
//! decoder gives each thread columns or rows of its own.

use crate::math::exp;
use crate::simd::{Vector, dispatch};

dispatch!(fn matrix_rows(n: usize, x: Strided<'_>, w: &[f32], m: usize, out: &mut [f32], stride: usize) = matrix_kernel);
dispatch!(fn table_rows(x: &[f32], n: usize, table: &[f32], out: &mut [f32]) = table_kernel);
dispatch!(fn attend_one(q: &[f32], keys: &[f32], values: &[f32], scores: &mut [f32], out: &mut [f32]) = attend_kernel);

/// Rows that begin `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    /// From the first element of the first row on.
    pub data: &'a [f32],
    /// From row to row.
    pub stride: usize,
}

/// Rows to write that begin `stride` elements apart.
#[derive(Debug)]
pub struct StridedMut<'a> {
    /// From the first element of the first row on.
    pub data: &'a mut [f32],
    /// From row to row.
    pub stride: usize,
}

/// How far apart the sums of [`times_matrix`] should begin: at a distance of a multiple of 4 KiB,
/// which GPT-2's widths often are, all of them would compete for the same few sets of the L1
/// cache.
pub fn stride_of(m: usize) -> usize {
    m.next_multiple_of(16) + 16
}

/// `out ← x · w` for `n` rows of `x` `[N, K]`, `w` `[K, M]` and the first M of each row of `out`,
/// whose rows begin `stride` elements apart.
///
/// # Panics
/// If the lengths do not fit together.
pub fn times_matrix(n: usize, x: Strided<'_>, w: Strided<'_>, out: StridedMut<'_>) {
    let (Strided { data: w, stride: m }, StridedMut { data: out, stride }) = (w, out);
    let k = w.len() / m.max(1);
    let needed = |stride: usize, len: usize| if n == 0 { 0 } else { (n - 1) * stride + len };
    assert!(
        w.len() == k * m
            && x.data.len() >= needed(x.stride, k)
            && out.len() >= needed(stride, m)
            && stride >= m,
        "{n} rows of {} times a matrix [{k}, {m}] into {}",
        x.data.len(),
        out.len()
    );
    matrix_rows(n, x, w, m, out, stride);
}

/// `out ← x · tableᵀ` for `n` rows `x` `[N, K]`, `table` `[M, K]` and `out` `[N, M]`.
///
/// # Panics
/// If the lengths do not fit together.
pub fn times_table(x: &[f32], n: usize, table: &[f32], out: &mut [f32]) {
    let k = x.len() / n.max(1);
    assert!(
        x.len() == n * k && table.len() * n == k * out.len(),
        "{n} rows of {k} times a table of {} into {}",
        table.len(),
        out.len()
    );
    table_rows(x, n, table, out);
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

/// Eight rows of the matrix are added in one sweep over the sums where several rows of `x` share
/// them, so that a sum, which lies in L1, is read and written once for eight. One row of `x` keeps
/// up with the memory anyway, and does best when the matrix is read strictly in order.
#[inline(always)]
fn matrix_kernel<V: Vector>(
    n: usize,
    x: Strided<'_>,
    w: &[f32],
    m: usize,
    out: &mut [f32],
    stride: usize,
) {
    for row in 0..n {
        out[row * stride..][..m].fill(0.0);
    }
    let k = w.len() / m.max(1);
    let mut p = 0;
    if n > 1 {
        while p + 8 <= k {
            sweep::<V, 8>(n, x, p, &w[p * m..], m, out, stride);
            p += 8;
        }
    }
    for p in p..k {
        sweep::<V, 1>(n, x, p, &w[p * m..], m, out, stride);
    }
}

/// `out += x[:, p..p + S] · w` for S rows of `w`.
#[inline(always)]
fn sweep<V: Vector, const S: usize>(
    n: usize,
    x: Strided<'_>,
    p: usize,
    w: &[f32],
    m: usize,
    out: &mut [f32],
    stride: usize,
) {
    let mut col = 0;
    // Apart from the rest, so that the length of a register is a constant where it can be.
    while col + V::LANES <= m {
        sweep_column::<V, S>(n, x, p, w, m, out, stride, col, V::LANES);
        col += V::LANES;
    }
    if col < m {
        sweep_column::<V, S>(n, x, p, w, m, out, stride, col, m - col);
    }
}

/// One register wide. With several rows of `w` the ones that come next are asked for meanwhile, in
/// the order in which they lie in memory: the CPU does not prefetch eight streams as well as one.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the body of a loop")]
fn sweep_column<V: Vector, const S: usize>(
    n: usize,
    x: Strided<'_>,
    p: usize,
    w: &[f32],
    m: usize,
    out: &mut [f32],
    stride: usize,
    col: usize,
    lanes: usize,
) {
    let (rows, next) = w.split_at(S * m);
    let mut loaded = [V::zero(); S];
    for i in 0..S {
        loaded[i] = V::load(&rows[i * m + col..][..lanes]);
    }
    if S > 1 {
        ask_for::<V>(next, S * col, S * V::LANES);
    }
    for row in 0..n {
        let x = &x.data[row * x.stride + p..][..S];
        let out = &mut out[row * stride + col..][..lanes];
        let mut sum = V::load(out);
        for i in 0..S {
            sum = V::splat(x[i]).mul_add(loaded[i], sum);
        }
        sum.store(out);
    }
}

/// Asks for `len` elements from `from` on, as far as there are any.
#[inline(always)]
fn ask_for<V: Vector>(of: &[f32], from: usize, len: usize) {
    let mut at = from;
    while at < from + len {
        if let Some(line) = of.get(at..) {
            V::prefetch_read(line);
        }
        at += 16;
    }
}

/// Where several rows of `x` meet the table, four entries at a time meet four rows: eight loads
/// then serve sixteen products. One row reads the table strictly in order.
#[inline(always)]
fn table_kernel<V: Vector>(x: &[f32], n: usize, table: &[f32], out: &mut [f32]) {
    let k = x.len() / n.max(1);
    let m = out.len() / n.max(1);
    let mut entry = 0;
    if n > 1 {
        while entry + 4 <= m {
            entries::<V, 4>(x, k, &table[entry * k..], &mut out[entry..], m);
            entry += 4;
        }
    }
    while entry < m {
        entries::<V, 1>(x, k, &table[entry * k..], &mut out[entry..], m);
        entry += 1;
    }
}

/// `out[r · m + e] ← x[r] · entries[e]` for E entries and all rows.
#[inline(always)]
fn entries<V: Vector, const E: usize>(
    x: &[f32],
    k: usize,
    entries: &[f32],
    out: &mut [f32],
    m: usize,
) {
    let (entries, next) = entries.split_at(E * k);
    let n = x.len() / k;
    let mut row = 0;
    while row + 4 <= n {
        let ahead = if row == 0 { next } else { &[] };
        dots::<V, E, 4>(&x[row * k..], entries, ahead, &mut out[row * m..], m);
        row += 4;
    }
    while row + 2 <= n {
        dots::<V, E, 2>(&x[row * k..], entries, &[], &mut out[row * m..], m);
        row += 2;
    }
    if row < n {
        dots::<V, E, 1>(&x[row * k..], entries, &[], &mut out[row * m..], m);
    }
}

/// E entries and R rows; each sum is one register from the first channel to the last.
#[inline(always)]
fn dots<V: Vector, const E: usize, const R: usize>(
    x: &[f32],
    entries: &[f32],
    next: &[f32],
    out: &mut [f32],
    m: usize,
) {
    let k = entries.len() / E;
    let mut sums = [[V::zero(); E]; R];
    let mut at = 0;
    while at + V::LANES <= k {
        if E > 1 {
            ask_for::<V>(next, E * at, E * V::LANES);
        }
        multiply::<V, E, R>(x, entries, k, at, V::LANES, &mut sums);
        at += V::LANES;
    }
    if at < k {
        multiply::<V, E, R>(x, entries, k, at, k - at, &mut sums);
    }
    for r in 0..R {
        for e in 0..E {
            out[r * m + e] = sums[r][e].sum();
        }
    }
}

#[inline(always)]
fn multiply<V: Vector, const E: usize, const R: usize>(
    x: &[f32],
    entries: &[f32],
    k: usize,
    at: usize,
    lanes: usize,
    sums: &mut [[V; E]; R],
) {
    let mut loaded = [V::zero(); E];
    for e in 0..E {
        loaded[e] = V::load(&entries[e * k + at..][..lanes]);
    }
    for r in 0..R {
        let x = V::load(&x[r * k + at..][..lanes]);
        for e in 0..E {
            sums[r][e] = x.mul_add(loaded[e], sums[r][e]);
        }
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
    let factor = V::splat(1.0 / sum.sum());
    let mut from = 0;
    while from + 4 * V::LANES <= d {
        weigh::<V, 4>(values, scores, factor, from, V::LANES, out);
        from += 4 * V::LANES;
    }
    while from < d {
        let lanes = V::LANES.min(d - from);
        weigh::<V, 1>(values, scores, factor, from, lanes, out);
        from += lanes;
    }
}

/// The weighted sum of N registers of the values, `from` the given channel on. Several are added next to
/// each other, since each addition to a sum waits for the one before.
#[inline(always)]
fn weigh<V: Vector, const N: usize>(
    values: &[f32],
    weights: &[f32],
    factor: V,
    from: usize,
    lanes: usize,
    out: &mut [f32],
) {
    let mut totals = [V::zero(); N];
    for (value, &weight) in values.chunks_exact(out.len()).zip(weights) {
        let weight = V::splat(weight);
        for i in 0..N {
            totals[i] = weight.mul_add(V::load(&value[from + i * V::LANES..][..lanes]), totals[i]);
        }
    }
    for i in 0..N {
        (totals[i] * factor).store(&mut out[from + i * V::LANES..][..lanes]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, at_every_level, noise};

    /// `x · w` for rows `x` and row-major `w` `[K, M]`.
    fn plain(x: &[f32], w: &[f32], m: usize) -> Vec<f32> {
        let k = w.len() / m;
        let entry = |x: &[f32], j: usize| (0..k).map(|p| x[p] * w[p * m + j]).sum::<f32>();
        x.chunks(k).flat_map(|x| (0..m).map(move |j| entry(x, j))).collect()
    }

    #[test]
    fn products_equal_the_plain_sums() {
        at_every_level(|level| {
            for (n, k, m) in [(1, 1, 1), (1, 7, 33), (2, 64, 5), (3, 300, 401), (10, 17, 80)] {
                let what = format!("{level:?} [{n}, {k}] times [{k}, {m}]");
                let (wide, w) = (noise(n * (k + 3), 1), noise(k * m, 2));
                let x: Vec<f32> =
                    wide.chunks(k + 3).flat_map(|row| row[2..k + 2].to_vec()).collect();
                let (strided, stride) = (Strided { data: &wide[2..], stride: k + 3 }, m + 2);
                let mut out = vec![7.0; n * stride];
                times_matrix(
                    n,
                    strided,
                    Strided { data: &w, stride: m },
                    StridedMut { data: &mut out, stride },
                );
                let (got, between): (Vec<_>, Vec<_>) =
                    out.chunks(stride).map(|row| row.split_at(m)).unzip();
                assert_close(&got.concat(), &plain(&x, &w, m), 1e-5, &what);
                assert!(between.concat().iter().all(|x| *x == 7.0), "{what}: wrote between rows");
                let table: Vec<f32> =
                    (0..m).flat_map(|j| (0..k).map(move |p| p * m + j)).map(|i| w[i]).collect();
                let mut out = vec![f32::NAN; n * m];
                times_table(&x, n, &table, &mut out);
                assert_close(&out, &plain(&x, &w, m), 1e-5, &what);
            }
        });
    }

    #[test]
    fn a_row_of_a_batch_has_the_bits_of_the_row_alone() {
        at_every_level(|level| {
            let (n, k, m) = (7, 45, 83);
            let (x, w) = (noise(n * k, 1), noise(k * m, 2));
            let (mut together, mut alone) = (vec![0.0; n * m], vec![0.0; m]);
            times_matrix(
                n,
                Strided { data: &x, stride: k },
                Strided { data: &w, stride: m },
                StridedMut { data: &mut together, stride: m },
            );
            for (x, together) in x.chunks(k).zip(together.chunks(m)) {
                times_matrix(
                    1,
                    Strided { data: x, stride: k },
                    Strided { data: &w, stride: m },
                    StridedMut { data: &mut alone, stride: m },
                );
                assert_eq!(alone, together, "{level:?} matrix");
            }
            times_table(&x, n, &w, &mut together);
            for (x, together) in x.chunks(k).zip(together.chunks(m)) {
                times_table(x, 1, &w, &mut alone);
                assert_eq!(alone, together, "{level:?} table");
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
                forward(&qkv, shape, None, None, &mut expected, &mut lse, 1);
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
