//! Packing: a right operand copied into panels, in the order in which the register block reads it.
//!
//! A panel is [`Vector::TILE`] registers wide (64 columns with AVX-512, 16 with AVX2) and lies row
//! after row, so the innermost loop walks one stream of memory whatever the operand's strides
//! were. The last panel is only as wide as its columns need, in whole registers; its padding is
//! zero.

use super::Matrix;
use crate::simd::{Level, Vector, dispatch};

/// A packed right operand, or its rows from some row on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    data: &'a [f32],
    /// The level it was packed for: panels are as wide as its registers allow.
    pub(super) level: Level,
    /// Rows of the whole operand, which say how far apart the panels are.
    packed_rows: usize,
    first_row: usize,
    cols: usize,
}

/// One panel: `data[p · width..][..width]` is row p.
pub(super) struct Panel<'a> {
    pub(super) data: &'a [f32],
    pub(super) width: usize,
}

/// The floats that `rows` by `cols` take when packed, whatever the instruction set.
pub(crate) fn packed_len(rows: usize, cols: usize) -> usize {
    rows * cols.next_multiple_of(16)
}

impl<'a> Panels<'a> {
    /// What [`pack`] made of a `[rows, cols]` operand for `level`.
    ///
    /// # Panics
    /// If `data` is shorter than [`packed_len`].
    pub(crate) fn new(data: &'a [f32], level: Level, (rows, cols): (usize, usize)) -> Self {
        let needed = packed_len(rows, cols);
        assert!(data.len() >= needed, "[{rows}, {cols}] packed takes {needed}, got {}", data.len());
        Self { data, level, packed_rows: rows, first_row: 0, cols }
    }

    /// The same without its first `n` rows.
    pub(crate) fn skip_rows(self, n: usize) -> Self {
        assert!(n <= self.rows(), "skipping {n} of {} rows", self.rows());
        Self { first_row: self.first_row + n, ..self }
    }

    pub(super) fn rows(&self) -> usize {
        self.packed_rows - self.first_row
    }

    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    /// The panel that begins at column `col`, a multiple of a panel's width.
    #[inline(always)]
    pub(super) fn panel<V: Vector>(&self, col: usize) -> Panel<'a> {
        let width = (self.cols - col).next_multiple_of(V::LANES).min(V::TILE * V::LANES);
        let start = col * self.packed_rows + self.first_row * width;
        Panel { data: &self.data[start..][..self.rows() * width], width }
    }
}

dispatch!(
    /// Packs `b` into the start of `to`, to be multiplied at `level`.
    ///
    /// # Panics
    /// If `to` is shorter than [`packed_len`].
    pub(crate) fn pack(b: Matrix<'_>, level: Level, to: &mut [f32]) = pack_kernel, at level
);

#[inline(always)]
fn pack_kernel<V: Vector>(b: Matrix<'_>, _level: Level, to: &mut [f32]) {
    if b.col_stride == 1 {
        return copy_rows::<V>(b, to);
    }
    let mut rest = &mut to[..];
    for col in (0..b.cols).step_by(V::TILE * V::LANES) {
        let n = (b.cols - col).min(V::TILE * V::LANES);
        let width = n.next_multiple_of(V::LANES);
        let (panel, others) = rest.split_at_mut(b.rows * width);
        transpose::<V>(b.block((0, col), (b.rows, n)), panel, width);
        rest = others;
    }
}

/// Packs an operand whose rows are contiguous: each is read once from end to end and goes to its
/// place in every panel.
#[inline(always)]
fn copy_rows<V: Vector>(b: Matrix<'_>, to: &mut [f32]) {
    let widest = V::TILE * V::LANES;
    for p in 0..b.rows {
        let from = &b.data[p * b.row_stride..][..b.cols];
        for (panel, from) in from.chunks(widest).enumerate() {
            let width = from.len().next_multiple_of(V::LANES);
            let row = &mut to[panel * widest * b.rows + p * width..][..width];
            for (to, from) in row.chunks_exact_mut(V::LANES).zip(from.chunks(V::LANES)) {
                V::load(from).store(to);
            }
        }
    }
}

/// `panel[p, j] ← b(p, j)` for an operand whose columns are contiguous: squares of LANES by LANES
/// are turned around in registers.
#[inline(always)]
fn transpose<V: Vector>(b: Matrix<'_>, panel: &mut [f32], width: usize) {
    for col in (0..width).step_by(V::LANES) {
        let cols = b.cols.saturating_sub(col).min(V::LANES);
        for row in (0..b.rows).step_by(V::LANES) {
            let rows = (b.rows - row).min(V::LANES);
            let mut square = [V::zero(); 16];
            for (j, lanes) in square.iter_mut().enumerate().take(cols) {
                let start = row * b.row_stride + (col + j) * b.col_stride;
                *lanes = V::load(&b.data[start..][..rows]);
            }
            let square = V::transpose(square);
            for (p, lanes) in square.into_iter().enumerate().take(rows) {
                lanes.store(&mut panel[(row + p) * width + col..][..V::LANES]);
            }
        }
    }
}
