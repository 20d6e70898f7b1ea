//! Decoding token by token with a cache of keys and values, so that a step costs one position
//! instead of the whole sequence.
//!
//! All sequences of a decoder have the same length; those that are finished can leave. Here is what callers see; the two paths are
//! beside it. What is done with the logits is [`crate::generate()`]'s business.

mod composed;
mod crew;
mod fused;
mod part;

use candle_core::DType;

use self::composed::ComposedDecoder;
use self::fused::FusedDecoder;
use crate::error::{ModelError, Result};
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

    /// Forgets everything and reads `prompt` into each sequence; those that left are back.
    ///
    /// # Errors
    /// [`crate::ModelError::Request`] if the prompt is empty, longer than `block_size` or has ids
    /// outside the vocabulary; [`crate::ModelError::Tensor`] if the device refuses.
    pub fn prefill(&mut self, prompt: &[u32]) -> Result<()> {
        match &mut self.0 {
            Path::Composed(decoder) => decoder.prefill(prompt),
            Path::Fused(decoder) => decoder.prefill(prompt),
        }
    }

    /// Forgets what each sequence has read and reads its text instead; all have one length.
    ///
    /// # Errors
    /// As [`Decoder::prefill`], and [`crate::ModelError::Request`] unless there is one text of the
    /// same length for each sequence.
    pub fn refill(&mut self, texts: &[&[u32]]) -> Result<()> {
        if texts.len() != self.n_seqs() || texts.iter().any(|text| text.len() != texts[0].len()) {
            let n = self.n_seqs();
            return Err(ModelError::request(format!("expected {n} texts of one length")));
        }
        match &mut self.0 {
            Path::Composed(decoder) => decoder.refill(texts),
            Path::Fused(decoder) => decoder.refill(texts),
        }
    }

    /// Appends one token to each sequence.
    ///
    /// # Errors
    /// [`crate::ModelError::Request`] if the cache is full or the ids do not fit;
    /// [`crate::ModelError::Tensor`] if the device refuses.
    pub fn step(&mut self, ids: &[u32]) -> Result<()> {
        match &mut self.0 {
            Path::Composed(decoder) => decoder.step(ids),
            Path::Fused(decoder) => decoder.step(ids),
        }
    }

    /// Lets only these sequences go on, in this order; from the next step on they are numbered by
    /// it, and there are no logits until then.
    ///
    /// # Errors
    /// [`crate::ModelError::Request`] if there is no such sequence or none is left;
    /// [`crate::ModelError::Tensor`] if the device refuses.
    pub fn keep(&mut self, seqs: &[usize]) -> Result<()> {
        if seqs.is_empty() || seqs.iter().any(|seq| *seq >= self.n_seqs()) {
            let n = self.n_seqs();
            return Err(ModelError::request(format!("cannot keep {seqs:?} of {n} sequences")));
        }
        match &mut self.0 {
            Path::Composed(decoder) => decoder.keep(seqs),
            Path::Fused(decoder) => {
                decoder.keep(seqs);
                Ok(())
            }
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

    /// Sequences that go on; none before [`Decoder::prefill`].
    pub fn n_seqs(&self) -> usize {
        match &self.0 {
            Path::Composed(decoder) => decoder.n_seqs(),
            Path::Fused(decoder) => decoder.n_seqs(),
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
