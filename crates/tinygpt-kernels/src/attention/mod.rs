//! Causal multi-head self-attention on packed queries, keys and values.
//!
//! `out = dropout(softmax(q kᵀ / √D + mask)) v` per sequence and head, mask −∞ above the diagonal.
//! Source: Vaswani et al. 2017, section 3.2.1; dropout on the probabilities as in nanoGPT. What the
//! backward pass keeps is the log-sum-exp of each row of scores, as in FlashAttention (Dao et al.
//! 2022): the probabilities are recomputed from it, a block of rows at a time, and no `[T, T]`
//! matrix ever exists.
//!
//! # Layout
//!
//! `qkv` is `[B, T, 3C]`, the output of `c_attn`: in each row C queries, C keys, C values, head h
//! in the columns `h·D..(h+1)·D` of each. Queries are read in place; keys and values of one
//! head at a time are packed into panels as the matrix product wants them, since in the packed rows
//! each position of a head is on another page of memory. The scores are worked on in tiles of 48
//! queries by 64 keys; what lies above the diagonal is not computed.

mod backward;
mod forward;
mod products;

pub use backward::{Gradient, backward};
pub use forward::forward;

use crate::gemm::{Matrix, Panels, pack, packed_len};
use crate::simd::{Level, level};
use products::{KEYS, Tile};

/// The sizes of an attention: `qkv` is `[batch, time, 3 · heads · head_dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// B, sequences.
    pub batch: usize,
    /// T, positions in each.
    pub time: usize,
    /// H.
    pub heads: usize,
    /// D = C/H.
    pub head_dim: usize,
}

impl Shape {
    /// C = H·D.
    pub fn channels(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Floating-point operations of the forward pass's two products; the backward pass has five.
    /// Only what lies on or below the diagonal counts.
    pub fn flops(&self) -> usize {
        2 * self.batch * self.time * (self.time + 1) * self.channels()
    }

    /// `1/√D`, the factor of the scores.
    fn score_scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    fn check(&self, qkv: &[f32], out: &[f32], lse: &[f32]) {
        let rows = self.batch * self.time;
        assert!(
            qkv.len() == rows * 3 * self.channels()
                && out.len() == rows * self.channels()
                && lse.len() == rows * self.heads,
            "attention of {self:?} got {} packed, {} output and {} row values",
            qkv.len(),
            out.len(),
            lse.len()
        );
    }
}

/// The keys and values of one head, and where a head's columns begin.
#[derive(Clone, Copy)]
struct HeadView<'a> {
    /// The sequence's packed rows, `[T, 3C]`.
    qkv: &'a [f32],
    /// T.
    time: usize,
    /// C.
    channels: usize,
    /// D.
    head_dim: usize,
    /// h·D.
    offset: usize,
}

impl<'a> HeadView<'a> {
    /// The queries, `[T, D]`.
    fn q(&self) -> Matrix<'a> {
        self.part(0)
    }
    /// The keys, `[T, D]`.
    fn k(&self) -> Matrix<'a> {
        self.part(1)
    }
    /// The values, `[T, D]`.
    fn v(&self) -> Matrix<'a> {
        self.part(2)
    }
    fn part(&self, part: usize) -> Matrix<'a> {
        let rows = &self.qkv[part * self.channels + self.offset..];
        Matrix::with_row_stride(rows, self.time, self.head_dim, 3 * self.channels)
    }
}

/// An operand of one head, packed for each tile of keys.
struct PackedKeys<'a> {
    data: &'a [f32],
    level: Level,
    /// `[D, keys]` rather than `[keys, D]`.
    transposed: bool,
    head_dim: usize,
}

impl<'a> PackedKeys<'a> {
    /// The floats that it takes.
    fn len(time: usize, head_dim: usize) -> usize {
        time.div_ceil(KEYS) * Self::tile_len(head_dim)
    }

    fn tile_len(head_dim: usize) -> usize {
        packed_len(head_dim, KEYS).max(packed_len(KEYS, head_dim))
    }

    /// Packs the rows of `from` `[T, D]`, or their transpose, into the start of `to`; returns the
    /// rest of `to` too.
    fn new(from: Matrix<'_>, transposed: bool, to: &'a mut [f32]) -> (Self, &'a mut [f32]) {
        let (time, head_dim) = (from.rows(), from.cols());
        let (data, rest) = to.split_at_mut(Self::len(time, head_dim));
        let level = level();
        let tiles = data.chunks_exact_mut(Self::tile_len(head_dim));
        for (key, to) in (0..time).step_by(KEYS).zip(tiles) {
            let rows = from.block((key, 0), (KEYS.min(time - key), head_dim));
            pack(if transposed { rows.t() } else { rows }, level, to);
        }
        (Self { data, level, transposed, head_dim }, rest)
    }

    /// The keys of one tile.
    fn of(&self, tile: &Tile) -> Panels<'a> {
        let len = Self::tile_len(self.head_dim);
        let data = &self.data[tile.key / KEYS * len..][..len];
        let (rows, cols) =
            if self.transposed { (self.head_dim, tile.keys) } else { (tile.keys, self.head_dim) };
        Panels::new(data, self.level, (rows, cols))
    }
}

#[cfg(test)]
mod tests;
