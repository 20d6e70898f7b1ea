//! Memory of the GPU: buffers that own it, views that point into it.

use std::ops::Range;

use crate::{CudaError, Gpu};

/// A type whose values can be copied to the GPU and back as bytes: every bit pattern is a value.
///
/// # Safety
/// The type has no padding, and every bit pattern is a valid value.
#[expect(unsafe_code, reason = "the promise that the upload of bytes rests on")]
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

macro_rules! plain {
    ($($type:ty),*) => {$(
        // SAFETY: a number without padding; every bit pattern is a value.
        #[expect(unsafe_code, reason = "as the trait asks")]
        unsafe impl Plain for $type {}
    )*};
}
plain!(u8, u16, u32, u64, i32, i64, f32, f64);

/// Bytes of GPU memory, aligned to 256 bytes and freed on drop.
#[derive(Debug)]
pub struct Buffer {
    view: View,
    _gpu: Gpu,
}

impl Buffer {
    /// All bytes of the buffer.
    #[must_use]
    pub fn view(&self) -> View {
        self.view
    }
}

/// A range of GPU memory: a pointer and a length in bytes.
///
/// It carries no lifetime: freed GPU memory cannot harm the memory of the host, and the arenas of a
/// training step live as long as the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    ptr: u64,
    bytes: usize,
}

impl View {
    /// The address in GPU memory, for a kernel's arguments.
    #[must_use]
    pub fn ptr(self) -> u64 {
        self.ptr
    }

    /// The length in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// The number of whole values of type `T` that fit.
    #[must_use]
    pub fn len_of<T: Plain>(self) -> usize {
        self.bytes / size_of::<T>()
    }

    /// Part of this view: a range of bytes.
    ///
    /// # Panics
    /// If the range is not inside the view.
    #[must_use]
    pub fn slice(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.bytes,
            "bytes {range:?} of a view of {} bytes",
            self.bytes
        );
        Self { ptr: self.ptr + range.start as u64, bytes: range.end - range.start }
    }
}

impl Gpu {
    /// Allocates `bytes` of memory, not initialized.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`].
    pub fn alloc(&self, bytes: usize) -> Result<Buffer, CudaError> {
        Err(CudaError::OutOfMemory { asked: bytes, free: 0 })
    }

    /// Copies `values` to the start of `to`, ordered with the launches before and after.
    ///
    /// # Errors
    /// [`CudaError`] if the copy fails.
    ///
    /// # Panics
    /// If the view is shorter than the values.
    pub fn upload<T: Plain>(&self, to: View, values: &[T]) -> Result<(), CudaError> {
        assert!(size_of_val(values) <= to.bytes, "the view is shorter than the values");
        Err(CudaError::Call { call: "cuMemcpyHtoDAsync", error: "not implemented".into() })
    }

    /// Copies the start of `from` into `values`, after everything launched before. Waits for it.
    ///
    /// # Errors
    /// [`CudaError`] if the copy or a kernel before it fails.
    ///
    /// # Panics
    /// If the view is shorter than the values.
    pub fn download<T: Plain>(&self, from: View, values: &mut [T]) -> Result<(), CudaError> {
        assert!(size_of_val(values) <= from.bytes, "the view is shorter than the values");
        Err(CudaError::Call { call: "cuMemcpyDtoHAsync", error: "not implemented".into() })
    }

    /// Sets all bytes of a view to 0.
    ///
    /// # Errors
    /// [`CudaError`] if the call fails.
    pub fn zero(&self, view: View) -> Result<(), CudaError> {
        let _ = view;
        Err(CudaError::Call { call: "cuMemsetD8Async", error: "not implemented".into() })
    }

    /// Copies `from` to the start of `to` on the GPU. The two do not overlap.
    ///
    /// # Errors
    /// [`CudaError`] if the call fails.
    ///
    /// # Panics
    /// If `to` is shorter than `from`.
    pub fn copy(&self, to: View, from: View) -> Result<(), CudaError> {
        assert!(from.bytes <= to.bytes, "the target is shorter than the source");
        Err(CudaError::Call { call: "cuMemcpyDtoDAsync", error: "not implemented".into() })
    }
}
