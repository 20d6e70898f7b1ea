//! [`Gpt`]: a model for training and inference, on any device.
//!
//! It owns the parameters and dispatches to its [`Backend`]. The optimizer updates the parameters;
//! [`crate::hf`] reads and writes them.

use candle_core::{DType, Device};
use tinygpt_kernels::Store;

use crate::autograd;
use crate::backend::{Backend, Grads};
use crate::batch::TokenBatch;
use crate::config::ModelConfig;
use crate::cpu::data_parallel::Workers;
use crate::decode::decoder::{Decoder, useful_threads};
use crate::decode::model::Model;
use crate::decode::q8_model::QuantizedGpt;
use crate::error::{ModelError, Result};
use crate::init::init_params;
use crate::layers::dropout::DropoutKey;
use crate::params::Params;

/// A GPT-2 model.
///
/// ```
/// use candle_core::Device;
/// use tinygpt_model::{Gpt, ModelConfig};
/// let config = ModelConfig { vocab_size: 11, block_size: 8, n_layer: 1, n_head: 2, n_embd: 8,
///     dropout: 0.0, bias: true };
/// let mut gpt = Gpt::init(config, 1337, &Device::Cpu)?;
/// assert_eq!(gpt.logits(&[1, 2, 3], 1, 3)?.len(), 3 * 11);
/// # Ok::<(), tinygpt_model::ModelError>(())
/// ```
#[derive(Debug)]
pub struct Gpt {
    params: Params,
    compute: DType,
    n_threads: usize,
    /// Exactly this many threads decode; `None` takes as many of `n_threads` as help.
    decode_threads: Option<usize>,
    /// The memory of [`Backend::Cpu`]; unused by others.
    workers: Workers,
    backend: Backend,
}

impl Gpt {
    /// A model with GPT-2's initial weights, a function of `config` and `seed` alone.
    ///
    /// # Errors
    /// [`ModelError::Config`] for an invalid configuration, [`ModelError::Tensor`] if the device
    /// refuses.
    pub fn init(config: ModelConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::from_params(init_params(&config, seed, device)?)
    }

    /// A model with given parameters.
    ///
    /// # Errors
    /// [`ModelError::Config`] if their configuration is invalid.
    pub fn from_params(params: Params) -> Result<Self> {
        params.config().validate()?;
        let backend = Backend::of(params.device());
        let workers = Workers::default();
        let compute = DType::F32;
        Ok(Self { params, compute, n_threads: 1, decode_threads: None, workers, backend })
    }

