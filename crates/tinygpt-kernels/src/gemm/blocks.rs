//! A large product as a sequence of blocks that fit the caches.
//!
//! Blocks of `b` of at most 384 rows by 256 columns (384 KiB) are packed and stay in L2 while all
//! rows of `a` pass by; of `a` six rows at a time stay in L1. So an element of `b` is read from
//! memory once, one of `a` once for every 256 columns, and the innermost loop finds everything in L1
//! or L2. This is the order of Goto and van de Geijn 2008, without the packing of `a`.
//!
//! Threads divide the rows or the columns of the result, never the sum over k: every element is
//! summed in the same order whatever their number.

use super::pack::{Panels, pack, packed_len};
use super::tile::{ROWS, multiply};
use super::{Matrix, MatrixMut, Store};
use crate::scratch::with_scratch;
use crate::simd::level;

/// Rows of `b` in a block: the depth of the sums that stay in registers.
const DEPTH: usize = 384;
/// Columns of `b` in a block, a multiple of every panel's width.
const COLUMNS: usize = 256;

/// As [`super::gemm()`], which has checked the shapes.
pub(super) fn gemm(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, store: Store, threads: usize) {
    if threads <= 1 {
        return in_one_thread(out, a, b, store);
    }
    let (half, others) = (threads / 2, threads - threads / 2);
    // Halves of the longer side, in whole register blocks, until each thread has one part.
    if a.rows >= b.cols {
        let at = (a.rows * half / threads).next_multiple_of(ROWS).min(a.rows);
        let (out, out_rest) = out.split_rows(at);
        rayon::join(
            || gemm(out, a.block((0, 0), (at, a.cols)), b, store, half),
            || gemm(out_rest, a.block((at, 0), (a.rows - at, a.cols)), b, store, others),
        );
    } else {
        let at = (b.cols * half / threads).next_multiple_of(64).min(b.cols);
        let (out, out_rest) = out.split_columns(at);
        rayon::join(
            || gemm(out, a, b.block((0, 0), (b.rows, at)), store, half),
            || gemm(out_rest, a, b.block((0, at), (b.rows, b.cols - at)), store, others),
        );
    }
}

fn in_one_thread(mut out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, store: Store) {
    let level = level();
    let depth = even_part(a.cols, DEPTH);
    with_scratch(packed_len(depth, COLUMNS.min(b.cols)), |packed| {
        for col in (0..b.cols).step_by(COLUMNS) {
            let cols = (b.cols - col).min(COLUMNS);
            // With nothing to sum there is still one round, which writes the zeros.
            for row in (0..a.cols.max(1)).step_by(depth) {
                let rows = (a.cols - row).min(depth);
                pack(b.block((row, col), (rows, cols)), level, packed);
                let panels = Panels::new(packed, level, (rows, cols));
                let store = if row == 0 { store } else { Store::Accumulate };
                let mut out = out.block((0, col), (a.rows, cols));
                multiply(&mut out, a.block((0, row), (a.rows, rows)), panels, store);
            }
        }
    });
}

/// The size of parts of `len` that are at most `most` and all of about one size; at least 1.
fn even_part(len: usize, most: usize) -> usize {
    len.div_ceil(len.div_ceil(most).max(1)).max(1)
}
