//! One GPU: its context and its stream.

use std::sync::Arc;

use crate::CudaError;

/// What a GPU and its libraries are.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its name, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability: `(9, 0)` for `sm_90`.
    pub capability: (u32, u32),
    /// The number of streaming multiprocessors.
    pub n_multiprocessors: u32,
    /// The most bytes of shared memory that a block can ask for.
    pub max_shared_bytes: u32,
    /// All memory, in bytes.
    pub memory_bytes: usize,
    /// The CUDA version of the driver, such as `13.0`.
    pub driver: String,
    /// The version of NVRTC.
    pub nvrtc: String,
    /// The version of cublasLt.
    pub cublas_lt: String,
}

/// One GPU: its context, one stream that everything is launched on, and its libraries.
#[derive(Clone, Debug)]
pub struct Gpu {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    card: Card,
}

impl Gpu {
    /// Opens the GPU with this index, counted from 0.
    ///
    /// # Errors
    /// [`CudaError`]: a library is missing, the driver is too old, or there is no such GPU.
    pub fn open(index: usize) -> Result<Self, CudaError> {
        Err(CudaError::NoCard { index, found: 0 })
    }

    /// What the GPU is.
    #[must_use]
    pub fn card(&self) -> &Card {
        &self.inner.card
    }

    /// Free and total memory in bytes.
    ///
    /// # Errors
    /// [`CudaError`] if the driver fails.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        Ok((0, self.inner.card.memory_bytes))
    }

    /// Waits until everything launched is done.
    ///
    /// # Errors
    /// [`CudaError`] if a kernel failed.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        Ok(())
    }
}
