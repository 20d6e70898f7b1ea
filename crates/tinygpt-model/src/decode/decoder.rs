//! Decoding token by token with a KV cache, so that a step costs one position instead of the whole
//! sequence.
//!
//! A decoder has slots, each of which holds one sequence or none. Sequences have their own lengths
//! and can come and go at any step; what is in one slot changes nothing in another. This file has
//! the interface; `cpu_decoder.rs`, `cuda/decoder.rs` and `autograd_decoder.rs` implement it. [`crate::Engine`]
//! samples from the logits.

use std::sync::Arc;

use candle_core::DType;

use super::autograd_decoder::AutogradDecoder;
use super::cpu_decoder::CpuDecoder;
use crate::batch::{Row, check_ids};
use crate::config::ModelConfig;
use crate::cuda::decoder::CudaDecoder;
use crate::cuda::model::CudaModel;
use crate::decode::q8_params::QuantizedParts;
use crate::error::{ModelError, Result};
use crate::params::Params;

/// Slots for sequences, a cache for each, and the logits after their last tokens.
#[derive(Debug)]
pub struct Decoder<'a> {
    path: Path<'a>,
    config: &'a ModelConfig,
    /// Tokens in the cache of each slot; 0 where it is free.
    lens: Vec<usize>,
    /// `[slots, V]`.
    logits: Vec<f32>,
}

