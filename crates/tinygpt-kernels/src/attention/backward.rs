//! The backward pass of attention.
//!
//! With P the probabilities, M the dropout mask times its scale, `P̃ = P ∘ M` and dO the gradient of
//! the output: `dV = P̃ᵀ dO`, `dP = (dO Vᵀ) ∘ M`, `dS = P ∘ (dP − δ)`, `dQ = dS K / √D`,
//! `dK = dSᵀ Q / √D`, where `δ_i = Σ_j P_ij dP_ij = Σ_d dO_id O_id`, so that it needs no second
//! pass over the row. Source: Dao et al. 2022, appendix B.2 and B.4.

use super::products::{KEYS, QUERIES, TILE, Tile, scores, weighted, weighted_transposed};
use super::{HeadView, PackedKeys, Shape, documents};
use crate::dropout::Dropout;
use crate::gemm::{Matrix, MatrixMut, Panels, Store, pack, packed_len};
use crate::math::exp;
use crate::parallel::rows_per_thread;
use crate::scratch::with_scratch;
use crate::simd::{Vector, dispatch, level};
use rayon::prelude::*;

dispatch!(fn row_dots(a: &[f32], b: &[f32], stride: usize, width: usize, dots: &mut [f32]) = row_dots_kernel);
dispatch!(fn gradient_tile(tile: Tile, rows: Rows<'_>, scores: &mut [f32], dp: &mut [f32]) = gradient_kernel);

/// What the backward pass reads: the forward pass's slices and the gradient of its output.
#[derive(Clone, Copy, Debug)]
pub struct Gradient<'a> {
    /// Packed queries, keys and values `[B, T, 3C]`.
    pub qkv: &'a [f32],
    /// Output of the forward pass, `[B, T, C]`.
    pub out: &'a [f32],
    /// Log-sum-exps of the forward pass, `[B, H, T]`.
    pub lse: &'a [f32],
    /// Gradient of the output, `[B, T, C]`.
    pub dout: &'a [f32],
}

/// Writes the gradient of the packed input to `dqkv` `[B, T, 3C]`.
///
/// `starts` and `dropout` must be what the forward pass had.
///
/// # Panics
/// If the lengths do not fit `shape`.
pub fn backward(
    given: Gradient<'_>,
    shape: Shape,
    starts: Option<&[u32]>,
    dropout: Option<Dropout>,
    dqkv: &mut [f32],
    threads: usize,
) {
    shape.check(given.qkv, given.out, given.lse, starts);
    shape.check(dqkv, given.dout, given.lse, starts);
    let (rows, c) = (shape.time, shape.channels());
    let run = |(b, dqkv): (usize, &mut [f32])| {
        let packed = b * rows * 3 * c..(b + 1) * rows * 3 * c;
        let plain = b * rows * c..(b + 1) * rows * c;
        let (qkv, out, dout) = (&given.qkv[packed], &given.out[plain.clone()], &given.dout[plain]);
        for document in documents(starts, b, rows) {
            let dqkv = &mut dqkv[document.start * 3 * c..document.end * 3 * c];
            for h in 0..shape.heads {
                let row = (b * shape.heads + h) * rows + document.start;
                let head = HeadView::new(qkv, &shape, h, &document);
                let first = document.start * c + head.offset;
                let saved = OneHead {
                    out: &out[first..],
                    dout: &dout[first..],
                    lse: &given.lse[row..][..document.len()],
                    scale: shape.score_scale(),
                    dropout: dropout.map(|d| d.skip_rows(row).skip_cols(document.start)),
                };
                one_head(head, saved, dqkv);
            }
        }
    };
    let sequence = rows * 3 * c;
    if threads <= 1 {
        return dqkv.chunks_mut(sequence).enumerate().for_each(run);
    }
    let each = rows_per_thread(shape.batch, threads);
    dqkv.par_chunks_mut(each * sequence).enumerate().for_each(|(part, dqkv)| {
        let sequences = dqkv.chunks_mut(sequence).enumerate();
        sequences.for_each(|(b, dqkv)| run((part * each + b, dqkv)));
    });
}

/// The share of one head and document of [`Gradient`]; the slices begin at the head's first column.
#[derive(Clone, Copy)]
struct OneHead<'a> {
    out: &'a [f32],
    dout: &'a [f32],
    lse: &'a [f32],
    scale: f32,
    dropout: Option<Dropout>,
}

