//! [`Gpt`]: a model for training and inference, on any device.
//!
//! It owns the parameters and dispatches to its [`Backend`]. The optimizer updates the parameters;
//! [`crate::hf`] reads and writes them.

mod batch_part;
mod on_gpu;

use candle_core::{DType, Device};
use tinygpt_kernels::Store;

use crate::autograd;
use crate::backend::{Backend, Grads, ParamArrays};
use crate::batch::{TokenBatch, mean};
use crate::config::ModelConfig;
use crate::cpu::data_parallel::{BatchTask, Workers};
use crate::cuda::model::CudaModel;
use crate::decode::decoder::{Decoder, useful_threads};
use crate::decode::model::Model;
use crate::decode::q8_model::QuantizedGpt;
use crate::error::{ModelError, Result};
use crate::init::init_params;
use crate::layers::dropout::{Dropout, DropoutKey};
use crate::params::Params;
use crate::summary::{Summary, mean_loss};

/// A GPT-2 model.
///
/// ```
/// use candle_core::Device;
/// use tinygpt_model::{Gpt, ModelConfig};
/// let config = ModelConfig { vocab_size: 11, block_size: 8, n_layer: 1, n_head: 2, n_embd: 8,
///     ..ModelConfig::default() };
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
    engine: Engine,
    /// The mean loss of each batch since gradients were last overwritten, with the number of its learned
    /// targets, where the host has it.
    losses: Vec<(f32, usize)>,
}

