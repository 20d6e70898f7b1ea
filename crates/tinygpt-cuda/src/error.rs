//! What can fail, by kind.

/// Why a call to the GPU failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// A shared library is not installed.
    #[error("{library} was not found")]
    LibraryMissing {
        /// Its name for people, such as `NVRTC`.
        library: &'static str,
        /// Where it was searched for, in order.
        searched: Vec<String>,
        /// The command that installs it.
        hint: String,
    },
    /// The installed driver is older than a library needs.
    #[error("the NVIDIA driver supports CUDA {driver}, but {library} is version {version}")]
    DriverTooOld {
        /// The library that needs a newer driver.
        library: &'static str,
        /// Its version.
        version: String,
        /// The CUDA version of the driver.
        driver: String,
    },
    /// There is a driver, but not this GPU.
    #[error("GPU {index} does not exist: {found} found")]
    NoCard {
        /// The index that was asked for.
        index: usize,
        /// The number of GPUs that the driver reports.
        found: usize,
    },
    /// The memory of the GPU is not enough.
    #[error("out of GPU memory: {asked} bytes needed, {free} bytes free")]
    OutOfMemory {
        /// The bytes of the allocation that failed.
        asked: usize,
        /// The bytes that were free then.
        free: usize,
    },
    /// A kernel could not be launched, or stopped with an error.
    #[error("kernel {kernel} failed: {error}")]
    Launch {
        /// The name of the kernel.
        kernel: String,
        /// The driver's name of the error.
        error: String,
    },
    /// NVRTC rejected a kernel file.
    #[error("{file} does not compile:\n{log}")]
    Compile {
        /// The name of the file.
        file: String,
        /// The compiler's output.
        log: String,
    },
    /// Any other call that failed.
    #[error("{call} failed: {error}")]
    Call {
        /// The function of the library.
        call: &'static str,
        /// The library's name of the error.
        error: String,
    },
}
