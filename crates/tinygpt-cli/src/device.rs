//! Where to compute: parses `device` by type and opens it, or says how to get a build that can.

use std::str::FromStr;

use candle_core::Device;

use crate::usage::UsageError;

/// A device as named by the user, not opened yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor, by the project's own kernels.
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
    /// The Apple GPU of this number.
    Metal(usize),
}

impl FromStr for DeviceChoice {
    /// What would have been accepted.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || "cpu, cuda, cuda:1, metal or mps".to_owned();
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse().map_err(|_| expected())?)),
            None => (text, None),
        };
        match (kind, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("metal" | "mps", index) => Ok(Self::Metal(index.unwrap_or(0))),
            _ => Err(expected()),
        }
    }
}

impl DeviceChoice {
    /// Opens the device. Called before any work, so that nothing is lost if it is not there.
    ///
    /// # Errors
    /// [`UsageError`] with the command that builds `binary` for the device, or with the reason why
    /// the device does not answer.
    pub fn open(self, binary: &str) -> Result<Device, UsageError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => {
                if !candle_core::utils::cuda_is_available() {
                    return Err(not_built("CUDA", "cuda", "cuda", binary));
                }
                Device::new_cuda(index).map_err(|error| no_answer("CUDA", index, &error))
            }
            Self::Metal(index) => {
                if !cfg!(target_os = "macos") {
                    return Err(UsageError::new("`device` metal (mps) exists on macOS only")
                        .hint("choose --device cpu, or --device cuda with an NVIDIA GPU"));
                }
                if !candle_core::utils::metal_is_available() {
                    return Err(not_built("Metal", "metal", "metal", binary));
                }
                Device::new_metal(index).map_err(|error| no_answer("Metal", index, &error))
            }
        }
    }
}

fn not_built(name: &str, feature: &str, device: &str, binary: &str) -> UsageError {
    UsageError::new(format!("`device` is {device}, but this build has no {name} support")).hint(
        format!(
            "build and run it with: cargo run --features {feature} --bin {binary} -- \
             --device {device} … (or choose --device cpu)"
        ),
    )
}

fn no_answer(name: &str, index: usize, error: &candle_core::Error) -> UsageError {
    // candle puts the place in the source after the first line.
    let reason = error.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    UsageError::new(format!("{name} device {index} cannot be used: {reason}"))
        .hint("check that the machine has such a GPU and its driver, or choose --device cpu")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_parsed_by_type() {
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("cuda:1".parse(), Ok(DeviceChoice::Cuda(1)));
        assert_eq!("mps".parse(), Ok(DeviceChoice::Metal(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CUDA"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }
}
