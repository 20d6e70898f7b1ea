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
//!
//! # Documents
//!
//! Several documents in one sequence that must not see each other are as many shorter sequences: each
//! document is computed alone, so there is no mask and no work for scores that would be masked.

mod backward;
mod forward;
mod products;

pub use backward::{Gradient, backward};
pub use forward::forward;

use std::ops::Range;

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
    /// Only what lies on or below the diagonal counts, and with `starts` of the same document.
    pub fn flops(&self, starts: Option<&[u32]>) -> usize {
        let of_sequence = |b: usize| {
            let lengths = documents(starts, b, self.time).map(|document| document.len());
            lengths.map(|len| len * (len + 1)).sum::<usize>()
        };
        2 * (0..self.batch).map(of_sequence).sum::<usize>() * self.channels()
    }

    /// `1/√D`, the factor of the scores.
    fn score_scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    fn check(&self, qkv: &[f32], out: &[f32], lse: &[f32], starts: Option<&[u32]>) {
        let rows = self.batch * self.time;
        assert!(
            qkv.len() == rows * 3 * self.channels()
                && out.len() == rows * self.channels()
                && lse.len() == rows * self.heads
                && starts.is_none_or(|starts| starts.len() == rows),
            "attention of {self:?} got {} packed, {} output and {} row values, starts {:?}",
            qkv.len(),
            out.len(),
            lse.len(),
            starts.map(<[u32]>::len)
        );
    }
}

/// The documents of sequence `b`, of `time` positions: one if there are no `starts`.
fn documents(starts: Option<&[u32]>, b: usize, time: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = starts.map(|starts| &starts[b * time..][..time]);
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = (at < time).then_some(at)?;
        let next = starts.and_then(|it| (first + 1..time).find(|at| it[*at] as usize == *at));
        at = next.unwrap_or(time);
        Some(first..at)
    })
}

/// The keys and values of one head, and where a head's columns begin.
#[derive(Clone, Copy)]
struct HeadView<'a> {
    /// The document's packed rows, `[T, 3C]`.
    qkv: &'a [f32],
    /// T, the positions of the document.
    time: usize,
    /// C.
    channels: usize,
    /// D.
    head_dim: usize,
    /// h·D.
    offset: usize,
}

impl<'a> HeadView<'a> {
    /// Head `h` of a `document` of the sequence whose packed rows are `qkv`.
    fn new(qkv: &'a [f32], shape: &Shape, h: usize, document: &Range<usize>) -> Self {
        let (channels, head_dim) = (shape.channels(), shape.head_dim);
        let qkv = &qkv[document.start * 3 * channels..document.end * 3 * channels];
        Self { qkv, time: document.len(), channels, head_dim, offset: h * head_dim }
    }

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
