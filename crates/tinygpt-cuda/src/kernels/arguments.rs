//! What the launches of all kernels share: checked addresses, grids, the dropout mask.
#![expect(unsafe_code, reason = "the promise of `Plain`")]

use crate::{Plain, View};

/// A dropout mask in GPU memory, where kernels read it: it changes with every micro-batch, while a captured
/// graph keeps the arguments of its kernels.
///
/// The mask is that of `tinygpt_kernels::dropout::Dropout` with the same probability, key and first row.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutMask {
    key: u64,
    first_row: u64,
    keep_limit: u32,
    scale: f32,
}

// SAFETY: two u64, a u32 and an f32: no padding, and every bit pattern is a value.
unsafe impl Plain for DropoutMask {}

impl DropoutMask {
    /// The mask with probability `p` in `0.0..1.0` of dropping an element, 0 for none. Row 0 of the kernel is
    /// row `first_row` of the whole batch.
    #[must_use]
    pub fn new(p: f32, key: u64, first_row: u64) -> Self {
        let keep = 1.0 - f64::from(p);
        let keep_limit = if p > 0.0 { (keep * f64::from(1_u32 << 24)).round() as u32 } else { 0 };
        Self { key, first_row, keep_limit, scale: (1.0 / keep) as f32 }
    }
}

/// The address of a view that must have `bytes` bytes.
#[track_caller]
pub(crate) fn address(view: View, bytes: usize, what: &str) -> u64 {
    assert_eq!(view.bytes(), bytes, "bytes of {what}");
    assert!(view.ptr().is_multiple_of(16), "{what} starts at a multiple of 16 bytes");
    view.ptr()
}

/// As [`address`], and null for none.
#[track_caller]
pub(crate) fn optional(view: Option<View>, bytes: usize, what: &str) -> u64 {
    view.map_or(0, |view| address(view, bytes, what))
}

/// The address of a dropout mask, null for none.
#[track_caller]
pub(crate) fn mask_address(mask: Option<View>) -> u64 {
    mask.map_or(0, |mask| {
        assert_eq!(mask.bytes(), size_of::<DropoutMask>(), "bytes of a dropout mask");
        mask.ptr()
    })
}

/// The address of the first of `len` values of type `T`.
#[track_caller]
pub(crate) fn values<T: Plain>(view: View, len: usize, what: &str) -> u64 {
    assert_eq!(view.bytes(), len * size_of::<T>(), "bytes of {what}");
    view.ptr()
}

/// A count for a kernel.
///
/// # Panics
/// If it does not fit into 32 bits.
#[track_caller]
pub(crate) fn count(n: usize, what: &str) -> u32 {
    u32::try_from(n).unwrap_or_else(|_| panic!("{what}: {n} does not fit into 32 bits"))
}

/// Rows that one block of a kernel with column sums takes: many enough that its row of partial sums is
/// little traffic, and few enough that the blocks fill a GPU.
///
/// A function of N alone, so the sums are the same on every GPU.
pub(crate) fn slab_rows(n: usize) -> usize {
    (n / 256).clamp(16, 64)
}

/// The blocks of a kernel with column sums, and rows of its partial sums.
pub(crate) fn slabs(n: usize) -> usize {
    n.div_ceil(slab_rows(n))
}
