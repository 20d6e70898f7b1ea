//! GPT-2 on candle, for training and inference.
//!
#![doc = include_str!("../README.md")]

mod autograd;
mod backend;
mod batch;
mod compute_device;
mod config;
mod cpu;
mod cuda;
mod decode;
mod device;
mod error;
mod format;
mod gpt;
mod gradient_sink;
pub mod host;
mod init;
mod layers;
mod params;
mod parts;
mod recompute;
mod rng;
mod sampling;
mod summary;

pub use candle_core::{DType, Device};

pub use backend::{Backend, Grads, ParamArrays};
pub use batch::{Part, TokenBatch};
pub use compute_device::ComputeDevice;
pub use config::ModelConfig;
pub use cpu::memory;
pub use cuda::arena::Arena;
pub use cuda::model::AdamWStepNumbers;
pub use decode::decoder::Decoder;
pub use decode::engine::{Engine, Event, OnEvent, SequenceId, StopReason};
pub use decode::generate::{
    Generated, Stop, generate, generate_samples, generate_with, max_batch_size,
};
pub use decode::model::Model;
pub use decode::q8_model::QuantizedGpt;
pub use decode::score::{ScoreParams, score};
pub use device::{ComputeType, DeviceError, DeviceSpec};
pub use error::{ErrorKind, ModelError, Result};
pub use format::{gguf, hf};
pub use gpt::Gpt;
pub use gradient_sink::GradientSink;
pub use init::init_params;
pub use layers::dropout::DropoutKey;
pub use params::Params;
pub use parts::{Affine, BlockParts, Init, ModelParts, ParamKind, ParamSpec, param_specs};
pub use recompute::Recompute;
pub use sampling::{Logprobs, ParamRange, Sampler, SamplingParams};
pub use summary::{Summary, mean_loss};
pub use tinygpt_cuda::kernels::optimizer::AdamWNumbers;
pub use tinygpt_cuda::{KernelTime, Work};
pub use tinygpt_kernels::{IGNORED_TARGET, Store};
