//! Pinned memory for copies between host and GPU.
//!
//! The driver copies pageable memory at half the speed, and makes the caller wait for the GPU from 64 KiB
//! on. Here the host fills or empties one pinned block while the GPU copies another. An upload returns as
//! soon as its last block is filled: the blocks form a ring, so the host can upload the next batch while
//! the GPU still computes.
#![expect(unsafe_code, reason = "calls of the driver")]

use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::CudaError;
use crate::context::Context;
use crate::driver::Driver;
use crate::sys::{Handle, cuda};

/// Bytes of a block: tokens and targets of a batch of 128 x 1,024.
pub(crate) const BLOCK: usize = 1 << 20;

/// Blocks of the ring: the uploads that can wait for the GPU before the host does.
const BLOCKS: usize = 8;

/// The pinned blocks of a GPU, allocated at the first copy.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
pub(crate) struct Ring {
    blocks: Vec<Block>,
    next: usize,
}

/// Pinned memory, and the event after the last copy from or to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) memory: Handle,
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
    pub(crate) fn ring(&self, driver: &Driver) -> Result<MutexGuard<'_, Ring>, CudaError> {
        let mut ring = self.lock();
        while ring.blocks.len() < BLOCKS {
            ring.blocks.push(Block::allocate(driver)?);
        }
        Ok(ring)
    }
}

impl Ring {
    pub(crate) fn next_block(&mut self) -> Block {
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
    pub(crate) fn wait(self, driver: &Driver) -> Result<(), CudaError> {
        // SAFETY: the event lives as long as the block.
        driver.check("cuEventSynchronize", unsafe { (driver.event_synchronize)(self.copied) })
    }

    /// Marks the point in the stream after a copy.
    pub(crate) fn mark(self, driver: &Driver, stream: Handle) -> Result<(), CudaError> {
        // SAFETY: both live.
        driver.check("cuEventRecord", unsafe { (driver.event_record)(self.copied, stream) })
    }
}
