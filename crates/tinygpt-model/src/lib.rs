//! GPT-2 on candle: parameters, layers, generation, and Hugging Face directories.
//!
//! The legend of every shape in this workspace: **B** batch, **T** time, **C** = `n_embd`,
//! **H** heads, **D** = C / H, **V** vocabulary, **L** layers.
//!
//! Two paths lead through the same parameters. On the CPU each layer's forward and backward are
//! written by hand over `tinygpt-kernels`; on CUDA and Metal the same layers are composed of
//! differentiable candle ops. The composed path runs on the CPU too and is the other's oracle.
//!
//! This crate reads no dataset, no clock and no flags, and prints nothing.
//!
//! ```
//! use candle_core::Device;
//! use tinygpt_model::{Store, Gpt, ModelConfig, TokenBatch};
//!
//! let config = ModelConfig { vocab_size: 11, block_size: 8, n_layer: 1, n_head: 2, n_embd: 8,
//!     dropout: 0.0, bias: true };
//! let mut gpt = Gpt::init(config, 1337, &Device::Cpu)?;
//! let batch = TokenBatch { inputs: &[1, 2, 3], targets: &[2, 3, 4], batch_size: 1, seq_len: 3 };
//! let mut grads = gpt.new_grads()?;
//! let loss = gpt.backward(&batch, None, 1.0, Store::Overwrite, &mut grads)?;
//! assert!((loss - 11f32.ln()).abs() < 0.1);
//! # Ok::<(), tinygpt_model::ModelError>(())
//! ```

mod autograd;
mod backend;
mod batch;
mod config;
mod cpu;
mod decode;
mod error;
mod format;
mod gpt;
mod init;
mod layers;
mod params;
mod rng;
mod sampling;

pub use backend::{Backend, Grads, ParamArrays};
pub use batch::TokenBatch;
pub use config::ModelConfig;
pub use cpu::{host, memory};
pub use decode::decoder::Decoder;
pub use decode::engine::{Engine, Event, OnEvent, StopReason, Ticket};
pub use decode::generate::{Generated, Stop, generate, most_at_once, stream};
pub use decode::model::Model;
pub use decode::q8_model::QuantizedGpt;
pub use error::{ErrorKind, ModelError, Result};
pub use format::{gguf, hf};
pub use gpt::Gpt;
pub use init::init_params;
pub use layers::dropout::DropoutKey;
pub use params::{
    Affine, BlockParts, Init, ModelParts, ParamKind, ParamSpec, Params, param_specs,
};
pub use sampling::{Logprobs, ParamRange, Sampler, SamplingParams};
pub use tinygpt_kernels::Store;
