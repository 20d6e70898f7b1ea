//! One GPU: its context, its stream and its libraries.
#![expect(unsafe_code, reason = "calls of the driver")]

use std::env;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::blas::Blas;
use crate::cache::Cache;
use crate::compiler::Compiler;
use crate::context::Context;
use crate::driver::Driver;
use crate::load::show;
use crate::recorder::Recorder;
use crate::search::Search;
use crate::staging::Staging;
use crate::sys::{Handle, cuda};
use crate::{CudaError, compiler};

/// What a GPU and its libraries are.
#[derive(Clone, Debug)]
pub struct GpuInfo {
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
    /// The newest CUDA version that the driver supports, such as `13.0`.
    pub driver: String,
    /// The version of NVRTC.
    pub nvrtc: String,
    /// The version of cublasLt.
    pub cublas_lt: String,
}

/// How a GPU is opened: what [`Gpu::open`] takes from the environment.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Where the libraries are searched for.
    pub search: Search,
    /// The folder of compiled kernels; none: each process compiles them.
    pub cache: Option<PathBuf>,
    /// Wait after each launch, so that an error names the kernel that failed.
    pub synchronous: bool,
}

impl Setup {
    /// Reads `TINYGPT_CUDA_LIBS` and what [`Search::from_env`] lists, `TINYGPT_CUDA_CACHE` or the user's
    /// cache folder, and `TINYGPT_CUDA_SYNC=1`.
    #[must_use]
    pub fn from_env() -> Self {
        Self {
            search: Search::from_env(),
            cache: crate::cache::folder_from_env(),
            synchronous: env::var_os("TINYGPT_CUDA_SYNC").is_some_and(|value| value == "1"),
        }
    }
}

/// One GPU: its context, one stream that everything is launched on, and its libraries.
///
/// Cheap to clone. Usable from any thread; launches of several threads are ordered as they are made.
#[derive(Clone, Debug)]
pub struct Gpu {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones of a [`Gpu`] share.
#[derive(Debug)]
pub(crate) struct Inner {
    // Dropped first: they own memory of the context.
    pub(crate) blas: Blas,
    pub(crate) staging: Staging,
    pub(crate) compiler: Compiler,
    pub(crate) cache: Cache,
    pub(crate) card: GpuInfo,
    pub(crate) is_capturing: AtomicBool,
    pub(crate) is_profiled: AtomicBool,
    pub(crate) recorder: Mutex<Recorder>,
    synchronous: bool,
    pub(crate) context: Context,
}

impl Gpu {
    /// Opens the GPU with this index, counted from 0, with the libraries that the environment gives.
    ///
    /// # Errors
    /// [`CudaError`]: a library is missing, the driver is too old, or there is no such GPU.
    pub fn open(index: usize) -> Result<Self, CudaError> {
        Self::open_with(index, &Setup::from_env())
    }

    /// Opens the GPU with this index, counted from 0.
    ///
    /// # Errors
    /// [`CudaError`]: a library is missing, the driver is too old, or there is no such GPU.
    pub fn open_with(index: usize, setup: &Setup) -> Result<Self, CudaError> {
        let driver = Driver::load(&setup.search).map_err(|error| match error {
            CudaError::NoCard { found, .. } => CudaError::NoCard { index, found },
            other => other,
        })?;
        let device = driver.device(index)?;
        let name = driver.name(device)?;
        let capability = (
            driver.attribute(device, cuda::CAPABILITY_MAJOR)?,
            driver.attribute(device, cuda::CAPABILITY_MINOR)?,
        );
        if capability.0 < 8 {
            return Err(CudaError::CardTooOld { name, capability });
        }
        // Before the context: a missing library costs no work on the GPU.
        let compiler = Compiler::load(&setup.search, driver.version)?;
        let (blas, blas_version) = crate::load::blas(&setup.search, driver.version)?;
        let mut memory_bytes = 0;
        // SAFETY: an integer to write to.
        let code = unsafe { (driver.device_memory)(&raw mut memory_bytes, device) };
        driver.check("cuDeviceTotalMem", code)?;
        let card = GpuInfo {
            name,
            capability,
            n_multiprocessors: driver.attribute(device, cuda::MULTIPROCESSORS)?,
            max_shared_bytes: driver.attribute(device, cuda::MAX_SHARED_OPTIN)?,
            memory_bytes,
            driver: show(driver.version),
            nvrtc: show(compiler.version()),
            cublas_lt: show(blas_version),
        };
        let context = Context::retain(driver, device)?;
        let blas = Blas::open(blas, &context, capability)?;
        Ok(Self {
            inner: Arc::new(Inner {
                blas,
                staging: Staging::default(),
                compiler,
                cache: Cache::new(setup.cache.clone()),
                card,
                is_capturing: AtomicBool::new(false),
                is_profiled: AtomicBool::new(false),
                recorder: Mutex::default(),
                synchronous: setup.synchronous,
                context,
            }),
        })
    }

    /// The number of GPUs that the driver reports, without opening one.
    ///
    /// # Errors
    /// [`CudaError`] if there is no driver.
    pub fn count() -> Result<usize, CudaError> {
        Driver::load(&Search::from_env())?.count()
    }

    /// What the GPU is.
    #[must_use]
    pub fn info(&self) -> &GpuInfo {
        &self.inner.card
    }

    /// The architecture that kernels are compiled for, such as `sm_90`.
    #[must_use]
    pub fn arch(&self) -> String {
        compiler::arch(self.inner.card.capability)
    }

    /// Free and total memory in bytes, of all processes together.
    ///
    /// # Errors
    /// [`CudaError`] if the driver fails.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        let driver = self.current()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: two integers to write to.
        let code = unsafe { (driver.memory_info)(&raw mut free, &raw mut total) };
        driver.check("cuMemGetInfo", code)?;
        Ok((free, total))
    }

    /// Waits until everything launched is done.
    ///
    /// # Errors
    /// [`CudaError`] if a kernel failed.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        let driver = self.current()?;
        // SAFETY: the stream lives as long as the context.
        let code = unsafe { (driver.stream_synchronize)(self.stream()) };
        driver.check("cuStreamSynchronize", code)
    }

    /// The driver, with this GPU's context current in the calling thread.
    pub(crate) fn current(&self) -> Result<&Driver, CudaError> {
        self.inner.context.make_current()?;
        Ok(&self.inner.context.driver)
    }

    /// The error of the GPU if it has one, else `error`: cublasLt does not say what stopped it.
    pub(crate) fn cause_of(&self, error: CudaError) -> CudaError {
        if self.inner.is_capturing.load(Ordering::Relaxed) {
            return error;
        }
        self.synchronize().err().unwrap_or(error)
    }

    /// The stream that everything is launched on.
    pub(crate) fn stream(&self) -> Handle {
        self.inner.context.stream
    }

    /// Notes that `name` was launched; with [`Setup::synchronous`], waits for it.
    pub(crate) fn launched(&self, name: &'static str) -> Result<(), CudaError> {
        self.inner.context.driver.note_launch(name);
        if self.inner.synchronous && !self.inner.is_capturing.load(Ordering::Relaxed) {
            self.synchronize()?;
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            self.staging.free(&self.context);
            self.blas.free(&self.context);
        }
    }
}
