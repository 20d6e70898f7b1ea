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
//! in the columns `h·D..(h+1)·D` of each. It is read and its gradient written where it lies; only
//! keys and values of one head at a time are transposed into scratch space, where the products
//! want them. Blocks of 48 queries look at the keys up to their last one; what lies further
//! above the diagonal is never computed.

mod backward;
mod forward;
mod tile;

pub use backward::{Gradient, backward};
pub use forward::forward;

use std::cell::RefCell;

/// Queries that are handled together: a multiple of the 6 rows of a register block.
const BLOCK: usize = 48;

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
    fn row_stride(&self) -> usize {
        3 * self.channels
    }
    fn q(&self) -> &'a [f32] {
        &self.qkv[self.offset..]
    }
    fn k(&self) -> &'a [f32] {
        &self.qkv[self.channels + self.offset..]
    }
    fn v(&self) -> &'a [f32] {
        &self.qkv[2 * self.channels + self.offset..]
    }
    /// Floats between the rows of a transposed operand or of a block of scores. The odd number of
    /// cache lines keeps successive rows out of the same sets of the cache.
    fn padded_time(&self) -> usize {
        self.time.next_multiple_of(32) + 16
    }
    /// Writes `from` `[T, D]` (rows 3C apart) to `to` `[D, T]`.
    fn transpose(&self, from: &[f32], to: &mut [f32]) {
        let stride = self.padded_time();
        // Blocks of 16 rows, so that each cache line of `to` is filled while it is in L1.
        for start in (0..self.time).step_by(16) {
            for d in 0..self.head_dim {
                for t in start..(start + 16).min(self.time) {
                    to[d * stride + t] = from[t * self.row_stride() + d];
                }
            }
        }
    }
}

/// Hands `run` a scratch slice that each thread keeps from call to call: in a steady state
/// attention allocates nothing and faults no page.
fn with_scratch<R>(len: usize, run: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        run(&mut scratch[..len])
    })
}

#[cfg(test)]
mod tests;
