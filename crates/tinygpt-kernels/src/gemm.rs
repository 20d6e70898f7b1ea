//! The one door to matrix products: `out ← a·b` or `out ← out + a·b` on strided views.
//!
//! The work is done by the `gemm` crate, which packs its operands, blocks for the caches and picks
//! AVX-512, FMA or NEON micro-kernels at run time. Here are the views, the checks that make the
//! call sound, and nothing else. A transposed operand is a view, never a copy.
#![expect(unsafe_code, reason = "the gemm crate takes pointers")]

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
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

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
}

impl<'a> MatrixMut<'a> {
    /// The row-major matrix `[rows, cols]` at the start of `data`.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        let needed = extent(rows, cols, cols, 1);
        assert!(data.len() >= needed, "a [{rows}, {cols}] view needs {needed}, got {}", data.len());
        Self { data, rows, cols, row_stride: cols }
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
        Self { data, rows, cols, row_stride }
    }
}

/// Computes `out ← a·b` or `out ← out + a·b`, for `a` `[m, k]`, `b` `[k, n]` and `out` `[m, n]`.
///
/// With `threads` above 1 the work is divided in rayon's current pool.
///
/// # Panics
/// If the shapes do not fit together.
pub fn gemm(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, store: Store, threads: usize) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert!(
        b.rows == k && out.rows == m && out.cols == n,
        "[{m}, {k}] times [{}, {n}] does not fit [{}, {}]",
        b.rows,
        out.rows,
        out.cols
    );
    let parallelism = match threads {
        0 | 1 => gemm::Parallelism::None,
        threads => gemm::Parallelism::Rayon(threads),
    };
    let stride = |s: usize| s.cast_signed();
    // SAFETY: the constructors checked that each view lies in its slice, `out` is an exclusive
    // borrow and so overlaps neither operand, and the shapes fit (asserted above).
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            1,
            stride(out.row_stride),
            store == Store::Accumulate,
            a.data.as_ptr(),
            stride(a.col_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.col_stride),
            stride(b.row_stride),
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, noise};
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

    proptest! {
        #[test]
        fn equals_the_naive_product(m in 1..40_usize, k in 1..50_usize, n in 1..40_usize, threads in 1..3_usize) {
            let (a, b) = (noise(m * k, 1), noise(k * n, 2));
            let expected = naive(&a, &b, m, k, n);
            let mut out = vec![f32::NAN; m * n];
            let (av, bv) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            gemm(MatrixMut::new(&mut out, m, n), av, bv, Store::Overwrite, threads);
            assert_close(&out, &expected, 1e-5, "plain");

            let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
            let (av, bv) = (Matrix::new(&at, k, m).t(), Matrix::new(&bt, n, k).t());
            gemm(MatrixMut::new(&mut out, m, n), av, bv, Store::Accumulate, threads);
            let twice: Vec<f32> = expected.iter().map(|x| 2.0 * x).collect();
            assert_close(&out, &twice, 1e-5, "transposed, accumulated");
        }
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
