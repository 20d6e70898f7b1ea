//! Copies between host and GPU through pinned memory.
//!
//! The driver copies pageable memory at half the speed, and makes the caller wait for the GPU from 64 KiB
//! on. Here the host fills or empties one pinned block while the GPU copies another. An upload returns as
//! soon as its last block is filled: the blocks form a ring, so the host can upload the next batch while
//! the GPU still computes.
#![expect(unsafe_code, reason = "calls of the driver, and copies to and from pinned memory")]

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::driver::Driver;
use crate::gpu::Context;
use crate::sys::{Handle, cuda};
use crate::{CudaError, Gpu, Plain, View};

/// Bytes of a block: tokens and targets of a batch of 128 x 1,024.
const BLOCK: usize = 1 << 20;

/// Blocks of the ring: the uploads that can wait for the GPU before the host does.
const BLOCKS: usize = 8;

/// The pinned blocks of a GPU, allocated at the first copy.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    blocks: Vec<Block>,
    next: usize,
}

/// Pinned memory, and the event after the last copy from or to it.
#[derive(Clone, Copy, Debug)]
struct Block {
    memory: Handle,
    copied: Handle,
}

impl Staging {
    /// Frees the blocks. The context is current.
    pub(crate) fn free(&self, context: &Context) {
        for block in self.lock().blocks.drain(..) {
            // SAFETY: created in `ring` and freed once; the stream is idle or lost.
            unsafe {
                let _ = (context.driver.stream_synchronize)(context.stream);
                let _ = (context.driver.host_free)(block.memory.0);
                let _ = (context.driver.event_destroy)(block.copied);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ring, for this thread alone.
    fn ring(&self, driver: &Driver) -> Result<MutexGuard<'_, Ring>, CudaError> {
        let mut ring = self.lock();
        while ring.blocks.len() < BLOCKS {
            ring.blocks.push(Block::allocate(driver)?);
        }
        Ok(ring)
    }
}

impl Ring {
    fn next_block(&mut self) -> Block {
        let block = self.blocks[self.next];
        self.next = (self.next + 1) % BLOCKS;
        block
    }
}

impl Block {
    fn allocate(driver: &Driver) -> Result<Self, CudaError> {
        let mut copied = Handle::NULL;
        // SAFETY: a handle to write to.
        let code = unsafe { (driver.event_create)(&raw mut copied, cuda::EVENT_DISABLE_TIMING) };
        driver.check("cuEventCreate", code)?;
        let mut memory: *mut c_void = ptr::null_mut();
        // SAFETY: a pointer to write to.
        let code = unsafe { (driver.host_alloc)(&raw mut memory, BLOCK, 0) };
        if code != 0 {
            // SAFETY: created above.
            let _ = unsafe { (driver.event_destroy)(copied) };
        }
        driver.check("cuMemHostAlloc", code)?;
        Ok(Self { memory: Handle(memory), copied })
    }

    /// Waits until the last copy from or to this block is done.
    fn wait(self, driver: &Driver) -> Result<(), CudaError> {
        // SAFETY: the event lives as long as the block.
        driver.check("cuEventSynchronize", unsafe { (driver.event_synchronize)(self.copied) })
    }

    /// Marks the point in the stream after a copy.
    fn mark(self, driver: &Driver, stream: Handle) -> Result<(), CudaError> {
        // SAFETY: both live.
        driver.check("cuEventRecord", unsafe { (driver.event_record)(self.copied, stream) })
    }
}

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
