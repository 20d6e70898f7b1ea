//! cublasLt: its handle, its workspace, and its status codes as errors.
#![expect(unsafe_code, reason = "calls of cublasLt")]

use std::ffi::c_int;
use std::ops::Deref;

use crate::CudaError;
use crate::context::Context;
use crate::sys::{BlasTable, Handle};

/// cublasLt, opened for a GPU.
#[derive(Debug)]
pub(crate) struct Blas {
    table: BlasTable,
    pub(crate) handle: Handle,
    /// Memory for the partial sums of split products. One for all: there is one stream.
    pub(crate) workspace: u64,
    pub(crate) workspace_bytes: usize,
}

impl Deref for Blas {
    type Target = BlasTable;

    fn deref(&self) -> &BlasTable {
        &self.table
    }
}

impl Blas {
    /// Opens cublasLt in a context that is current.
    ///
    /// # Errors
    /// [`CudaError`] if it does not start, or its workspace does not fit.
    pub(crate) fn open(
        table: BlasTable,
        context: &Context,
        capability: (u32, u32),
    ) -> Result<Self, CudaError> {
        // NVIDIA's recommendation for Hopper; the algorithms of other GPUs need little.
        let workspace_bytes = if matches!(capability.0, 9..=10) { 32 << 20 } else { 4 << 20 };
        let mut handle = Handle::NULL;
        // SAFETY: a handle to write to.
        let status = unsafe { (table.create)(&raw mut handle) };
        check("cublasLtCreate", status)?;
        let mut blas = Self { table, handle, workspace: 0, workspace_bytes };
        // SAFETY: an integer to write to.
        let code =
            unsafe { (context.driver.memory_alloc)(&raw mut blas.workspace, workspace_bytes) };
        if let Err(error) = context.driver.check("cuMemAlloc", code) {
            blas.free(context);
            return Err(match error {
                CudaError::OutOfMemory { free, .. } => {
                    CudaError::OutOfMemory { asked: workspace_bytes, free }
                }
                other => other,
            });
        }
        Ok(blas)
    }

    /// Frees the workspace and closes cublasLt. The context is current.
    pub(crate) fn free(&self, context: &Context) {
        // SAFETY: created in `open` and freed once.
        unsafe {
            let _ = (self.table.destroy)(self.handle);
            if self.workspace != 0 {
                let _ = (context.driver.memory_free)(self.workspace);
            }
        }
    }
}

/// The error of a call that returned `status`.
///
/// # Errors
/// [`CudaError::Call`] if it is not 0.
pub(crate) fn check(call: &'static str, status: c_int) -> Result<(), CudaError> {
    let name = match status {
        0 => return Ok(()),
        1 => "NOT_INITIALIZED",
        3 => "ALLOC_FAILED",
        7 => "INVALID_VALUE",
        8 => "ARCH_MISMATCH",
        11 => "MAPPING_ERROR",
        13 => "EXECUTION_FAILED",
        14 => "INTERNAL_ERROR",
        15 => "NOT_SUPPORTED",
        16 => "LICENSE_ERROR",
        _ => return Err(CudaError::Call { call, error: format!("cuBLAS status {status}") }),
    };
    Err(CudaError::Call { call, error: format!("CUBLAS_STATUS_{name}") })
}
