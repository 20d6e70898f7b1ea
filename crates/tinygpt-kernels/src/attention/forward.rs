//! The forward pass of attention.

use super::products::{KEYS, QUERIES, TILE, Tile, scores, weighted};
use super::{HeadView, PackedKeys, Shape, documents};
use crate::dropout::Dropout;
use crate::gemm::{MatrixMut, Store};
use crate::math::exp;
use crate::parallel::rows_per_thread;
use crate::scratch::with_scratch;
use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

dispatch!(fn softmax_rows(rows: Rows, scores: &mut [f32], lse: &mut [f32], sums: &mut [f32]) = softmax_kernel);
dispatch!(fn scale_row(row: &mut [f32], factor: f32) = scale_kernel);

/// Writes `out` `[B, T, C]` and the log-sum-exp of the scaled scores `lse` `[B, H, T]`.
///
/// `starts` `[B, T]`, if given, is the position where the document of each position starts: a query
/// then attends to no key before it.
///
/// The dropout mask of score (i, j) of head h in sequence b is that of row `(b·H + h)·T + i` and
/// column j. With `threads` above 1 the sequences are divided among them.
///
/// # Panics
/// If the lengths do not fit `shape`.
pub fn forward(
    qkv: &[f32],
    shape: Shape,
    starts: Option<&[u32]>,
    dropout: Option<Dropout>,
    out: &mut [f32],
    lse: &mut [f32],
    threads: usize,
) {
    shape.check(qkv, out, lse, starts);
    let (rows, c) = (shape.time, shape.channels());
    let sequences = |first: usize, qkv: &[f32], out: &mut [f32], lse: &mut [f32]| {
        let inputs = qkv.chunks(rows * 3 * c).zip(out.chunks_mut(rows * c));
        for (b, ((qkv, out), lse)) in inputs.zip(lse.chunks_mut(rows * shape.heads)).enumerate() {
            for document in documents(starts, first + b, rows) {
                for (h, lse) in lse.chunks_mut(rows).enumerate() {
                    let row = ((first + b) * shape.heads + h) * rows + document.start;
                    let dropout = dropout.map(|d| d.skip_rows(row).skip_cols(document.start));
                    let head = HeadView::new(qkv, &shape, h, &document);
                    let out = &mut out[document.start * c + head.offset..];
                    one_head(head, shape.score_scale(), dropout, out, &mut lse[document.clone()]);
                }
            }
        }
    };
    if threads <= 1 {
        return sequences(0, qkv, out, lse);
    }
    let each = rows_per_thread(shape.batch, threads);
    qkv.par_chunks(each * rows * 3 * c)
        .zip(out.par_chunks_mut(each * rows * c))
        .zip(lse.par_chunks_mut(each * rows * shape.heads))
        .enumerate()
        .for_each(|(part, ((qkv, out), lse))| sequences(part * each, qkv, out, lse));
}

/// One head of one document; `out` begins at the head's first column.
fn one_head(
    head: HeadView<'_>,
    scale: f32,
    dropout: Option<Dropout>,
    out: &mut [f32],
    lse: &mut [f32],
) {
    let (t, d, c) = (head.time, head.head_dim, head.channels);
    let tiles_len = t.div_ceil(KEYS) * TILE;
    with_scratch(2 * PackedKeys::len(t, d) + tiles_len, |scratch| {
        let (k_t, scratch) = PackedKeys::new(head.k(), true, scratch);
        let (v, tiles) = PackedKeys::new(head.v(), false, scratch);
        let mut sums = [0.0; QUERIES];
        for query in (0..t).step_by(QUERIES) {
            let queries = QUERIES.min(t - query);
            let q = head.q().block((query, 0), (queries, d));
            for (tile, data) in Tile::row(query, t).zip(tiles.chunks_exact_mut(TILE)) {
                scores(tile, q, k_t.of(&tile), data);
            }
            let rows = Rows { query, time: t, scale, dropout };
            softmax_rows(rows, tiles, &mut lse[query..query + queries], &mut sums);
            let rows = &mut out[query * c..];
            let mut to = MatrixMut::with_row_stride(rows, queries, d, c);
            for (tile, data) in Tile::row(query, t).zip(tiles.chunks_exact(TILE)) {
                let store = if tile.key == 0 { Store::Overwrite } else { Store::Accumulate };
                weighted(tile, data, v.of(&tile), &mut to, store);
            }
            for (row, sum) in rows.chunks_mut(c).zip(&sums[..queries]) {
                scale_row(&mut row[..d], 1.0 / sum);
            }
        }
    });
}

/// A row of tiles, and what is done to their scores.
#[derive(Clone, Copy)]
struct Rows {
    /// Position of the first query.
    query: usize,
    /// T.
    time: usize,
    /// `1/√D`.
    scale: f32,
    /// The head's dropout; its row 0 is query 0.
    dropout: Option<Dropout>,
}

/// Turns raw scores into `exp(score − max)` (with dropout applied), their row sums (without) and
/// the log-sum-exps. Scores behind the diagonal become zero.
///
/// The division by the sum is left to the output row, which is shorter.
#[inline(always)]
fn softmax_kernel<V: Vector>(rows: Rows, scores: &mut [f32], lse: &mut [f32], sums: &mut [f32]) {
    let scale = V::splat(rows.scale);
    for (i, (lse, total)) in lse.iter_mut().zip(sums).enumerate() {
        let mut largest = V::splat(f32::NEG_INFINITY);
        for (tile, scores) in Tile::row(rows.query, rows.time).zip(scores.chunks_exact(TILE)) {
            for x in scores[i * KEYS..][..tile.visible(i)].chunks(V::LANES) {
                largest = largest.max(V::load_or(x, f32::NEG_INFINITY));
            }
        }
        let max = largest.largest() * rows.scale;
        let m = V::splat(-max);
        let key = rows.dropout.map(|d| (d, d.row_key(rows.query + i)));
        let mut sum = V::zero();
        for (tile, scores) in Tile::row(rows.query, rows.time).zip(scores.chunks_exact_mut(TILE)) {
            let (seen, hidden) = scores[i * KEYS..][..KEYS].split_at_mut(tile.visible(i));
            hidden.fill(0.0);
            for (n, x) in seen.chunks_mut(V::LANES).enumerate() {
                let e = exp(V::load_or(x, f32::NEG_INFINITY).mul_add(scale, m));
                sum = sum + e;
                match key {
                    Some((dropout, key)) => {
                        dropout.apply(e, key, tile.key + n * V::LANES).store(x);
                    }
                    None => e.store(x),
                }
            }
        }
        *total = sum.sum();
        *lse = max + total.ln();
    }
}

#[inline(always)]
fn scale_kernel<V: Vector>(row: &mut [f32], factor: f32) {
    let factor = V::splat(factor);
    for x in row.chunks_mut(V::LANES) {
        (V::load(x) * factor).store(x);
    }
}
