//! Decoding token by token with a cache of keys and values, so that a step costs one position
//! instead of the whole sequence.
//!
//! All sequences of a decoder have the same length. Here is what callers see; the two paths are
//! beside it. What is done with the logits is [`crate::generate()`]'s business.

mod composed;
mod fused;

use candle_core::DType;

use self::composed::ComposedDecoder;
use self::fused::FusedDecoder;
use crate::error::Result;
use crate::params::Params;

/// A cache over `n_seqs` sequences and the logits after their last tokens.
#[derive(Debug)]
pub struct Decoder<'a>(Path<'a>);

#[derive(Debug)]
enum Path<'a> {
    /// Out of candle ops, on any device.
    Composed(Box<ComposedDecoder<'a>>),
    /// Over the kernels, on the CPU.
    Fused(Box<FusedDecoder<'a>>),
}

impl<'a> Decoder<'a> {
    pub(crate) fn composed(params: &'a Params, compute: DType, n_seqs: usize) -> Result<Self> {
        let decoder = ComposedDecoder::new(params, compute, n_seqs)?;
        Ok(Self(Path::Composed(Box::new(decoder))))
    }

    pub(crate) fn fused(params: &'a Params, threads: usize, n_seqs: usize) -> Result<Self> {
        let decoder = FusedDecoder::new(params, threads, n_seqs)?;
        Ok(Self(Path::Fused(Box::new(decoder))))
    }

    /// Forgets everything and reads `prompt` into each sequence.
    ///
    /// # Errors
    /// [`crate::ModelError::Request`] if the prompt is empty, longer than `block_size` or has ids outside
    /// the vocabulary; [`crate::ModelError::Tensor`] if the device refuses.
    pub fn prefill(&mut self, prompt: &[u32]) -> Result<()> {
        match &mut self.0 {
            Path::Composed(decoder) => decoder.prefill(prompt),
            Path::Fused(decoder) => decoder.prefill(prompt),
        }
    }

    /// Appends one token to each sequence.
    ///
    /// # Errors
    /// [`crate::ModelError::Request`] if the cache is full or the ids do not fit; [`crate::ModelError::Tensor`]
    /// if the device refuses.
    pub fn step(&mut self, ids: &[u32]) -> Result<()> {
        match &mut self.0 {
            Path::Composed(decoder) => decoder.step(ids),
            Path::Fused(decoder) => decoder.step(ids),
        }
    }

    /// The logits after the last token of sequence `seq_idx`, `[V]`; empty before
    /// [`Decoder::prefill`] or for an index out of range.
    pub fn logits(&self, seq_idx: usize) -> &[f32] {
        match &self.0 {
            Path::Composed(decoder) => decoder.logits(seq_idx),
            Path::Fused(decoder) => decoder.logits(seq_idx),
        }
    }

    /// Tokens in the cache, the same for each sequence; at most `block_size`.
    pub fn len(&self) -> usize {
        match &self.0 {
            Path::Composed(decoder) => decoder.len(),
            Path::Fused(decoder) => decoder.len(),
        }
    }

    /// Whether nothing has been read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
