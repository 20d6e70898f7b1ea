//! The one entry point for matrix products: `out ← a·b` or `out ← out + a·b` on strided views.
//!
//! A transposed operand is a view, never a copy. There are two implementations:
//!
//! - with AVX2 or AVX-512 through our own blocks: `blocks.rs` cuts it into pieces that fit the
//!   caches, `pack.rs` lays the right operand out in panels, `tile.rs` multiplies;
//! - elsewhere through the `gemm` crate, which has micro-kernels for NEON.
//!
//! Attention, whose operands fit the caches, calls `pack` and `multiply` itself.
#![expect(unsafe_code, reason = "columns of one matrix are handed to several threads")]

mod blocks;
mod fallback;
mod pack;
mod tile;

use std::marker::PhantomData;

pub(crate) use pack::{Panels, pack, packed_len};
pub(crate) use tile::{ROWS, multiply};

use crate::simd::{Level, level};

/// A read-only matrix view: element `(i, j)` is `data[i · row_stride + j · col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// A matrix view that a product writes to; rows are contiguous.
///
/// It stands for an exclusive borrow of its elements alone: what lies between its rows may belong
/// to another view.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    elements: PhantomData<&'a mut [f32]>,
}

// SAFETY: a view is an exclusive borrow of plain numbers.
unsafe impl Send for MatrixMut<'_> {}

/// What a product does to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// `out ← a·b`; what was there is not read.
    Overwrite,
    /// `out ← out + a·b`.
    Accumulate,
}

/// Elements from the first to one past the last of a strided matrix.
fn extent(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + (cols - 1) * col_stride + 1 }
}

impl<'a> Matrix<'a> {
    /// The row-major matrix `[rows, cols]` at the start of `data`.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::with_row_stride(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows begin `row_stride` elements apart.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn with_row_stride(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        let needed = extent(rows, cols, row_stride, 1);
        assert!(data.len() >= needed, "a [{rows}, {cols}] view needs {needed}, got {}", data.len());
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// Its number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Its number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The transposed view of the same elements.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The block of `rows` by `cols` that begins at `(row, col)`.
    #[inline(always)]
    pub(crate) fn block(self, (row, col): (usize, usize), (rows, cols): (usize, usize)) -> Self {
        assert!(row + rows <= self.rows && col + cols <= self.cols, "a block beyond its matrix");
        let empty = rows == 0 || cols == 0;
        let start = if empty { 0 } else { row * self.row_stride + col * self.col_stride };
        Self { data: &self.data[start..], rows, cols, ..self }
    }
}

impl<'a> MatrixMut<'a> {
    /// The row-major matrix `[rows, cols]` at the start of `data`.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::with_row_stride(data, rows, cols, cols)
    }

    /// A matrix whose rows begin `row_stride` elements apart; what lies between them is left alone.
    ///
    /// # Panics
    /// If `data` is too short, or the rows would overlap.
    pub fn with_row_stride(
        data: &'a mut [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
    ) -> Self {
        let needed = extent(rows, cols, row_stride, 1);
        assert!(data.len() >= needed, "a [{rows}, {cols}] view needs {needed}, got {}", data.len());
        assert!(row_stride >= cols, "rows of {cols} overlap at a stride of {row_stride}");
        Self { data: data.as_mut_ptr(), rows, cols, row_stride, elements: PhantomData }
    }

    /// Its number of columns.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// The block of `rows` by `cols` that begins at `(row, col)`, for as long as `self` is not used.
    #[inline(always)]
    pub(crate) fn block(
        &mut self,
        (row, col): (usize, usize),
        (rows, cols): (usize, usize),
    ) -> MatrixMut<'_> {
        assert!(row + rows <= self.rows && col + cols <= self.cols, "a block beyond its matrix");
        // `wrapping`: an empty block may begin past the end, and nothing is read or written there.
        let data = self.data.wrapping_add(row * self.row_stride + col);
        MatrixMut { data, rows, cols, row_stride: self.row_stride, elements: PhantomData }
    }

    /// Its first `at` columns, and the others.
    fn split_columns(self, at: usize) -> (Self, Self) {
        assert!(at <= self.cols, "splitting {} columns at {at}", self.cols);
        let others = Self { data: self.data.wrapping_add(at), cols: self.cols - at, ..self };
        (Self { cols: at, ..self }, others)
    }

    /// Its first `at` rows, and the others.
    fn split_rows(self, at: usize) -> (Self, Self) {
        assert!(at <= self.rows, "splitting {} rows at {at}", self.rows);
        let data = self.data.wrapping_add(at * self.row_stride);
        (Self { rows: at, ..self }, Self { data, rows: self.rows - at, ..self })
    }
}

