//! Copies between host and GPU, through the pinned blocks of `staging.rs`.
#![expect(unsafe_code, reason = "calls of the driver, and copies to and from pinned memory")]

use std::ptr;
use std::sync::atomic::Ordering;

use crate::driver::Driver;
use crate::staging::{BLOCK, Block};
use crate::{CudaError, Gpu, Plain, View};

impl Gpu {
    /// Copies `values` to the start of `to`, after everything launched before. Returns when `values` may
    /// change, which can be before the GPU has them.
    ///
    /// # Errors
    /// [`CudaError`] if the copy fails, or inside [`Gpu::capture`]: a graph would copy old values.
    ///
    /// # Panics
    /// If the view is shorter than the values.
    #[track_caller]
    pub fn upload<T: Plain>(&self, to: View, values: &[T]) -> Result<(), CudaError> {
        let bytes = size_of_val(values);
        assert!(bytes <= to.bytes(), "{bytes} bytes into a view of {}", to.bytes());
        let from = values.as_ptr().cast::<u8>();
        let driver = self.outside_capture("cuMemcpyHtoDAsync")?;
        let mut ring = self.inner.staging.ring(driver)?;
        for start in (0..bytes).step_by(BLOCK) {
            let length = BLOCK.min(bytes - start);
            let block = ring.next_block();
            block.wait(driver)?;
            // SAFETY: the block has room for `length`, and `values` has `start + length` bytes, which are
            // initialized because `Plain` has no padding. The ring is locked and the GPU has copied what
            // the block held, so nobody else uses it.
            unsafe { ptr::copy_nonoverlapping(from.add(start), block.memory.0.cast(), length) };
            let target = to.ptr() + start as u64;
            // SAFETY: the block stays unchanged until its event, and the target has room.
            let code =
                unsafe { (driver.copy_to_device)(target, block.memory.0, length, self.stream()) };
            driver.check("cuMemcpyHtoDAsync", code)?;
            block.mark(driver, self.stream())?;
        }
        Ok(())
    }

    /// Copies the start of `from` into `values`, after everything launched before. Waits for it.
    ///
    /// # Errors
    /// [`CudaError`] if the copy or a kernel before it fails, or inside [`Gpu::capture`].
    ///
    /// # Panics
    /// If the view is shorter than the values.
    #[track_caller]
    pub fn download<T: Plain>(&self, from: View, values: &mut [T]) -> Result<(), CudaError> {
        let bytes = size_of_val(values);
        assert!(bytes <= from.bytes(), "{bytes} bytes from a view of {}", from.bytes());
        let to = values.as_mut_ptr().cast::<u8>();
        let driver = self.outside_capture("cuMemcpyDtoHAsync")?;
        let mut ring = self.inner.staging.ring(driver)?;
        // One block ahead: the GPU fills it while the host empties the one before.
        let mut filled: Option<(usize, Block)> = None;
        for start in (0..bytes).step_by(BLOCK).map(Some).chain([None]) {
            let filling = start.map(|start| (start, ring.next_block()));
            if let Some((start, block)) = filling {
                let source = from.ptr() + start as u64;
                let length = BLOCK.min(bytes - start);
                // SAFETY: the block has room for `length`, and the view has `start + length` bytes. Uploads
                // from the block come earlier in the stream, and the host has emptied it.
                let code =
                    unsafe { (driver.copy_to_host)(block.memory.0, source, length, self.stream()) };
                driver.check("cuMemcpyDtoHAsync", code)?;
                block.mark(driver, self.stream())?;
            }
            if let Some((start, block)) = filled {
                block.wait(driver)?;
                let length = BLOCK.min(bytes - start);
                // SAFETY: `values` has room for `start + length` bytes, any bytes are values of `T`, and the
                // event says that the GPU has written the block.
                unsafe { ptr::copy_nonoverlapping(block.memory.0.cast(), to.add(start), length) };
            }
            filled = filling;
        }
        Ok(())
    }

    /// The driver, unless launches are being recorded.
    fn outside_capture(&self, call: &'static str) -> Result<&Driver, CudaError> {
        if self.inner.is_capturing.load(Ordering::Relaxed) {
            let error = "copies to and from the host cannot be part of a graph".into();
            return Err(CudaError::Call { call, error });
        }
        self.current()
    }
}
