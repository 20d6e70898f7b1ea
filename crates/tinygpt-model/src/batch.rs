//! Token ids as the model takes them: `[B, T]`, row-major, checked against the model's shape.

use candle_core::{Device, Tensor};
use tinygpt_kernels::{IGNORED_TARGET, n_learned};

use crate::config::ModelConfig;
use crate::error::{ModelError, Result};

/// Inputs and the tokens that follow them, both `[B, T]` in row-major order.
#[derive(Clone, Copy, Debug)]
pub struct TokenBatch<'a> {
    /// `[B, T]`.
    pub inputs: &'a [u32],
    /// `[B, T]`, `targets[b, t]` follows `inputs[b, t]`, or is [`IGNORED_TARGET`] if it is not learned.
    pub targets: &'a [u32],
    /// `[B, T]`: the position in its sequence where the document of each token starts, if several
    /// documents share a sequence and attention is to stay inside each; `None` makes each sequence one
    /// document.
    pub document_starts: Option<&'a [u32]>,
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
    /// All learned targets of the larger batch: its loss is their mean.
    pub n_learned: usize,
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
        Part { first: 0, of: self.batch_size, n_learned: self.n_learned() }
    }

    /// How many targets are learned.
    pub fn n_learned(&self) -> usize {
        n_learned(self.targets)
    }

    /// For each token, the position behind its document, if there are `document_starts`.
    pub(crate) fn document_ends(&self) -> Option<Vec<u32>> {
        let starts = self.document_starts?;
        let mut ends = vec![self.seq_len as u32; starts.len()];
        for (sequence, ends) in starts.chunks(self.seq_len).zip(ends.chunks_mut(self.seq_len)) {
            for at in (1..sequence.len()).rev() {
                let is_first = sequence[at] as usize == at;
                ends[at - 1] = if is_first { at as u32 } else { ends[at] };
            }
        }
        Some(ends)
    }

    /// Checks lengths and ids.
    ///
    /// # Errors
    /// [`ModelError::Request`] saying what does not fit.
    pub fn validate(&self, config: &ModelConfig) -> Result<()> {
        check_ids(config, self.inputs, self.batch_size, self.seq_len)?;
        check_lengths(config, self.targets, self.batch_size, self.seq_len)?;
        if let Some(starts) = self.document_starts {
            check_starts(starts, self.inputs.len(), self.seq_len)?;
        }
        let learned = self.targets.iter().filter(|id| **id != IGNORED_TARGET);
        check_range(config, learned)
    }
}

/// `total` divided by the learned targets of a batch: 0 if there are none, as the total is 0.
pub(crate) fn mean(total: f64, n_learned: usize) -> f32 {
    (total / n_learned.max(1) as f64) as f32
}

/// The factor of the gradient of the summed losses that makes it `scale` times that of their mean.
pub(crate) fn scale_of_sum(scale: f32, n_learned: usize) -> f32 {
    scale / n_learned.max(1) as f32
}

/// Checks that `ids` are `[B, T]`, that `T` fits the model and that each id has a row.
pub(crate) fn check_ids(
    config: &ModelConfig,
    ids: &[u32],
    batch_size: usize,
    seq_len: usize,
) -> Result<()> {
    check_lengths(config, ids, batch_size, seq_len)?;
    check_range(config, ids.iter())
}

fn check_lengths(
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
    Ok(())
}

/// Checks that each document starts at one position that is not behind any of its tokens.
fn check_starts(starts: &[u32], n_tokens: usize, seq_len: usize) -> Result<()> {
    let is_right = |sequence: &[u32]| {
        let mut first = 0;
        (0..).zip(sequence).all(|(position, start)| {
            if *start == position {
                first = position;
            }
            *start == first
        })
    };
    if starts.len() == n_tokens && starts.chunks(seq_len).all(is_right) {
        return Ok(());
    }
    Err(ModelError::request(format!(
        "document_starts has {} positions that do not fit {n_tokens} tokens, expected for each token the \
         position where its document starts, which is 0 for the first of each sequence of {seq_len}",
        starts.len()
    )))
}

fn check_range<'a>(config: &ModelConfig, mut ids: impl Iterator<Item = &'a u32>) -> Result<()> {
    match ids.find(|id| **id as usize >= config.vocab_size) {
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