    /// A model with the rounded weights of an 8-bit one as f32, for what only a [`Gpt`] can do, such
    /// as a loss.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if there is no memory for it.
    pub fn from_quantized(rounded: &QuantizedGpt) -> Result<Self> {
        let params = Params::from_values(rounded.config(), rounded.values(), &Device::Cpu)?;
        let mut gpt = Self::from_params(params)?;
        gpt.set_threads(rounded.threads());
        Ok(gpt)
    }

    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        self.params.config()
    }

    /// Its parameters; they can be written in place through [`crate::host`] or [`Params::set`].
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        self.params.device()
    }

    /// Changes the probability of dropping in training: it belongs to a run, not to the weights.
    ///
    /// # Errors
    /// [`ModelError::Config`] unless it is at least 0 and below 1.
    pub fn set_dropout(&mut self, dropout: f32) -> Result<()> {
        self.params.set_dropout(dropout)
    }

    /// Keeps the first `block_size` positions of the table only, for training with less memory: a
    /// sequence that fits into them has the logits that it had.
    ///
    /// # Errors
    /// [`ModelError::Request`] unless it is from 1 to the positions there are,
    /// [`ModelError::Tensor`] if the device refuses.
    pub fn cut_block_size(&mut self, block_size: usize) -> Result<()> {
        self.params.cut_block_size(block_size)?;
        self.workers = Workers::default();
        Ok(())
    }

    /// How many threads the CPU path may use; at least one. Nothing on other devices.
    ///
    /// Training uses all of them, decoding as many as help, see [`Gpt::set_decode_threads`].
    pub fn set_threads(&mut self, n_threads: usize) {
        self.n_threads = n_threads.max(1);
    }

    /// Decodes with exactly this many threads on the CPU path, also if fewer would be faster.
    pub fn set_decode_threads(&mut self, n_threads: usize) {
        self.decode_threads = Some(n_threads.max(1));
    }

    /// How many threads the CPU path uses.
    pub fn threads(&self) -> usize {
        self.n_threads
    }

    /// Computes with [`Backend::Autograd`] on the CPU too: slow, the reference for the CPU backend.
    pub fn use_autograd(&mut self) {
        self.backend = Backend::Autograd;
    }

    /// Rounds the operands of matrix products to bf16, or back to f32.
    ///
    /// # Errors
    /// [`ModelError::Request`] for another dtype, or for bf16 on the CPU, where f32 is faster.
    pub fn set_compute_dtype(&mut self, dtype: DType) -> Result<()> {
        if !Backend::computes_in(dtype, self.device()) {
            return Err(ModelError::request(format!(
                "cannot compute in {dtype:?} here, expected f32, or bf16 on CUDA or Metal"
            )));
        }
        self.compute = dtype;
        Ok(())
    }

    /// Zeroed gradients that fit this model.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the device refuses.
    pub fn new_grads(&self) -> Result<Grads> {
        Grads::zeros(&self.params)
    }

    /// Forward and backward: writes `scale` times the gradient of the mean loss to `grads`, or adds
    /// it to what is there, and returns that loss, in nats per token. The `dropout` key determines
    /// what is dropped; only a model whose `dropout` is 0 does without.
    ///
    /// Overwriting saves a step the pass that would clear the gradients first.
    ///
    /// # Errors
    /// [`ModelError::Request`] if the batch does not fit the model or the `dropout` key is missing,
    /// [`ModelError::MissingGradient`] if a parameter took no part, [`ModelError::Tensor`] if the device refuses.
    pub fn backward(
        &mut self,
        batch: &TokenBatch<'_>,
        dropout: Option<DropoutKey>,
        scale: f32,
        store: Store,
        grads: &mut Grads,
    ) -> Result<f32> {
        if dropout.is_none() && self.config().dropout > 0.0 {
            return Err(ModelError::request(format!(
                "dropout is {}, which needs a DropoutKey",
                self.config().dropout
            )));
        }
        let params = &self.params;
        match (self.backend, grads) {
            (Backend::Cpu, Grads::Host(grads)) => {
                let threads = self.n_threads;
                self.workers.backward(params, threads, batch, dropout, scale, store, grads)
            }
            (_, grads) => {
                if store == Store::Overwrite {
                    grads.zero()?;
                }
                autograd::accumulate_gradients(params, self.compute, batch, dropout, scale, grads)
            }
        }
    }

    /// The mean loss in nats per token, without dropout and without gradients.
    ///
    /// # Errors
    /// [`ModelError::Request`] if the batch does not fit the model, [`ModelError::Tensor`] if the
    /// device refuses.
    pub fn loss(&mut self, batch: &TokenBatch<'_>) -> Result<f32> {
        match self.backend {
            Backend::Cpu => self.workers.loss(&self.params, self.n_threads, batch),
            Backend::Autograd => autograd::loss(&self.params, self.compute, batch),
        }
    }

    /// The logits at every position.
    ///
    /// # Shapes
    /// `ids` `[B, T]` → `[B, T, V]`.
    ///
    /// # Errors
    /// [`ModelError::Request`] if the ids do not fit the model, [`ModelError::Tensor`] if the
    /// device refuses.
    pub fn logits(&mut self, ids: &[u32], batch_size: usize, seq_len: usize) -> Result<Vec<f32>> {
        match self.backend {
            Backend::Cpu => {
                self.workers.logits(&self.params, self.n_threads, ids, (batch_size, seq_len))
            }
            Backend::Autograd => {
                autograd::logits(&self.params, self.compute, ids, batch_size, seq_len)
            }
        }
    }

    /// A decoder with slots for `n_slots` sequences of `block_size` tokens each.
    ///
    /// # Errors
    /// [`ModelError::Request`] if `n_slots` is 0, [`ModelError::Tensor`] if the device refuses.
    pub fn decoder(&self, n_slots: usize) -> Result<Decoder<'_>> {
        match self.backend {
            Backend::Cpu => Decoder::cpu(&self.params, self.decode_threads(), n_slots),
            Backend::Autograd => Decoder::autograd(&self.params, self.compute, n_slots),
        }
    }
}

impl Model for Gpt {
    fn config(&self) -> &ModelConfig {
        self.config()
    }

    fn decoder(&self, n_slots: usize) -> Result<Decoder<'_>> {
        self.decoder(n_slots)
    }

    fn decode_threads(&self) -> usize {
        let useful = || useful_threads(4 * self.config().num_decoded(), self.n_threads);
        self.decode_threads.unwrap_or_else(useful)
    }
}
