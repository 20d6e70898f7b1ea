//! Token ids as the model takes them: `[B, T]`, row-major, checked against the model's shape.

use candle_core::{Device, Tensor};

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};

/// Inputs and the tokens that follow them, both `[B, T]` in row-major order.
#[derive(Clone, Copy, Debug)]
pub struct TokenBatch<'a> {
    /// `[B, T]`.
    pub inputs: &'a [u32],
    /// `[B, T]`, `targets[b, t]` follows `inputs[b, t]`.
    pub targets: &'a [u32],
    /// B.
    pub batch_size: usize,
    /// T, at most `block_size`.
    pub seq_len: usize,
}

/// Which sequences of a larger batch a [`TokenBatch`] holds, if others are computed elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Sequences of the larger batch before these.
    pub first: usize,
    /// All sequences of the larger batch.
    pub of: usize,
}

/// One more position of one sequence that is decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) slot: usize,
    pub(crate) id: u32,
    /// Tokens in the cache before.
    pub(crate) position: usize,
}

impl TokenBatch<'_> {
    /// The part that is the whole batch.
    pub(crate) fn whole(&self) -> Part {
        Part { first: 0, of: self.batch_size }
    }

    /// Checks lengths and ids.
    ///
    /// # Errors
    /// [`ModelError::Request`] saying what does not fit.
    pub fn validate(&self, config: &ModelConfig) -> Result<()> {
        check_ids(config, self.inputs, self.batch_size, self.seq_len)?;
        check_ids(config, self.targets, self.batch_size, self.seq_len)
    }
}

/// Checks that `ids` are `[B, T]`, that `T` fits the model and that each id has a row.
pub(crate) fn check_ids(
    config: &ModelConfig,
    ids: &[u32],
    batch_size: usize,
    seq_len: usize,
) -> Result<()> {
    if batch_size == 0 || seq_len == 0 || seq_len > config.block_size {
        return Err(ModelError::request(format!(
            "a batch of {batch_size} x {seq_len} tokens was given, expected at least 1 x 1 and at \
             most block_size = {} tokens in a sequence",
            config.block_size
        )));
    }
    if batch_size.checked_mul(seq_len) != Some(ids.len()) {
        return Err(ModelError::request(format!(
            "{} token ids were given for a batch of {batch_size} x {seq_len}",
            ids.len()
        )));
    }
    match ids.iter().find(|id| **id as usize >= config.vocab_size) {
        None => Ok(()),
        Some(id) => Err(ModelError::request(format!(
            "token id {id} is outside the vocabulary of {} rows: the data was prepared with \
             another tokenizer than the model's",
            config.vocab_size
        ))),
    }
}

/// The ids as a `[B, T]` tensor.
pub(crate) fn ids_tensor(
    ids: &[u32],
    batch_size: usize,
    seq_len: usize,
    device: &Device,
) -> candle_core::Result<Tensor> {
    Tensor::from_slice(ids, (batch_size, seq_len), device)
}
