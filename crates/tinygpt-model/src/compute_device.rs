//! A device that is open, and a model placed on it.

use candle_core::Device;
use tinygpt_cuda::{CudaError, Gpu, LibraryName};
use tinygpt_kernels::peak;

use crate::cuda::model::types;
use crate::device::{ComputeType, DeviceError, DeviceSpec};
use crate::gpt::Gpt;

/// A device that trains and decodes.
#[derive(Clone, Debug)]
pub enum ComputeDevice {
    /// The CPU, or a GPU on which candle computes.
    Tensors(Device),
    /// An NVIDIA GPU.
    Cuda(Gpu),
}

fn open_metal(spec: DeviceSpec, index: usize) -> Result<Device, DeviceError> {
    if !cfg!(target_os = "macos") {
        return Err(DeviceError::OnlyOnMacOs(spec));
    }
    if !candle_core::utils::metal_is_available() {
        return Err(DeviceError::NotBuilt(spec));
    }
    Device::new_metal(index).map_err(|error| {
        // candle puts the place in the source after the first line.
        let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
        DeviceError::NoAnswer { spec, reason }
    })
}

impl ComputeDevice {
    /// Opens a device: on CUDA that is `tinygpt-cuda`, in every build.
    ///
    /// # Errors
    /// [`DeviceError`] if this build or this machine does not have it.
    pub fn open(spec: DeviceSpec) -> Result<Self, DeviceError> {
        match spec {
            DeviceSpec::Auto => Ok(Self::open_best().0),
            DeviceSpec::Cpu => Ok(Self::Tensors(Device::Cpu)),
            DeviceSpec::Metal(index) => Ok(Self::Tensors(open_metal(spec, index)?)),
            DeviceSpec::Cuda(index) => match Gpu::open(index) {
                Ok(gpu) => Ok(Self::Cuda(gpu)),
                Err(source) => Err(DeviceError::Cuda { spec, source: Box::new(source) }),
            },
        }
    }

    /// Opens the first GPU, or the CPU where no GPU can be used; if NVIDIA's driver is
    /// there, with the reason.
    pub fn open_best() -> (Self, Option<DeviceError>) {
        let no_cuda = match Self::open(DeviceSpec::Cuda(0)) {
            Ok(gpu) => return (gpu, None),
            Err(error) => error,
        };
        let has_driver = !matches!(&no_cuda, DeviceError::Cuda { source, .. }
            if matches!(**source, CudaError::LibraryMissing { library: LibraryName::Driver, .. }
                | CudaError::NoCard { .. }));
        let metal = Self::open(DeviceSpec::Metal(0));
        (metal.unwrap_or(Self::Tensors(Device::Cpu)), has_driver.then_some(no_cuda))
    }

    /// What it is, in words: the name of an NVIDIA GPU, after its kind.
    pub fn description(&self) -> String {
        match self {
            Self::Cuda(gpu) => format!("{}, {}", self.name(), gpu.info().name),
            Self::Tensors(_) => self.name().to_owned(),
        }
    }

    /// Where the tensors of the parameters are: on the host for a GPU that has arenas of its own.
    pub fn tensors(&self) -> Device {
        match self {
            Self::Tensors(device) => device.clone(),
            Self::Cuda(_) => Device::Cpu,
        }
    }

    /// Lets `gpt`, whose parameters are on [`ComputeDevice::tensors`], compute here.
    ///
    /// # Errors
    /// [`ModelError::Request`](crate::ModelError::Request) if it cannot compute this shape or type.
    pub fn place(&self, gpt: &mut Gpt, compute: ComputeType) -> crate::Result<()> {
        match self {
            Self::Tensors(Device::Cpu) => Ok(()),
            Self::Tensors(_) => gpt.set_compute_dtype(compute.dtype()),
            Self::Cuda(gpu) => gpt.move_to_gpu(gpu, compute),
        }
    }

    /// The speed of its matrix products in floating-point operations per second, measured now: with `threads`
    /// threads of a CPU, with `compute` on an NVIDIA GPU; none on Metal.
    ///
    /// # Errors
    /// [`ModelError::Cuda`](crate::ModelError::Cuda).
    pub fn peak_flops(&self, threads: usize, compute: ComputeType) -> crate::Result<Option<f64>> {
        Ok(match self {
            Self::Cuda(gpu) => {
                let (dtype, _, product) = types(compute);
                Some(gpu.product_ceiling(dtype, product)?)
            }
            Self::Tensors(Device::Cpu) => Some(peak::gemm_flops_per_second(threads)),
            Self::Tensors(_) => None,
        })
    }

    /// Whether it is the CPU.
    pub fn is_cpu(&self) -> bool {
        matches!(self, Self::Tensors(Device::Cpu))
    }

    /// Whether it is an NVIDIA GPU.
    pub fn is_cuda(&self) -> bool {
        matches!(self, Self::Cuda(_))
    }

    /// It in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tensors(Device::Cpu) => "cpu",
            Self::Tensors(Device::Metal(_)) => "metal",
            Self::Tensors(Device::Cuda(_)) | Self::Cuda(_) => "cuda",
        }
    }
}