/// What computes, with its memory.
#[derive(Debug)]
enum Engine {
    Cpu(Workers),
    Cuda(Box<CudaModel>),
    Autograd,
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
        let is_on_host = params.device().is_cpu();
        let engine = if is_on_host { Engine::Cpu(Workers::default()) } else { Engine::Autograd };
        let (compute, losses) = (DType::F32, Vec::new());
        Ok(Self { params, compute, n_threads: 1, decode_threads: None, engine, losses })
    }

    /// What computes it.
    pub fn backend(&self) -> Backend {
        match self.engine {
            Engine::Cpu(_) => Backend::Cpu,
            Engine::Cuda(_) => Backend::Cuda,
            Engine::Autograd => Backend::Autograd,
        }
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
    ///
    /// A model that [is on a GPU](Gpt::move_to_gpu) has its parameters there: these are as old as the last
    /// [`Gpt::download`].
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Where the tensors of its parameters are.
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
    /// [`ModelError::Request`] unless it is from 1 to the positions there are, or on a GPU,
    /// [`ModelError::Tensor`] if the device refuses.
    pub fn cut_block_size(&mut self, block_size: usize) -> Result<()> {
        if self.backend() == Backend::Cuda {
            return Err(ModelError::request("the position table is on a GPU: cut it before"));
        }
        self.params.cut_block_size(block_size)?;
        if let Engine::Cpu(workers) = &mut self.engine {
            *workers = Workers::default();
        }
        Ok(())
    }

    /// Adds tokens to the vocabulary, up to `vocab_size`, for text with special tokens that the model does not
    /// know. Their embeddings start as the mean of all others.
    ///
    /// # Errors
    /// [`ModelError::Request`] if there are more tokens already, or the model is on a GPU,
    /// [`ModelError::Tensor`] if the device refuses.
    pub fn grow_vocab(&mut self, vocab_size: usize) -> Result<()> {
        if self.backend() == Backend::Cuda {
            return Err(ModelError::request("the token embedding is on a GPU: add tokens before"));
        }
        self.params.grow_vocab(vocab_size)?;
        if let Engine::Cpu(workers) = &mut self.engine {
            *workers = Workers::default();
        }
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
        self.engine = Engine::Autograd;
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
    /// [`ModelError::Tensor`] or [`ModelError::Cuda`] if the device refuses.
    pub fn new_grads(&self) -> Result<Grads> {
        self.zeros()
    }

    /// An array of zeros for each parameter, where the model computes.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] or [`ModelError::Cuda`] if the device refuses.
    pub fn zeros(&self) -> Result<ParamArrays> {
        match &self.engine {
            Engine::Cuda(model) => Ok(ParamArrays::Cuda(model.zeros()?)),
            Engine::Cpu(_) | Engine::Autograd => ParamArrays::zeros(&self.params),
        }
    }

    /// `values`, one array for each parameter, where the model computes.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] or [`ModelError::Cuda`] if a size is not the parameter's, or the device
    /// refuses.
    pub fn arrays(&self, values: Vec<Vec<f32>>) -> Result<ParamArrays> {
        match &self.engine {
            Engine::Cuda(model) => Ok(ParamArrays::Cuda(model.arena(&values)?)),
            Engine::Cpu(_) | Engine::Autograd => ParamArrays::from_host(values, &self.params),
        }
    }

    /// Forward and backward: writes `scale` times the gradient of the mean loss to `grads`, or adds
    /// it to what is there, and returns that loss, in nats per token. The mean is over learned targets; without
    /// any, loss and gradient are 0. The `dropout` key determines
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
        self.accumulate(batch, dropout, scale, store, grads)?;
        match &self.engine {
            Engine::Cuda(model) => model.last_loss(),
            Engine::Cpu(_) | Engine::Autograd => {
                Ok(self.losses.last().map_or(f32::NAN, |(loss, _)| *loss))
            }
        }
    }

    /// [`Gpt::backward`] for the next of several batches of a step, without the loss: a GPU need not be
    /// waited for. [`Gpt::summary`] has the loss of all of them.
    ///
    /// # Errors
    /// Those of [`Gpt::backward`].
    pub fn accumulate(
        &mut self,
        batch: &TokenBatch<'_>,
        dropout: Option<DropoutKey>,
        scale: f32,
        store: Store,
        grads: &mut Grads,
    ) -> Result<()> {
        self.check_dropout(dropout)?;
        let params = &self.params;
        let loss = match (&mut self.engine, grads) {
            (Engine::Cpu(workers), Grads::Host(grads)) => {
                let (part, threads) = (batch.whole(), self.n_threads);
                let task = BatchTask { params, threads, batch, part, dropout, scale, store };
                mean(workers.backward(task, grads)?, part.n_learned)
            }
            (Engine::Cuda(model), Grads::Cuda(grads)) => {
                let dropout = Dropout::new(params.config().dropout, dropout);
                return model.accumulate(batch, dropout, scale, store == Store::Accumulate, grads);
            }
            (Engine::Cuda(_), _) | (_, Grads::Cuda(_)) => return Err(elsewhere()),
            (_, grads) => {
                if store == Store::Overwrite {
                    grads.zero()?;
                }
                autograd::accumulate_gradients(params, self.compute, batch, dropout, scale, grads)?
            }
        };
        if store == Store::Overwrite {
            self.losses.clear();
        }
        self.losses.push((loss, batch.n_learned()));
        Ok(())
    }

    fn check_dropout(&self, key: Option<DropoutKey>) -> Result<()> {
        let dropout = self.config().dropout;
        if key.is_none() && dropout > 0.0 {
            let message = format!("dropout is {dropout}, which needs a DropoutKey");
            return Err(ModelError::request(message));
        }
        Ok(())
    }

    /// The mean loss over all learned targets since gradients were last overwritten, and the norm of `grads`. On a GPU
    /// this is the one place of a step that waits.
    ///
    /// # Errors
    /// [`ModelError::NonFinite`] naming the first parameter whose gradient is not finite, if the loss is.
    pub fn summary(&self, grads: &Grads) -> Result<Summary> {
        match (&self.engine, grads) {
            (Engine::Cuda(model), Grads::Cuda(grads)) => model.summary(grads, &self.params),
            (Engine::Cuda(_), _) | (_, Grads::Cuda(_)) => Err(elsewhere()),
            _ => {
                let loss = mean_loss(&self.losses);
                let norm =
                    if loss.is_finite() { grads.global_norm(&self.params)? } else { f64::NAN };
                Ok(Summary { loss, norm })
            }
        }
    }

    /// The mean loss over learned targets in nats per token, without dropout and without gradients.
    ///
    /// # Errors
    /// [`ModelError::Request`] if the batch does not fit the model, [`ModelError::Tensor`] if the
    /// device refuses.
    pub fn loss(&mut self, batch: &TokenBatch<'_>) -> Result<f32> {
        match &mut self.engine {
            Engine::Cpu(workers) => workers.loss(&self.params, self.n_threads, batch),
            Engine::Cuda(model) => model.loss(batch),
            Engine::Autograd => autograd::loss(&self.params, self.compute, batch),
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
        match &mut self.engine {
            Engine::Cpu(workers) => {
                workers.logits(&self.params, self.n_threads, ids, (batch_size, seq_len))
            }
            Engine::Cuda(model) => model.logits(ids, (batch_size, seq_len)),
            Engine::Autograd => {
                autograd::logits(&self.params, self.compute, ids, batch_size, seq_len)
            }
        }
    }

    /// A decoder with slots for `n_slots` sequences of `block_size` tokens each.
    ///
    /// # Errors
    /// [`ModelError::Request`] if `n_slots` is 0, [`ModelError::Tensor`] if the device refuses.
    pub fn decoder(&self, n_slots: usize) -> Result<Decoder<'_>> {
        match &self.engine {
            Engine::Cpu(_) => Decoder::cpu(&self.params, self.decode_threads(), n_slots),
            Engine::Cuda(model) => Decoder::cuda(model, n_slots),
            Engine::Autograd => Decoder::autograd(&self.params, self.compute, n_slots),
        }
    }
}

fn elsewhere() -> ModelError {
    ModelError::request("the arrays were made for another backend than the model's")
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
