//! A product that the threads of a decoder make together: each multiplies some inputs with their rows
//! of the matrix, posts the summand, and adds up what it needs of all summands.

use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use tinygpt_kernels::decode::{self, Strided};
use tinygpt_kernels::{accumulate, bias};

use super::barrier::Meeting;
use super::shard::Board;
use super::weights::Weight;

/// A product `[N, M]` whose summands the threads compute.
pub(super) struct Product {
    pub(super) n: usize,
    pub(super) m: usize,
    /// Which set of lists on the board it uses.
    pub(super) set: u64,
}

impl Product {
    fn lists<'a>(&self, board: &'a Board) -> &'a [RwLock<Vec<f32>>] {
        &board.summands[self.set as usize]
    }

    /// Posts the summand of one thread, of its inputs of the matrix, and waits for the others; false if one has ended.
    pub(super) fn post<W: Weight>(
        &self,
        x: Strided<'_>,
        (w, inputs): (&W, Range<usize>),
        (board, index): (&Board, usize),
        meet: &Meeting,
        round: u64,
    ) -> bool {
        let stride = decode::stride_of(self.m);
        let mut own = self.lists(board)[index].write().unwrap_or_else(PoisonError::into_inner);
        let len = own.len().max(self.n * stride);
        own.resize(len, 0.0);
        w.times(self.m, inputs, self.n, x, (&mut own, stride));
        drop(own);
        meet.meet(round)
    }

    /// `out ←` the given columns, with their bias.
    pub(super) fn collect(
        &self,
        board: &Board,
        columns: Range<usize>,
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        if columns.is_empty() {
            return;
        }
        let stride = decode::stride_of(self.m);
        for (i, list) in self.lists(board).iter().enumerate() {
            let list = list.read().unwrap_or_else(PoisonError::into_inner);
            for (out, row) in out.chunks_exact_mut(columns.len()).zip(list.chunks_exact(stride)) {
                match i {
                    0 => out.copy_from_slice(&row[columns.clone()]),
                    _ => accumulate::add(out, &row[columns.clone()], 1),
                }
            }
        }
        if let Some(bias) = bias {
            bias::forward(out, &bias[columns], 1);
        }
    }
}
