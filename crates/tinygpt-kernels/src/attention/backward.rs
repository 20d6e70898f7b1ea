//! The backward pass of attention.
//!
//! With P the probabilities, M the dropout mask times its scale, `P̃ = P ∘ M` and dO the gradient of
//! the output: `dV = P̃ᵀ dO`, `dP = (dO Vᵀ) ∘ M`, `dS = P ∘ (dP − δ)`, `dQ = dS K / √D`,
//! `dK = dSᵀ Q / √D`, where `δ_i = Σ_j P_ij dP_ij = Σ_d dO_id O_id`, so that it needs no second
//! pass over the row. Source: Dao et al. 2022, appendix B.2 and B.4.

use super::forward::Block;
use super::tile::{Left, Out, Right, multiply};
use super::{BLOCK, HeadView, Shape, with_scratch};
use crate::dropout::Dropout;
use crate::math::exp;
use crate::parallel::rows_per_thread;
use crate::simd::{Vector, dispatch};
use rayon::prelude::*;

dispatch!(fn row_dots(a: &[f32], b: &[f32], stride: usize, width: usize, dots: &mut [f32]) = row_dots_kernel);
dispatch!(fn gradient_block(block: Block, rows: RowValues<'_>, scores: &mut [f32], dp: &mut [f32]) = gradient_kernel);

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
/// `dropout` must be what the forward pass had.
///
/// # Panics
/// If the lengths do not fit `shape`.
pub fn backward(
    given: Gradient<'_>,
    shape: Shape,
    dropout: Option<Dropout>,
    dqkv: &mut [f32],
    threads: usize,
) {
    shape.check(given.qkv, given.out, given.lse);
    shape.check(dqkv, given.dout, given.lse);
    let (rows, c) = (shape.time, shape.channels());
    let run = |(b, dqkv): (usize, &mut [f32])| {
        let packed = b * rows * 3 * c..(b + 1) * rows * 3 * c;
        let plain = b * rows * c..(b + 1) * rows * c;
        let (qkv, out, dout) = (&given.qkv[packed], &given.out[plain.clone()], &given.dout[plain]);
        for h in 0..shape.heads {
            let first_row = (b * shape.heads + h) * rows;
            let offset = h * shape.head_dim;
            let (time, head_dim) = (rows, shape.head_dim);
            let head = HeadView { qkv, time, channels: c, head_dim, offset };
            let saved = OneHead {
                out: &out[offset..],
                dout: &dout[offset..],
                lse: &given.lse[first_row..][..rows],
                scale: shape.score_scale(),
                dropout: dropout.map(|d| d.skip_rows(first_row)),
            };
            one_head(head, saved, dqkv);
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

/// One head's share of [`Gradient`]; the slices begin at the head's first column.
#[derive(Clone, Copy)]
struct OneHead<'a> {
    out: &'a [f32],
    dout: &'a [f32],
    lse: &'a [f32],
    scale: f32,
    dropout: Option<Dropout>,
}

fn one_head(head: HeadView<'_>, saved: OneHead<'_>, dqkv: &mut [f32]) {
    let (t, d, c, stride) = (head.time, head.head_dim, head.channels, head.padded_time());
    let wide = head.row_stride();
    clear_head(&head, dqkv);
    with_scratch(2 * (d + BLOCK) * stride, |scratch| {
        let (k_t, scratch) = scratch.split_at_mut(d * stride);
        let (v_t, scratch) = scratch.split_at_mut(d * stride);
        let (scores, dp) = scratch.split_at_mut(BLOCK * stride);
        head.transpose(head.k(), k_t);
        head.transpose(head.v(), v_t);
        let mut deltas = [0.0; BLOCK];
        for start in (0..t).step_by(BLOCK) {
            let rows = BLOCK.min(t - start);
            let keys = start + rows;
            let (q, dout) = (&head.q()[start * wide..], &saved.dout[start * c..]);
            row_dots(&saved.out[start * c..], dout, c, d, &mut deltas[..rows]);
            // S = Q Kᵀ and dO Vᵀ, then P̃ and dS in their places.
            let to = Out { data: scores, row_stride: stride, accumulate: false };
            let left = Left { data: q, row_stride: wide, col_stride: 1 };
            multiply(to, left, Right { data: k_t, row_stride: stride }, (rows, d, keys));
            let to = Out { data: dp, row_stride: stride, accumulate: false };
            let left = Left { data: dout, row_stride: c, col_stride: 1 };
            multiply(to, left, Right { data: v_t, row_stride: stride }, (rows, d, keys));
            let (scale, dropout) = (saved.scale, saved.dropout);
            let block = Block { start, keys, stride, scale, dropout };
            let row_values = RowValues { lse: &saved.lse[start..keys], deltas: &deltas };
            gradient_block(block, row_values, scores, dp);
            // dV += P̃ᵀ dO, dK += dSᵀ Q, dQ = dS K.
            let p_t = Left { data: scores, row_stride: 1, col_stride: stride };
            let ds_t = Left { data: dp, row_stride: 1, col_stride: stride };
            let dv = &mut dqkv[2 * c + head.offset..];
            let to = Out { data: dv, row_stride: wide, accumulate: true };
            multiply(to, p_t, Right { data: dout, row_stride: c }, (keys, rows, d));
            let dk = &mut dqkv[c + head.offset..];
            let to = Out { data: dk, row_stride: wide, accumulate: true };
            multiply(to, ds_t, Right { data: q, row_stride: wide }, (keys, rows, d));
            let dq = &mut dqkv[head.offset + start * wide..];
            let to = Out { data: dq, row_stride: wide, accumulate: false };
            let ds = Left { data: dp, row_stride: stride, col_stride: 1 };
            multiply(to, ds, Right { data: head.k(), row_stride: wide }, (rows, keys, d));
        }
    });
}

/// Zeroes the head's key and value gradients, which the blocks add to.
fn clear_head(head: &HeadView<'_>, dqkv: &mut [f32]) {
    for row in dqkv.chunks_exact_mut(head.row_stride()) {
        for first in [head.channels + head.offset, 2 * head.channels + head.offset] {
            row[first..first + head.head_dim].fill(0.0);
        }
    }
}

/// What the rows of a block need beside their scores.
#[derive(Clone, Copy)]
struct RowValues<'a> {
    lse: &'a [f32],
    deltas: &'a [f32],
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
fn gradient_kernel<V: Vector>(
    block: Block,
    rows: RowValues<'_>,
    scores: &mut [f32],
    dp: &mut [f32],
) {
    let scale = V::splat(block.scale);
    for (i, (&lse, &delta)) in rows.lse.iter().zip(rows.deltas).enumerate() {
        let row = i * block.stride..i * block.stride + block.keys;
        let seen = block.start + i + 1;
        let (scores, hidden) = scores[row.clone()].split_at_mut(seen);
        hidden.fill(0.0);
        let (dp, hidden) = dp[row].split_at_mut(seen);
        hidden.fill(0.0);
        let (minus_lse, delta) = (V::splat(-lse), V::splat(delta));
        let key = block.dropout.map(|d| (d, d.row_key(block.start + i)));
        let columns = scores.chunks_mut(V::LANES).zip(dp.chunks_mut(V::LANES));
        for (n, (score, dp)) in columns.enumerate() {
            let p = exp(V::load(score).mul_add(scale, minus_lse));
            let grad = V::load(dp);
            let (dropped, grad) = match key {
                Some((dropout, key)) => {
                    let col = n * V::LANES;
                    (dropout.apply(p, key, col), dropout.apply(grad, key, col))
                }
                None => (p, grad),
            };
            dropped.store(score);
            (p * (grad - delta) * scale).store(dp);
        }
    }
}
