//! Products by the `gemm` crate, for processors that `tile.rs` has no registers for.
#![expect(unsafe_code, reason = "the gemm crate takes pointers")]

use super::{Matrix, MatrixMut, Store};

/// As [`super::gemm()`], which has checked the shapes.
pub(super) fn gemm(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, store: Store, threads: usize) {
    let parallelism = match threads {
        0 | 1 => gemm::Parallelism::None,
        threads => gemm::Parallelism::Rayon(threads),
    };
    let stride = |s: usize| s.cast_signed();
    // SAFETY: the constructors checked that each view lies in its slice, `out` is an exclusive
    // borrow of its elements and so overlaps neither operand, and the shapes fit.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.data,
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
