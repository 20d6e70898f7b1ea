//! A device opened for training, and a model placed on it.

use candle_core::Device;
use tinygpt_cuda::Gpu;

use crate::device::{ComputeType, DeviceError, DeviceSpec};
use crate::gpt::Gpt;

/// A device that trains.
#[derive(Clone, Debug)]
pub enum TrainingDevice {
    /// The CPU, or a GPU on which candle computes.
    Tensors(Device),
    /// An NVIDIA GPU.
    Cuda(Gpu),
}

impl TrainingDevice {
    /// Opens a device: on CUDA that is `tinygpt-cuda`, in every build.
    ///
    /// # Errors
    /// [`DeviceError`] if this build or this machine does not have it.
    pub fn open(spec: DeviceSpec) -> Result<Self, DeviceError> {
        match spec {
            DeviceSpec::Cpu | DeviceSpec::Metal(_) => Ok(Self::Tensors(spec.open()?)),
            DeviceSpec::Cuda(index) => match Gpu::open(index) {
                Ok(gpu) => Ok(Self::Cuda(gpu)),
                Err(source) => Err(DeviceError::Cuda { spec, source: Box::new(source) }),
            },
        }
    }

    /// Where the tensors of the parameters are: on the host for a GPU that has arenas of its own.
    pub fn tensors(&self) -> Device {
        match self {
            Self::Tensors(device) => device.clone(),
            Self::Cuda(_) => Device::Cpu,
        }
    }

    /// Lets `gpt`, whose parameters are on [`TrainingDevice::tensors`], compute here.
    ///
    /// # Errors
    /// [`ModelError::Request`](crate::ModelError::Request) if it cannot compute this shape or type.
    pub fn place(&self, gpt: &mut Gpt, compute: ComputeType) -> crate::Result<()> {
        match self {
            Self::Tensors(Device::Cpu) => Ok(()),
            Self::Tensors(_) => gpt.set_compute_dtype(compute.dtype()),
            Self::Cuda(gpu) => gpt.train_on(gpu, compute),
        }
    }

    /// Free memory of an NVIDIA GPU in bytes, of all processes together; `None` for other devices.
    ///
    /// # Errors
    /// [`ModelError::Cuda`](crate::ModelError::Cuda) if the driver fails.
    pub fn free_bytes(&self) -> crate::Result<Option<usize>> {
        match self {
            Self::Tensors(_) => Ok(None),
            Self::Cuda(gpu) => Ok(Some(gpu.memory()?.0)),
        }
    }

    /// Whether it is the CPU.
    pub fn is_cpu(&self) -> bool {
        matches!(self, Self::Tensors(Device::Cpu))
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