#[derive(Debug)]
enum Path<'a> {
    /// candle operations, on any device.
    Autograd(Box<AutogradDecoder<'a>>),
    /// The kernels, on the CPU.
    Cpu(Box<CpuDecoder<'a>>),
    /// The kernels on an NVIDIA GPU.
    Cuda(Box<CudaDecoder<'a>>),
}

/// Another thread pays off as long as each still reads about this many bytes times the number of
/// threads.
const BYTES_PER_SQUARED_THREAD: usize = 1_250_000;

/// How many of `allowed` threads to decode with when each token reads `n_bytes` of weights.
///
/// With n threads a token takes `a · n_bytes / n` to read and `b · n` for the threads to wait for each
/// other, which is least at `n = sqrt(n_bytes · a / b)`. The ratio was fitted on 16 cores, where 8
/// threads were the fastest for 89 MB of f32 weights, and 8 were faster than 16 for 24 MB of 8-bit ones.
pub(crate) fn useful_threads(n_bytes: usize, allowed: usize) -> usize {
    (n_bytes / BYTES_PER_SQUARED_THREAD).isqrt().min(allowed).max(1)
}

impl<'a> Decoder<'a> {
    pub(crate) fn autograd(params: &'a Params, compute: DType, n_slots: usize) -> Result<Self> {
        let decoder = AutogradDecoder::new(params, compute)?;
        Self::new(Path::Autograd(Box::new(decoder)), params.config(), n_slots)
    }

    pub(crate) fn cpu(params: &'a Params, threads: usize, n_slots: usize) -> Result<Self> {
        let decoder = CpuDecoder::of_params(params, threads, n_slots)?;
        Self::new(Path::Cpu(Box::new(decoder)), params.config(), n_slots)
    }

    pub(crate) fn cuda(model: &'a CudaModel, n_slots: usize) -> Result<Self> {
        let decoder = CudaDecoder::new(model, n_slots.max(1))?;
        Self::new(Path::Cuda(Box::new(decoder)), &model.config, n_slots)
    }

    pub(crate) fn quantized(
        config: &'a ModelConfig,
        parts: &'a Arc<QuantizedParts>,
        threads: usize,
        n_slots: usize,
    ) -> Result<Self> {
        let decoder = CpuDecoder::of_bytes(config, parts, threads, n_slots)?;
        Self::new(Path::Cpu(Box::new(decoder)), config, n_slots)
    }

    fn new(path: Path<'a>, config: &'a ModelConfig, n_slots: usize) -> Result<Self> {
        if n_slots == 0 {
            return Err(ModelError::request("a decoder needs at least one slot"));
        }
        let logits = vec![0.0; n_slots * config.vocab_size];
        Ok(Self { path, config, lens: vec![0; n_slots], logits })
    }

    /// How many sequences it can hold.
    pub fn n_slots(&self) -> usize {
        self.lens.len()
    }

    /// Tokens in the cache of a slot, at most `block_size`; 0 if it is free.
    pub fn len(&self, slot: usize) -> usize {
        self.lens.get(slot).copied().unwrap_or(0)
    }

    /// Whether all slots are free.
    pub fn is_empty(&self) -> bool {
        self.lens.iter().all(|len| *len == 0)
    }

    /// The logits after the last token in `slot`, `[V]`; empty where it is free.
    pub fn logits(&self, slot: usize) -> &[f32] {
        let v = self.config.vocab_size;
        if self.len(slot) == 0 { &[] } else { &self.logits[slot * v..(slot + 1) * v] }
    }

    /// Fills the KV caches of these slots with `prompt`, in one pass for all; what they held is
    /// discarded.
    ///
    /// # Errors
    /// [`ModelError::Request`] if the prompt is empty, longer than `block_size` or has ids outside
    /// the vocabulary, or if there is no such slot; [`ModelError::Tensor`] if the device refuses.
    pub fn prefill(&mut self, slots: &[usize], prompt: &[u32]) -> Result<()> {
        self.prefill_after(0, slots, prompt)
    }

    /// As [`Self::prefill`], where the cache of the first slot has the first `n_kept` tokens of `prompt`
    /// already. On a GPU they are computed again.
    pub(crate) fn prefill_after(
        &mut self,
        n_kept: usize,
        slots: &[usize],
        prompt: &[u32],
    ) -> Result<()> {
        check_ids(self.config, prompt, 1, prompt.len())?;
        let n = self.n_slots();
        let Some((&first, others)) = slots.split_first().filter(|_| slots.iter().all(|s| *s < n))
        else {
            return Err(ModelError::request(format!("cannot prefill {slots:?} of {n} slots")));
        };
        slots.iter().try_for_each(|slot| self.free(*slot))?;
        match &mut self.path {
            Path::Autograd(decoder) => decoder.prefill(slots, prompt, &mut self.logits)?,
            Path::Cpu(decoder) => decoder.prefill(slots, (n_kept, prompt), &mut self.logits)?,
            Path::Cuda(decoder) => decoder.prefill(slots, prompt, &mut self.logits)?,
        }
        let v = self.config.vocab_size;
        for &slot in others {
            self.logits.copy_within(first * v..(first + 1) * v, slot * v);
        }
        slots.iter().for_each(|slot| self.lens[*slot] = prompt.len());
        Ok(())
    }

    /// Appends one token to each sequence: `(slot, id)` for every slot that is not free, in order.
    ///
    /// # Errors
    /// [`ModelError::Request`] if the slots are others than those, if one is full, or an id is
    /// outside the vocabulary; [`ModelError::Tensor`] if the device refuses.
    pub fn decode(&mut self, tokens: &[(usize, u32)]) -> Result<()> {
        let held = (0..self.n_slots()).filter(|slot| self.lens[*slot] > 0);
        if tokens.is_empty() || !held.eq(tokens.iter().map(|(slot, _)| *slot)) {
            let message = "decoding needs one token for each slot that holds a sequence, in order";
            return Err(ModelError::request(message));
        }
        let ids: Vec<u32> = tokens.iter().map(|(_, id)| *id).collect();
        check_ids(self.config, &ids, ids.len(), 1)?;
        let block_size = self.config.block_size;
        if let Some((slot, _)) = tokens.iter().find(|(slot, _)| self.lens[*slot] >= block_size) {
            return Err(ModelError::request(format!(
                "slot {slot} is full with {block_size} tokens: prefill the end of its text again"
            )));
        }
        let row = |&(slot, id)| Row { slot, id, position: self.lens[slot] };
        let rows: Vec<Row> = tokens.iter().map(row).collect();
        match &mut self.path {
            Path::Autograd(decoder) => decoder.decode(&rows, &mut self.logits)?,
            Path::Cpu(decoder) => decoder.decode(rows, &mut self.logits)?,
            Path::Cuda(decoder) => decoder.decode(&rows, &mut self.logits)?,
        }
        tokens.iter().for_each(|(slot, _)| self.lens[*slot] += 1);
        Ok(())
    }

    /// Frees `slot`, if it holds a sequence.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] if the device refuses.
    pub fn free(&mut self, slot: usize) -> Result<()> {
        let is_held = self.len(slot) > 0;
        if let (Path::Autograd(decoder), true) = (&mut self.path, is_held) {
            decoder.free(slot)?;
        }
        if let Some(len) = self.lens.get_mut(slot) {
            *len = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_threads_decode_as_help_a_model_of_this_size() {
        for (n_bytes, allowed, expected) in [
            // 22 M parameters of f32, for which 8 of 16 cores were best.
            (89_200_000, 16, 8),
            (89_200_000, 64, 8),
            (89_200_000, 2, 2),
            // The same in 8 bits, where 16 were slower than 8.
            (23_700_000, 16, 4),
            // GPT-2 124M.
            (497_000_000, 64, 19),
            // So small that one thread is done before another has woken.
            (4_000_000, 16, 1),
            (0, 16, 1),
            (usize::MAX, 1, 1),
        ] {
            assert_eq!(useful_threads(n_bytes, allowed), expected, "{n_bytes} {allowed}");
        }
    }
}
