//! The register block: where the multiply-adds of every matrix product happen.
//!
//! `out[i, ..] (+)= Σ_p a(i, p) · b[p, ..]` for 6 rows by 4 registers of 16 lanes (by 2 of 8): 24
//! (12) sums stay in registers over the whole of k. Each step loads 4 vectors of `b`, which lie
//! one after the other in a packed panel, and broadcasts 6 elements of `a`, so there are
//! 24 multiply-adds for 10 loads. `a` is read in place, whatever its strides: its six rows fit L1.
#![expect(unsafe_code, reason = "the innermost loop takes pointers: no check per load")]

use super::pack::Panels;
use super::{Matrix, MatrixMut, Store};
use crate::simd::{Vector, dispatch};

/// Rows of a register block.
pub(crate) const ROWS: usize = 6;

dispatch!(
    /// `out (+)= a · b` for `a` `[m, k]`, on the first k rows and n columns of `b`, out being `[m, n]`.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub(crate) fn multiply(out: &mut MatrixMut<'_>, a: Matrix<'_>, b: Panels<'_>, store: Store) = multiply_kernel, at b.level
);

#[inline(always)]
fn multiply_kernel<V: Vector>(out: &mut MatrixMut<'_>, a: Matrix<'_>, b: Panels<'_>, store: Store) {
    assert!(
        a.rows == out.rows && a.cols <= b.rows() && out.cols <= b.cols(),
        "[{}, {}] times a packed [{}, {}] does not fit [{}, {}]",
        a.rows,
        a.cols,
        b.rows(),
        b.cols(),
        out.rows,
        out.cols
    );
    let mut row = 0;
    while row < a.rows {
        let rows = (a.rows - row).min(ROWS);
        let a = a.block((row, 0), (rows, a.cols));
        let mut out = out.block((row, 0), (rows, out.cols));
        match rows {
            6 => strip::<V, 6>(&mut out, a, b, store),
            5 => strip::<V, 5>(&mut out, a, b, store),
            4 => strip::<V, 4>(&mut out, a, b, store),
            3 => strip::<V, 3>(&mut out, a, b, store),
            2 => strip::<V, 2>(&mut out, a, b, store),
            _ => strip::<V, 1>(&mut out, a, b, store),
        }
        row += rows;
    }
}

/// The first `MR` rows over all panels.
#[inline(always)]
fn strip<V: Vector, const MR: usize>(
    out: &mut MatrixMut<'_>,
    a: Matrix<'_>,
    b: Panels<'_>,
    store: Store,
) {
    let mut col = 0;
    while col < out.cols {
        let panel = b.panel::<V>(col);
        let n = (out.cols - col).min(panel.width);
        let at = Place { a, panel: panel.data, panel_stride: panel.width, n };
        // SAFETY: `a` has at least MR rows, `panel` holds `a.cols` rows (asserted by the caller)
        // of `panel.width` floats, a multiple of LANES that is not below `n`; `out` has MR rows and
        // `n` columns from `col` on.
        unsafe {
            let to = out.data.add(col);
            match n.div_ceil(V::LANES) {
                1 => block::<V, MR, 1>(&at, to, out.row_stride, store),
                2 => block::<V, MR, 2>(&at, to, out.row_stride, store),
                3 => block::<V, MR, 3>(&at, to, out.row_stride, store),
                _ => block::<V, MR, 4>(&at, to, out.row_stride, store),
            }
        }
        col += n;
    }
}

/// What one register block reads.
struct Place<'a> {
    a: Matrix<'a>,
    panel: &'a [f32],
    /// Floats between the rows of the panel.
    panel_stride: usize,
    /// Columns to be written.
    n: usize,
}

/// One block of `MR` rows by `NV` registers.
///
/// # Safety
/// `at.a` must have `MR` rows and `at.panel` its `at.a.cols` rows of `NV` registers; `out` must be
/// writable at `i · out_stride + j` for all i < MR and j < `at.n`, and `at.n` must need NV registers.
#[inline(always)]
unsafe fn block<V: Vector, const MR: usize, const NV: usize>(
    at: &Place<'_>,
    out: *mut f32,
    out_stride: usize,
    store: Store,
) {
    let (k, row_stride, col_stride) = (at.a.cols, at.a.row_stride, at.a.col_stride);
    // The sums will be stored in a burst; by then their cache lines should be here.
    for i in 0..MR {
        for v in 0..NV {
            V::prefetch(out.wrapping_add(i * out_stride + v * V::LANES));
        }
    }
    let mut sums = [[V::zero(); NV]; MR];
    let (mut a, mut b) = (at.a.data.as_ptr(), at.panel.as_ptr());
    for _ in 0..k {
        // SAFETY: the caller's promise; `a` and `b` are at row p of the panel and column p of a.
        unsafe {
            let mut right = [V::zero(); NV];
            for (v, right) in right.iter_mut().enumerate() {
                *right = V::load_from(b.add(v * V::LANES));
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let left = V::splat(*a.add(i * row_stride));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = left.mul_add(right, *sum);
                }
            }
            a = a.wrapping_add(col_stride);
            b = b.wrapping_add(at.panel_stride);
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            let lanes = (at.n - v * V::LANES).min(V::LANES);
            // SAFETY: the caller's promise; these are `lanes` columns of row i.
            let to = unsafe {
                std::slice::from_raw_parts_mut(out.add(i * out_stride + v * V::LANES), lanes)
            };
            match store {
                Store::Overwrite => sum.store(to),
                Store::Accumulate => (V::load(to) + sum).store(to),
            }
        }
    }
}
