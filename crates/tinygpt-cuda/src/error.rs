//! What can fail, by kind.

use crate::search::LibraryName;

/// Why a call to the GPU failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// A shared library is not installed, or cannot be loaded.
    #[error("{library} was not found")]
    LibraryMissing {
        /// The library.
        library: LibraryName,
        /// Where it was searched for, in order; with the reason if a file was there.
        searched: Vec<String>,
        /// The command or change that fixes it.
        hint: String,
    },
    /// The installed driver is older than a library or this program needs.
    #[error("the NVIDIA driver supports CUDA {driver}, but {needed_by} needs CUDA {needed}")]
    DriverTooOld {
        /// The CUDA version that the driver supports.
        driver: String,
        /// Who needs more: a library with its file, or this program.
        needed_by: String,
        /// The CUDA version that is needed.
        needed: String,
        /// The command or change that fixes it.
        hint: String,
    },
    /// There is a driver, but not this GPU.
    #[error("there is no GPU {index}: the NVIDIA driver reports {}", count(*.found))]
    NoCard {
        /// The index that was asked for.
        index: usize,
        /// The number of GPUs that the driver reports.
        found: usize,
    },
    /// The kernels need a newer GPU.
    #[error("{name} has compute capability {}.{}, and 8.0 or more is needed", .capability.0, .capability.1)]
    CardTooOld {
        /// The name of the GPU.
        name: String,
        /// Its compute capability.
        capability: (u32, u32),
    },
    /// The compiler is older than the GPU.
    #[error("NVRTC {nvrtc} cannot compile for {arch}")]
    CompilerTooOld {
        /// The version of NVRTC.
        nvrtc: String,
        /// The architecture, such as `sm_120`.
        arch: String,
    },
    /// The memory of the GPU is not enough.
    #[error("out of GPU memory: {} needed, {} free", show_bytes(*.asked), show_bytes(*.free))]
    OutOfMemory {
        /// The bytes of the allocation that failed; 0 if the driver itself needed them.
        asked: usize,
        /// The bytes that were free then.
        free: usize,
    },
    /// A kernel needs more shared memory than a block of this GPU can have.
    #[error("kernel {kernel} needs {asked} bytes of shared memory a block, and the GPU has {most}")]
    SharedMemory {
        /// The name of the kernel.
        kernel: String,
        /// The bytes that it needs.
        asked: u32,
        /// The most that a block can have.
        most: u32,
    },
    /// A kernel was not launched.
    #[error("kernel {kernel} was not launched: {error}")]
    Launch {
        /// The name of the kernel.
        kernel: String,
        /// The driver's name of the error and its description.
        error: String,
    },
    /// A kernel stopped with an error. The context is lost: nothing more can run in this process.
    #[error("a kernel failed on the GPU: {error}; the last one launched was {last}")]
    Fault {
        /// The driver's name of the error and its description.
        error: String,
        /// The kernel that was launched last: it or one before it failed.
        last: String,
    },
    /// The GPU or its driver does not answer any more.
    #[error("the GPU was lost: {error}")]
    Lost {
        /// The driver's name of the error and its description.
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
    /// cublasLt has no algorithm for a product.
    #[error("cublasLt cannot compute this product: {product}")]
    NoAlgorithm {
        /// Shape and types.
        product: String,
    },
    /// Any other call that failed.
    #[error("{call} failed: {error}")]
    Call {
        /// The function of the library.
        call: &'static str,
        /// The library's name of the error and its description.
        error: String,
    },
}

impl CudaError {
    /// One command or change that fixes it, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::LibraryMissing { hint, .. } | Self::DriverTooOld { hint, .. } => {
                Some(hint.clone())
            }
            Self::CompilerTooOld { .. } => {
                Some("install a newer NVRTC: pip install --upgrade nvidia-cuda-nvrtc".into())
            }
            Self::Call { error, .. } => start_hint(error).map(str::to_owned),
            Self::Fault { .. } => {
                Some("set TINYGPT_CUDA_SYNC=1 to wait after each kernel and find the one".into())
            }
            _ => None,
        }
    }

    /// Whether the GPU was there and is not usable any more in this process.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fault { .. } | Self::Lost { .. })
    }
}

/// What helps against errors with which drivers do not start.
fn start_hint(error: &str) -> Option<&'static str> {
    let hints = [
        (
            "SYSTEM_DRIVER_MISMATCH",
            "restart the machine: the driver was updated and the old one still runs",
        ),
        ("STUB_LIBRARY", "remove the toolkit's folder `stubs` from the loader path"),
        ("DEVICE_UNAVAILABLE", "another process uses the GPU alone: wait, or choose another GPU"),
        ("SYSTEM_NOT_READY", "start NVIDIA's fabric manager, or wait until it has started"),
    ];
    hints.iter().find(|(name, _)| error.contains(name)).map(|(_, hint)| *hint)
}

/// Bytes as people read them.
#[must_use]
pub fn show_bytes(bytes: usize) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    let mib = bytes as f64 / MIB;
    match mib {
        _ if bytes == 0 => "more".into(),
        ..1.0 => format!("{bytes} bytes"),
        ..1024.0 => format!("{mib:.1} MiB"),
        _ => format!("{:.2} GiB", mib / 1024.0),
    }
}

fn count(cards: usize) -> String {
    match cards {
        0 => "no GPU".into(),
        1 => "1 GPU".into(),
        n => format!("{n} GPUs"),
    }
}

/// What the driver's code means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A kernel stopped: illegal address, misaligned access, timeout.
    Fault,
    /// The GPU, its driver or its context is gone.
    Lost,
    /// The call itself was refused.
    Refused,
}

/// The kind of a `CUresult` that is not 0.
pub(crate) fn kind_of(code: i32) -> Kind {
    match code {
        700 | 702 | 710 | 714..=719 => Kind::Fault,
        // Shut down, unavailable, memory or link error, no device, context destroyed, unknown.
        4 | 46 | 100 | 201 | 214 | 220 | 709 | 911 | 999 => Kind::Lost,
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_sizes_and_counts() {
        let memory = CudaError::OutOfMemory { asked: 3 << 30, free: 1 << 20 };
        assert_eq!(memory.to_string(), "out of GPU memory: 3.00 GiB needed, 1.0 MiB free");
        let card = CudaError::NoCard { index: 1, found: 1 };
        assert_eq!(card.to_string(), "there is no GPU 1: the NVIDIA driver reports 1 GPU");
    }

    #[test]
    fn codes_have_kinds() {
        assert_eq!(kind_of(700), Kind::Fault);
        assert_eq!(kind_of(999), Kind::Lost);
        assert_eq!(kind_of(1), Kind::Refused);
    }
}
