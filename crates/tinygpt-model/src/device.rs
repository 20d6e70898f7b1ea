//! Where to compute: a device by name, and number types.

use std::fmt;
use std::str::FromStr;

use candle_core::DType;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tinygpt_cuda::CudaError;

/// A device as a user names it, not opened yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceSpec {
    /// The CPU.
    #[default]
    Cpu,
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
    /// The Apple GPU of this number.
    Metal(usize),
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The program was built without support for it.
    #[error("`device` is {0}, but this build has no Metal support")]
    NotBuilt(DeviceSpec),
    /// No system but macOS has it.
    #[error("`device` {0} exists on macOS only")]
    OnlyOnMacOs(DeviceSpec),
    /// A GPU, or what its driver and libraries need, is missing.
    #[error("`device` {spec} cannot be used: {source}")]
    Cuda {
        /// The device.
        spec: DeviceSpec,
        /// What is missing.
        source: Box<CudaError>,
    },
    /// It does not answer.
    #[error("`device` {spec} cannot be used: {reason}")]
    NoAnswer {
        /// The device.
        spec: DeviceSpec,
        /// What its driver says.
        reason: String,
    },
}

impl FromStr for DeviceSpec {
    /// What would have been accepted.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || "cpu, auto, cuda, cuda:1, metal or mps".to_owned();
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse().map_err(|_| expected())?)),
            None => (text, None),
        };
        match (kind, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("auto", None) => Ok(Self::Auto),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("metal" | "mps", index) => Ok(Self::Metal(index.unwrap_or(0))),
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Auto => f.write_str("auto"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Metal(0) => f.write_str("metal"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal(index) => write!(f, "metal:{index}"),
        }
    }
}

impl Serialize for DeviceSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The number type of matrix products on a GPU; a CPU always computes in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeType {
    /// Single precision everywhere.
    Float32,
    /// Products of operands rounded to TF32, which has 10 bits of mantissa, on NVIDIA GPUs; all else f32.
    Tf32,
    /// bfloat16 products with f32 accumulation.
    Bfloat16,
}

impl ComputeType {
    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Tf32 => "tf32",
            Self::Bfloat16 => "bfloat16",
        }
    }

    /// candle's name for it.
    pub fn dtype(self) -> DType {
        match self {
            Self::Float32 | Self::Tf32 => DType::F32,
            Self::Bfloat16 => DType::BF16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_parsed_and_come_back() {
        for (text, spec, shown) in [
            ("cpu", DeviceSpec::Cpu, "cpu"),
            ("auto", DeviceSpec::Auto, "auto"),
            ("cuda", DeviceSpec::Cuda(0), "cuda"),
            ("cuda:0", DeviceSpec::Cuda(0), "cuda"),
            ("cuda:1", DeviceSpec::Cuda(1), "cuda:1"),
            ("mps", DeviceSpec::Metal(0), "metal"),
            ("metal:2", DeviceSpec::Metal(2), "metal:2"),
        ] {
            assert_eq!(text.parse(), Ok(spec));
            assert_eq!(spec.to_string(), shown);
        }
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:0", "CUDA"] {
            assert!(wrong.parse::<DeviceSpec>().is_err(), "{wrong}");
        }
    }
}
