//! The small matrix product inside attention: operands that lie in L1 or L2, no packing.
//!
//! `out[i, ..n] (+)= Σ_p a(i, p) · b[p, ..n]`: rows of `b` are vectors, elements of `a` are
//! broadcast. A block of 6 rows by 4 registers of `out` (24 of AVX-512's 32) stays in registers
//! over the whole sum, so each loaded vector serves 6 multiply-adds. With the 16 registers of AVX2
//! the block is 6 by 2.

use crate::simd::{Vector, dispatch};

/// The left operand: element `(i, p)` is `data[i · row_stride + p · col_stride]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left<'a> {
    pub(super) data: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

/// The right operand: row `p` is `data[p · row_stride..][..n]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Right<'a> {
    pub(super) data: &'a [f32],
    pub(super) row_stride: usize,
}

/// The destination: row `i` is `data[i · row_stride..][..n]`.
#[derive(Debug)]
pub(super) struct Out<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) row_stride: usize,
    pub(super) accumulate: bool,
}

dispatch!(
    /// `out (+)= a · b` for `a` `[m, k]`, `b` `[k, n]`, sizes given as `(m, k, n)`.
    pub(super) fn multiply(out: Out<'_>, a: Left<'_>, b: Right<'_>, sizes: (usize, usize, usize)) = multiply_kernel
);

const ROWS: usize = 6;

#[inline(always)]
fn multiply_kernel<V: Vector>(
    mut out: Out<'_>,
    a: Left<'_>,
    b: Right<'_>,
    (m, k, n): (usize, usize, usize),
) {
    let mut col = 0;
    while col < n {
        let left = n - col;
        let b = Right { data: &b.data[col..], ..b };
        let width = if V::LANES == 16 && left > 2 * V::LANES {
            columns::<V, 4>(&mut out, col, a, b, (m, k, left.min(4 * V::LANES)))
        } else if left > V::LANES {
            columns::<V, 2>(&mut out, col, a, b, (m, k, left.min(2 * V::LANES)))
        } else {
            columns::<V, 1>(&mut out, col, a, b, (m, k, left))
        };
        col += width;
    }
}

/// All rows of at most `NV` registers of columns; returns the columns done.
#[inline(always)]
fn columns<V: Vector, const NV: usize>(
    out: &mut Out<'_>,
    col: usize,
    a: Left<'_>,
    b: Right<'_>,
    (m, k, n): (usize, usize, usize),
) -> usize {
    let mut row = 0;
    while row + ROWS <= m {
        block::<V, ROWS, NV>(out, (row, col), a, b, (k, n));
        row += ROWS;
    }
    if row + 3 <= m {
        block::<V, 3, NV>(out, (row, col), a, b, (k, n));
        row += 3;
    }
    while row < m {
        block::<V, 1, NV>(out, (row, col), a, b, (k, n));
        row += 1;
    }
    n
}

/// One block of `MR` rows by `NV` registers.
#[inline(always)]
fn block<V: Vector, const MR: usize, const NV: usize>(
    out: &mut Out<'_>,
    (row, col): (usize, usize),
    a: Left<'_>,
    b: Right<'_>,
    (k, n): (usize, usize),
) {
    let mut sums = [[V::zero(); NV]; MR];
    let a_rows = &a.data[row * a.row_stride..];
    for p in 0..k {
        let b_row = &b.data[p * b.row_stride..][..n];
        let mut right = [V::zero(); NV];
        for (v, right) in right.iter_mut().enumerate() {
            *right = V::load(b_row.get(v * V::LANES..).unwrap_or_default());
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            let left = V::splat(a_rows[i * a.row_stride + p * a.col_stride]);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = left.mul_add(right, *sum);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let out_row = &mut out.data[(row + i) * out.row_stride + col..][..n];
        for (out_lanes, &sum) in out_row.chunks_mut(V::LANES).zip(sums) {
            let sum = if out.accumulate { V::load(out_lanes) + sum } else { sum };
            sum.store(out_lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, at_every_level, noise};

    #[test]
    fn equals_the_naive_product_at_odd_shapes_and_strides() {
        at_every_level(|level| {
            for (m, k, n) in [(1, 1, 1), (7, 5, 3), (6, 64, 64), (17, 9, 33), (13, 4, 131)] {
                let (a, b, start) = (noise(m * k, 1), noise(k * (n + 3), 2), noise(m * (n + 1), 3));
                for accumulate in [false, true] {
                    let mut expected = start.clone();
                    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                        // `a` is stored transposed, to exercise its strides.
                        let dot: f32 = (0..k).map(|p| a[p * m + i] * b[p * (n + 3) + j]).sum();
                        let base = if accumulate { start[i * (n + 1) + j] } else { 0.0 };
                        expected[i * (n + 1) + j] = base + dot;
                    }
                    let mut got = start.clone();
                    let out = Out { data: &mut got, row_stride: n + 1, accumulate };
                    let left = Left { data: &a, row_stride: 1, col_stride: m };
                    multiply(out, left, Right { data: &b, row_stride: n + 3 }, (m, k, n));
                    assert_close(&got, &expected, 1e-5, &format!("{level:?} {m} {k} {n}"));
                }
            }
        });
    }
}
