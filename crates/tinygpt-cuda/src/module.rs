//! Kernel files, compiled for the GPU, and the kernels in them.

use std::sync::Arc;

use crate::{CudaError, Gpu};

/// A kernel file that is part of the binary, and the headers it includes.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The name of the file, such as `adamw.cu`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// The headers by the name in `#include`, with their text.
    pub headers: &'static [(&'static str, &'static str)],
}

/// A compiled kernel file, loaded on a GPU.
#[derive(Clone, Debug)]
pub struct Module {
    inner: Arc<Gpu>,
}

impl Gpu {
    /// Compiles a kernel file with these `-D` defines, or takes it from the cache, and loads it.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output.
    pub fn module(
        &self,
        source: &Source,
        defines: &[(&'static str, u32)],
    ) -> Result<Module, CudaError> {
        let _ = defines;
        Err(CudaError::Compile { file: source.name.into(), log: String::new() })
    }
}

impl Module {
    /// A kernel of this module, launched in blocks of `threads` threads with `shared_bytes` of dynamic
    /// shared memory.
    ///
    /// # Errors
    /// [`CudaError`] if there is no such kernel, or the GPU has less shared memory.
    pub fn kernel(
        &self,
        name: &'static str,
        threads: u32,
        shared_bytes: u32,
    ) -> Result<Kernel, CudaError> {
        Ok(Kernel { name, threads, shared_bytes, module: self.clone() })
    }
}

/// One kernel, ready to launch.
#[derive(Clone, Debug)]
pub struct Kernel {
    name: &'static str,
    threads: u32,
    shared_bytes: u32,
    module: Module,
}

impl Kernel {
    /// Launches `grid` blocks (x, y, z). Returns before they run.
    ///
    /// A block's size and dynamic shared memory are those given to [`Module::kernel`].
    ///
    /// # Errors
    /// [`CudaError::Launch`].
    ///
    /// # Safety
    /// `args` has the layout of the kernel's argument, `#[repr(C)]`, and its pointers and sizes stay inside
    /// the memory that they mean.
    #[expect(unsafe_code, reason = "a kernel writes where its arguments point")]
    pub unsafe fn launch<A: Copy>(&self, grid: [u32; 3], args: &A) -> Result<(), CudaError> {
        let _ = (grid, args, self.threads, self.shared_bytes, &self.module.inner);
        Err(CudaError::Launch { kernel: self.name.into(), error: String::new() })
    }
}
