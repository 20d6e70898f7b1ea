//! Kernel files, compiled for the GPU, and the kernels in them.
#![expect(unsafe_code, reason = "calls of the driver")]

use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Arc;
use std::thread;

use crate::cache::Cache;
use crate::compiler::options;
use crate::driver::Driver;
use crate::source::{Defines, KernelSource};
use crate::sys::{Handle, cuda};
use crate::{CudaError, Gpu, Work};

/// A compiled kernel file, loaded on a GPU; unloaded when it and its kernels are dropped.
#[derive(Clone, Debug)]
pub struct Module {
    inner: Arc<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    handle: Handle,
    gpu: Gpu,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Ok(driver) = self.gpu.current() {
            // SAFETY: loaded in `load` and unloaded once.
            let _ = unsafe { (driver.module_unload)(self.handle) };
        }
    }
}

impl Gpu {
    /// Compiles a kernel file with these `-D` defines, or takes it from the cache, and loads it.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output.
    pub fn module(&self, source: &KernelSource, defines: Defines) -> Result<Module, CudaError> {
        let code = self.code(source, defines)?;
        if let Ok(module) = self.load(&code.cubin) {
            return Ok(module);
        }
        // A file of the cache that the driver refuses, such as one by a compiler it does not know.
        let cubin = if code.is_cached { self.compile(source, defines)? } else { code.cubin };
        self.load(&cubin)
    }