/// Computes `out ← a·b` or `out ← out + a·b`, for `a` `[m, k]`, `b` `[k, n]` and `out` `[m, n]`.
///
/// With `threads` above 1 the work is divided in rayon's current pool.
///
/// # Panics
/// If the shapes do not fit together.
pub fn gemm(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, store: Store, threads: usize) {
    assert!(
        b.rows == a.cols && out.rows == a.rows && out.cols == b.cols,
        "[{}, {}] times [{}, {}] does not fit [{}, {}]",
        a.rows,
        a.cols,
        b.rows,
        b.cols,
        out.rows,
        out.cols
    );
    match level() {
        Level::Portable => fallback::gemm(out, a, b, store, threads),
        Level::Avx2 | Level::Avx512 => blocks::gemm(out, a, b, store, threads),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, at_every_level, noise};
    use proptest::prelude::*;

    /// `a·b` for row-major `a` `[m, k]` and `b` `[k, n]`, term by term in `f64`.
    fn naive(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(m * n);
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let dot: f64 = (0..k).map(|p| f64::from(a[i * k + p]) * f64::from(b[p * n + j])).sum();
            out.push(dot as f32);
        }
        out
    }

    fn transposed(a: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        (0..rows * cols).map(|i| a[(i % rows) * cols + i / rows]).collect()
    }

    /// Checks every combination of transposed operands and both ways to store.
    fn check(m: usize, k: usize, n: usize, threads: usize, what: &str) {
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
        let once = naive(&a, &b, m, k, n);
        let twice: Vec<f32> = once.iter().map(|x| 2.0 * x).collect();
        for (i, left) in [Matrix::new(&a, m, k), Matrix::new(&at, k, m).t()].into_iter().enumerate()
        {
            for (j, right) in
                [Matrix::new(&b, k, n), Matrix::new(&bt, n, k).t()].into_iter().enumerate()
            {
                let what = format!("{what}: {m} x {k} x {n}, transposed {i} {j}");
                let mut out = vec![f32::NAN; m * n];
                gemm(MatrixMut::new(&mut out, m, n), left, right, Store::Overwrite, threads);
                assert_close(&out, &once, 1e-5, &what);
                gemm(MatrixMut::new(&mut out, m, n), left, right, Store::Accumulate, threads);
                assert_close(&out, &twice, 1e-5, &what);
            }
        }
    }

    proptest! {
        #[test]
        fn equals_the_naive_product(m in 1..40_usize, k in 1..50_usize, n in 1..140_usize, threads in 1..4_usize) {
            at_every_level(|level| check(m, k, n, threads, level.name()));
        }
    }

    #[test]
    fn blocks_and_their_rests_cover_the_product() {
        at_every_level(|level| {
            for (m, k, n) in [(7, 1000, 5), (3, 385, 300), (131, 16, 513), (1, 1, 257)] {
                check(m, k, n, 1, level.name());
                check(m, k, n, 2, level.name());
            }
        });
    }

    #[test]
    fn threads_change_no_bit() {
        at_every_level(|level| {
            for (m, k, n) in [(50, 400, 300), (300, 70, 50)] {
                let (a, b) = (noise(m * k, 1), noise(k * n, 2));
                let run = |threads| {
                    let mut out = vec![0.0; m * n];
                    let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
                    gemm(MatrixMut::new(&mut out, m, n), a, b, Store::Overwrite, threads);
                    out
                };
                let one = run(1);
                assert!((2..6).all(|threads| run(threads) == one), "{level:?} {m} x {k} x {n}");
            }
        });
    }

    #[test]
    fn a_packed_operand_is_multiplied_at_the_level_it_was_packed_for() {
        let (m, k, n) = (7, 9, 70);
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        at_every_level(|level| {
            let mut packed = vec![f32::NAN; packed_len(k, n)];
            pack(Matrix::new(&b, k, n), level, &mut packed);
            crate::simd::limit(Level::Portable);
            let mut out = vec![f32::NAN; m * n];
            let mut to = MatrixMut::new(&mut out, m, n);
            let panels = Panels::new(&packed, level, (k, n));
            multiply(&mut to, Matrix::new(&a, m, k), panels, Store::Overwrite);
            assert_close(&out, &naive(&a, &b, m, k, n), 1e-5, level.name());
        });
    }

    #[test]
    fn a_sum_of_nothing_is_zero() {
        at_every_level(|level| {
            let mut out = [7.0; 6];
            let (a, b) = (Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3));
            gemm(MatrixMut::new(&mut out, 2, 3), a, b, Store::Accumulate, 1);
            assert_eq!(out, [7.0; 6], "{level:?}");
            gemm(MatrixMut::new(&mut out, 2, 3), a, b, Store::Overwrite, 1);
            assert_eq!(out, [0.0; 6], "{level:?}");
        });
    }

    #[test]
    fn rows_may_lie_apart() {
        let a = noise(3 * 10, 3);
        let packed: Vec<f32> = (0..3).flat_map(|i| a[i * 10..i * 10 + 4].to_vec()).collect();
        let b = noise(4 * 5, 4);
        let mut out = vec![0.0; 15];
        let view = Matrix::with_row_stride(&a, 3, 4, 10);
        gemm(MatrixMut::new(&mut out, 3, 5), view, Matrix::new(&b, 4, 5), Store::Overwrite, 1);
        assert_close(&out, &naive(&packed, &b, 3, 4, 5), 1e-5, "strided");

        let mut wide = vec![7.0; 2 * 9 + 5];
        let to = MatrixMut::with_row_stride(&mut wide, 3, 5, 9);
        gemm(to, view, Matrix::new(&b, 4, 5), Store::Overwrite, 1);
        for (i, &x) in wide.iter().enumerate() {
            let expected = if i % 9 < 5 { out[i / 9 * 5 + i % 9] } else { 7.0 };
            assert_eq!(x, expected, "element {i} of a destination with gaps");
        }
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn shapes_that_do_not_fit_are_refused() {
        let mut out = [0.0; 4];
        let (a, b) = ([0.0; 6], [0.0; 6]);
        let (a, b) = (Matrix::new(&a, 2, 3), Matrix::new(&b, 2, 3));
        gemm(MatrixMut::new(&mut out, 2, 2), a, b, Store::Overwrite, 1);
    }
}