/// Tile by tile: everything that a tile of scores contributes is added while it is in L1.
fn one_head(head: HeadView<'_>, saved: OneHead<'_>, dqkv: &mut [f32]) {
    let (t, d, c) = (head.time, head.head_dim, head.channels);
    let packed_rows = packed_len(QUERIES, d);
    let len = 3 * PackedKeys::len(t, d) + 2 * packed_rows + 2 * TILE + 2 * t * d;
    with_scratch(len, |scratch| {
        let (k_t, scratch) = PackedKeys::new(head.k(), true, scratch);
        let (v_t, scratch) = PackedKeys::new(head.v(), true, scratch);
        let (k, scratch) = PackedKeys::new(head.k(), false, scratch);
        let (packed_q, scratch) = scratch.split_at_mut(packed_rows);
        let (packed_dout, scratch) = scratch.split_at_mut(packed_rows);
        let (p, scratch) = scratch.split_at_mut(TILE);
        let (ds, sums) = scratch.split_at_mut(TILE);
        sums.fill(0.0);
        let (dk, dv) = sums.split_at_mut(t * d);
        let mut deltas = [0.0; QUERIES];
        for query in (0..t).step_by(QUERIES) {
            let queries = QUERIES.min(t - query);
            let dout_rows = &saved.dout[query * c..];
            row_dots(&saved.out[query * c..], dout_rows, c, d, &mut deltas[..queries]);
            let q = head.q().block((query, 0), (queries, d));
            let dout = Matrix::with_row_stride(dout_rows, queries, d, c);
            let level = level();
            pack(q, level, packed_q);
            pack(dout, level, packed_dout);
            let q_panels = Panels::new(packed_q, level, (queries, d));
            let dout_panels = Panels::new(packed_dout, level, (queries, d));
            let dq = &mut dqkv[head.offset + query * 3 * c..];
            let mut dq = MatrixMut::with_row_stride(dq, queries, d, 3 * c);
            let lse = &saved.lse[query..query + queries];
            let rows = Rows { lse, deltas: &deltas, scale: saved.scale, dropout: saved.dropout };
            for tile in Tile::row(query, t) {
                // S = Q Kᵀ and dO Vᵀ, then P̃ and dS in their places.
                scores(tile, q, k_t.of(&tile), p);
                scores(tile, dout, v_t.of(&tile), ds);
                gradient_tile(tile, rows, p, ds);
                let mut dv = MatrixMut::new(&mut dv[tile.key * d..], tile.keys, d);
                weighted_transposed(tile, p, dout_panels, &mut dv);
                let mut dk = MatrixMut::new(&mut dk[tile.key * d..], tile.keys, d);
                weighted_transposed(tile, ds, q_panels, &mut dk);
                let store = if tile.key == 0 { Store::Overwrite } else { Store::Accumulate };
                weighted(tile, ds, k.of(&tile), &mut dq, store);
            }
        }
        let sums = dk.chunks_exact(d).zip(dv.chunks_exact(d));
        for (row, (dk, dv)) in dqkv.chunks_exact_mut(3 * c).zip(sums) {
            row[c + head.offset..][..d].copy_from_slice(dk);
            row[2 * c + head.offset..][..d].copy_from_slice(dv);
        }
    });
}

/// What the rows of a row of tiles need besides their scores.
#[derive(Clone, Copy)]
struct Rows<'a> {
    /// Log-sum-exps.
    lse: &'a [f32],
    /// δ.
    deltas: &'a [f32],
    /// `1/√D`.
    scale: f32,
    /// The head's dropout; its row 0 is query 0.
    dropout: Option<Dropout>,
}

/// `dots[i] = Σ_d a[i, d] · b[i, d]` over rows `stride` apart.
#[inline(always)]
fn row_dots_kernel<V: Vector>(a: &[f32], b: &[f32], stride: usize, width: usize, dots: &mut [f32]) {
    for (i, dot) in dots.iter_mut().enumerate() {
        let (a, b) = (&a[i * stride..][..width], &b[i * stride..][..width]);
        let mut sum = V::zero();
        for (a, b) in a.chunks(V::LANES).zip(b.chunks(V::LANES)) {
            sum = V::load(a).mul_add(V::load(b), sum);
        }
        *dot = sum.sum();
    }
}

/// On entry raw scores and `dO Vᵀ`; on return `P̃` and `dS / √D`, both zero behind the diagonal.
#[inline(always)]
fn gradient_kernel<V: Vector>(tile: Tile, rows: Rows<'_>, scores: &mut [f32], dp: &mut [f32]) {
    let scale = V::splat(rows.scale);
    let tile_rows = scores.chunks_exact_mut(KEYS).zip(dp.chunks_exact_mut(KEYS));
    let row_values = rows.lse.iter().zip(rows.deltas);
    for (i, ((scores, dp), (&lse, &delta))) in tile_rows.zip(row_values).enumerate() {
        let visible = tile.visible(i);
        let (scores, hidden) = scores.split_at_mut(visible);
        hidden.fill(0.0);
        let (dp, hidden) = dp.split_at_mut(visible);
        hidden.fill(0.0);
        let (minus_lse, delta) = (V::splat(-lse), V::splat(delta));
        let key = rows.dropout.map(|d| (d, d.row_key(tile.query + i)));
        let columns = scores.chunks_mut(V::LANES).zip(dp.chunks_mut(V::LANES));
        for (n, (score, dp)) in columns.enumerate() {
            let p = exp(V::load(score).mul_add(scale, minus_lse));
            let grad = V::load(dp);
            let (dropped, grad) = match key {
                Some((dropout, key)) => {
                    let col = tile.key + n * V::LANES;
                    (dropout.apply(p, key, col), dropout.apply(grad, key, col))
                }
                None => (p, grad),
            };
            dropped.store(score);
            (p * (grad - delta) * scale).store(dp);
        }
    }
}