    /// Compiles or loads several kernel files at the same time, and returns them in order.
    ///
    /// # Errors
    /// The first error of [`Gpu::module`].
    pub fn modules(
        &self,
        files: &[(KernelSource, Vec<(&'static str, u32)>)],
    ) -> Result<Vec<Module>, CudaError> {
        thread::scope(|scope| {
            // As many threads as files: a machine with few cores compiles them in turns all the same.
            let threads: Vec<_> = files
                .iter()
                .map(|(source, defines)| scope.spawn(move || self.module(source, defines)))
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        })
    }

    /// The machine code of a file, from the cache if it is there.
    fn code(&self, source: &KernelSource, defines: Defines) -> Result<Code, CudaError> {
        let options = options(&self.arch(), defines);
        let file = self.inner.cache.file(source, &options, self.inner.compiler.version());
        if let Some(cubin) = file.as_deref().and_then(Cache::read) {
            return Ok(Code { cubin, is_cached: true });
        }
        Ok(Code { cubin: self.compile(source, defines)?, is_cached: false })
    }

    /// Compiles a file and writes it to the cache.
    fn compile(&self, source: &KernelSource, defines: Defines) -> Result<Vec<u8>, CudaError> {
        let options = options(&self.arch(), defines);
        let compiler = &self.inner.compiler;
        let cubin = compiler.compile(source, &options)?.cubin;
        if let Some(file) = self.inner.cache.file(source, &options, compiler.version()) {
            Cache::write(&file, &cubin);
        }
        Ok(cubin)
    }

    fn load(&self, cubin: &[u8]) -> Result<Module, CudaError> {
        let driver = self.current()?;
        let mut handle = Handle::NULL;
        // SAFETY: an ELF file knows its own length; one from the cache has passed its checksum.
        let code = unsafe { (driver.module_load)(&raw mut handle, cubin.as_ptr().cast()) };
        driver.check("cuModuleLoadData", code)?;
        Ok(Module { inner: Arc::new(Loaded { handle, gpu: self.clone() }) })
    }
}

/// Machine code and where it is from.
struct Code {
    cubin: Vec<u8>,
    is_cached: bool,
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
        let gpu = &self.inner.gpu;
        let driver = gpu.current()?;
        let symbol = CString::new(name).unwrap_or_default();
        let mut function = Handle::NULL;
        // SAFETY: a handle to write to, and a text that ends in 0.
        let code = unsafe {
            (driver.module_function)(&raw mut function, self.inner.handle, symbol.as_ptr())
        };
        driver.check("cuModuleGetFunction", code).map_err(|error| named(name, error))?;
        let fixed = attribute(driver, function, cuda::FUNCTION_STATIC_SHARED)?;
        let asked = fixed + shared_bytes;
        let most = gpu.info().max_shared_bytes;
        if asked > most {
            return Err(CudaError::SharedMemory { kernel: name.into(), asked, most });
        }
        let size = i32::try_from(shared_bytes).unwrap_or(i32::MAX);
        // SAFETY: the function lives as long as the module.
        let code =
            unsafe { (driver.function_set)(function, cuda::FUNCTION_MAX_DYNAMIC_SHARED, size) };
        driver.check("cuFuncSetAttribute", code).map_err(|error| named(name, error))?;
        Ok(Kernel { name, function, threads, shared_bytes, module: self.clone() })
    }
}

/// One kernel, ready to launch.
#[derive(Clone, Debug)]
pub struct Kernel {
    name: &'static str,
    function: Handle,
    threads: u32,
    shared_bytes: u32,
    module: Module,
}

impl Kernel {
    /// The kernel's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The GPU that it is loaded on.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.module.inner.gpu
    }

    /// Registers per thread.
    ///
    /// # Errors
    /// [`CudaError`] if the driver fails.
    pub fn registers(&self) -> Result<u32, CudaError> {
        attribute(self.gpu().current()?, self.function, cuda::FUNCTION_REGISTERS)
    }

    /// Bytes per thread in local memory: registers that did not fit, and arrays with computed indices.
    ///
    /// # Errors
    /// [`CudaError`] if the driver fails.
    pub fn local_bytes(&self) -> Result<u32, CudaError> {
        attribute(self.gpu().current()?, self.function, cuda::FUNCTION_LOCAL_BYTES)
    }

    /// Launches `grid` blocks (x, y, z). Returns before they run. An empty grid launches nothing.
    ///
    /// A block's size and dynamic shared memory are those given to [`Module::kernel`]. `work` is what a
    /// [profile](Gpu::profile) shows.
    ///
    /// # Errors
    /// [`CudaError::Launch`]; [`CudaError::Fault`] if an earlier kernel failed.
    ///
    /// # Safety
    /// `args` has the layout of the kernel's argument, `#[repr(C)]`, and its pointers and sizes stay inside
    /// the memory that they mean.
    pub unsafe fn launch<A: Copy>(
        &self,
        grid: [u32; 3],
        args: &A,
        work: Work,
    ) -> Result<(), CudaError> {
        if grid.contains(&0) {
            return Ok(());
        }
        let gpu = self.gpu();
        let driver = gpu.current()?;
        let mut parameters = [ptr::from_ref(args).cast_mut().cast::<c_void>()];
        gpu.measured(
            || self.name.to_owned(),
            work,
            || {
                // SAFETY: one parameter of the kernel's type, as the caller promises; the driver copies it.
                let code = unsafe {
                    (driver.launch)(
                        self.function,
                        grid[0],
                        grid[1],
                        grid[2],
                        self.threads,
                        1,
                        1,
                        self.shared_bytes,
                        gpu.stream(),
                        parameters.as_mut_ptr(),
                        ptr::null_mut(),
                    )
                };
                driver.check("cuLaunchKernel", code).map_err(|error| named(self.name, error))?;
                gpu.launched(self.name)
            },
        )
    }
}

fn attribute(driver: &Driver, function: Handle, attribute: i32) -> Result<u32, CudaError> {
    let mut value = 0;
    // SAFETY: an integer to write to; the function lives as long as its module.
    let code = unsafe { (driver.function_get)(&raw mut value, attribute, function) };
    driver.check("cuFuncGetAttribute", code)?;
    Ok(u32::try_from(value).unwrap_or(0))
}

/// The error of a call, with the kernel's name.
fn named(kernel: &str, error: CudaError) -> CudaError {
    match error {
        CudaError::Call { error, .. } => CudaError::Launch { kernel: kernel.into(), error },
        other => other,
    }
}
