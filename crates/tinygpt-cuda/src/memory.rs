//! Memory of the GPU: buffers that own it, views that point into it.
#![expect(unsafe_code, reason = "calls of the driver, and the promise of `Plain`")]

use std::ops::Range;

use crate::sys::cuda;
use crate::{CudaError, Gpu};

/// A type whose values can be copied to the GPU and back as bytes.
///
/// # Safety
/// The type has no padding, and every bit pattern is a valid value.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

macro_rules! plain {
    ($($type:ty),*) => {$(
        // SAFETY: a number has no padding, and every bit pattern is a value.
        unsafe impl Plain for $type {}
    )*};
}
plain!(u8, u16, u32, u64, i32, i64, f32, f64);

/// Bytes of GPU memory, aligned to 256 bytes, freed on drop.
#[derive(Debug)]
pub struct Buffer {
    view: View,
    gpu: Gpu,
}

impl Buffer {
    /// All bytes of the buffer.
    #[must_use]
    pub fn view(&self) -> View {
        self.view
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Ok(driver) = self.gpu.current() {
            // SAFETY: allocated in `alloc` and freed once. The driver waits for kernels that use it.
            let _ = unsafe { (driver.memory_free)(self.view.ptr) };
        }
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
    /// Addresses without memory behind them: to plan how an allocation will be divided.
    #[must_use]
    pub fn planned(bytes: usize) -> Self {
        Self { ptr: 0, bytes }
    }

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
    #[track_caller]
    pub fn slice(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.bytes,
            "bytes {range:?} of a view of {} bytes",
            self.bytes
        );
        Self { ptr: self.ptr + range.start as u64, bytes: range.end - range.start }
    }

    /// Part of this view, counted in values of type `T`.
    ///
    /// # Panics
    /// If the range is not inside the view.
    #[must_use]
    #[track_caller]
    pub fn slice_of<T: Plain>(self, range: Range<usize>) -> Self {
        self.slice(range.start * size_of::<T>()..range.end * size_of::<T>())
    }
}

impl Gpu {
    /// Allocates `bytes` of memory, not initialized.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`].
    pub fn alloc(&self, bytes: usize) -> Result<Buffer, CudaError> {
        let driver = self.current()?;
        let mut ptr = 0;
        // SAFETY: an integer to write to. The driver refuses an allocation of 0 bytes.
        let code = unsafe { (driver.memory_alloc)(&raw mut ptr, bytes.max(1)) };
        if code == cuda::OUT_OF_MEMORY {
            return Err(CudaError::OutOfMemory { asked: bytes, free: driver.free_bytes() });
        }
        driver.check("cuMemAlloc", code)?;
        Ok(Buffer { view: View { ptr, bytes }, gpu: self.clone() })
    }

    /// Sets all bytes of a view to 0.
    ///
    /// # Errors
    /// [`CudaError`] if the call fails.
    pub fn zero(&self, view: View) -> Result<(), CudaError> {
        if view.bytes == 0 {
            return Ok(());
        }
        let driver = self.current()?;
        // SAFETY: the view is inside an allocation, or the driver refuses it.
        let code = unsafe { (driver.set_bytes)(view.ptr, 0, view.bytes, self.stream()) };
        driver.check("cuMemsetD8Async", code)
    }

    /// Copies `from` to the start of `to` on the GPU. The two do not overlap.
    ///
    /// # Errors
    /// [`CudaError`] if the call fails.
    ///
    /// # Panics
    /// If `to` is shorter than `from`.
    #[track_caller]
    pub fn copy(&self, to: View, from: View) -> Result<(), CudaError> {
        assert!(from.bytes <= to.bytes, "{} bytes into a view of {}", from.bytes, to.bytes);
        if from.bytes == 0 {
            return Ok(());
        }
        let driver = self.current()?;
        // SAFETY: as in `zero`, and the target is long enough.
        let code = unsafe { (driver.copy_on_device)(to.ptr, from.ptr, from.bytes, self.stream()) };
        driver.check("cuMemcpyDtoDAsync", code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_offsets() {
        let view = View { ptr: 256, bytes: 100 };
        assert_eq!(view.slice(4..12), View { ptr: 260, bytes: 8 });
        assert_eq!(view.slice_of::<f32>(1..3), View { ptr: 260, bytes: 8 });
        assert_eq!(view.slice(100..100).bytes(), 0);
        assert_eq!(view.len_of::<f64>(), 12);
    }

    #[test]
    #[should_panic(expected = "bytes 0..101 of a view of 100 bytes")]
    fn slices_outside_panic() {
        let _ = View { ptr: 256, bytes: 100 }.slice(0..101);
    }
}
