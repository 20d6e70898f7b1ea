//! The forward pass of attention.

use super::tile::{Left, Out, Right, multiply};
use super::{BLOCK, HeadView, Shape, with_scratch};
use crate::dropout::Dropout;
use crate::math::exp;
use crate::parallel::rows_per_thread;
use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

dispatch!(fn softmax_block(block: Block, scores: &mut [f32], lse: &mut [f32], sums: &mut [f32]) = softmax_kernel);
dispatch!(fn scale_row(row: &mut [f32], factor: f32) = scale_kernel);

/// Writes `out` `[B, T, C]` and the log-sum-exp of the scaled scores `lse` `[B, H, T]`.
///
/// The dropout mask of score (i, j) of head h in sequence b is that of row `(b·H + h)·T + i` and
/// column j. With `threads` above 1 the sequences are divided among them.
///
/// # Panics
/// If the lengths do not fit `shape`.
pub fn forward(
    qkv: &[f32],
    shape: Shape,
    dropout: Option<Dropout>,
    out: &mut [f32],
    lse: &mut [f32],
    threads: usize,
) {
    shape.check(qkv, out, lse);
    let (rows, c) = (shape.time, shape.channels());
    let sequences = |first: usize, qkv: &[f32], out: &mut [f32], lse: &mut [f32]| {
        let inputs = qkv.chunks(rows * 3 * c).zip(out.chunks_mut(rows * c));
        for (b, ((qkv, out), lse)) in inputs.zip(lse.chunks_mut(rows * shape.heads)).enumerate() {
            for (h, lse) in lse.chunks_mut(rows).enumerate() {
                let dropout = dropout.map(|d| d.skip_rows(((first + b) * shape.heads + h) * rows));
                let offset = h * shape.head_dim;
                let (time, head_dim) = (rows, shape.head_dim);
                let head = HeadView { qkv, time, channels: c, head_dim, offset };
                one_head(head, shape.score_scale(), dropout, &mut out[offset..], lse);
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

/// One head of one sequence; `out` begins at the head's first column.
fn one_head(
    head: HeadView<'_>,
    scale: f32,
    dropout: Option<Dropout>,
    out: &mut [f32],
    lse: &mut [f32],
) {
    let (t, d, c, stride) = (head.time, head.head_dim, head.channels, head.padded_time());
    with_scratch((d + BLOCK) * stride, |scratch| {
        let (k_t, scores) = scratch.split_at_mut(d * stride);
        head.transpose(head.k(), k_t);
        let mut sums = [0.0; BLOCK];
        for start in (0..t).step_by(BLOCK) {
            let rows = BLOCK.min(t - start);
            let keys = start + rows;
            let q = Left {
                data: &head.q()[start * head.row_stride()..],
                row_stride: head.row_stride(),
                col_stride: 1,
            };
            let to = Out { data: scores, row_stride: stride, accumulate: false };
            multiply(to, q, Right { data: k_t, row_stride: stride }, (rows, d, keys));
            let block = Block { start, keys, stride, scale, dropout };
            softmax_block(block, scores, &mut lse[start..keys], &mut sums);
            let weights = Left { data: scores, row_stride: stride, col_stride: 1 };
            let values = Right { data: head.v(), row_stride: head.row_stride() };
            let out = &mut out[start * c..];
            let to = Out { data: out, row_stride: c, accumulate: false };
            multiply(to, weights, values, (rows, keys, d));
            for (row, sum) in sums.iter().enumerate().take(rows) {
                scale_row(&mut out[row * c..][..d], 1.0 / sum);
            }
        }
    });
}

/// Where a block of scores stands.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Position of its first query.
    pub(super) start: usize,
    /// Keys it looks at.
    pub(super) keys: usize,
    /// Floats between its rows.
    pub(super) stride: usize,
    /// `1/√D`.
    pub(super) scale: f32,
    /// The head's dropout; its row 0 is query 0.
    pub(super) dropout: Option<Dropout>,
}

/// Turns raw scores into `exp(score − max)` (with dropout applied), their row sums (without) and
/// the log-sum-exps. Columns behind the diagonal become zero.
///
/// The division by the sum is left to the output row, which is shorter.
#[inline(always)]
fn softmax_kernel<V: Vector>(block: Block, scores: &mut [f32], lse: &mut [f32], sums: &mut [f32]) {
    let scale = V::splat(block.scale);
    for (i, (lse, total)) in lse.iter_mut().zip(sums).enumerate() {
        let row = &mut scores[i * block.stride..][..block.keys];
        let (seen, hidden) = row.split_at_mut(block.start + i + 1);
        hidden.fill(0.0);
        let mut largest = V::splat(f32::NEG_INFINITY);
        for x in seen.chunks(V::LANES) {
            largest = largest.max(V::load_or(x, f32::NEG_INFINITY));
        }
        let max = largest.largest() * block.scale;
        let m = V::splat(-max);
        let key = block.dropout.map(|d| (d, d.row_key(block.start + i)));
        let mut sum = V::zero();
        for (n, x) in seen.chunks_mut(V::LANES).enumerate() {
            let e = exp(V::load_or(x, f32::NEG_INFINITY).mul_add(scale, m));
            sum = sum + e;
            match key {
                Some((dropout, key)) => dropout.apply(e, key, n * V::LANES).store(x),
                None => e.store(x),
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
