//! The decoder made of candle operations: for CUDA and Metal, and as the reference for the other.
//!
//! The cache grows by concatenation; nothing is written in place. Sequences of different lengths
//! share one tensor in which each ends at the right edge. The embedding has the positions, so only
//! a mask has to know where a sequence starts.

use candle_core::{DType, IndexOp as _, Tensor};

use crate::batch::{Row, ids_tensor};
use crate::error::Result;
use crate::layers::attention::causal_mask;
use crate::layers::{block, embedding, head, layer_norm};
use crate::params::Params;
use crate::parts::ModelParts;

/// Keys and values of one block, `[N, H, S, D]` each.
#[derive(Debug)]
struct KeyValues {
    k: Tensor,
    v: Tensor,
}

impl KeyValues {
    fn map(&self, change: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Self> {
        Ok(Self { k: change(&self.k)?, v: change(&self.v)? })
    }
}

/// Weights and cache.
#[derive(Debug)]
pub(super) struct AutogradDecoder<'a> {
    params: &'a Params,
    parts: ModelParts<Tensor>,
    compute: DType,
    /// Slot and length of each of the N sequences.
    held: Vec<(usize, usize)>,
    /// One for each block; none as long as nothing is held.
    cache: Vec<KeyValues>,
}

impl<'a> AutogradDecoder<'a> {
    pub(super) fn new(params: &'a Params, compute: DType) -> Result<Self> {
        let parts = params.detached()?;
        Ok(Self { params, parts, compute, held: Vec::new(), cache: Vec::new() })
    }

    /// The longest sequence, S.
    fn longest(&self) -> usize {
        self.held.iter().map(|(_, len)| *len).max().unwrap_or(0)
    }

    /// Puts `prompt` into `slots`, which are free, and its last `logits`, `[slots, V]`, at the first
    /// of them.
    pub(super) fn prefill(
        &mut self,
        slots: &[usize],
        prompt: &[u32],
        logits: &mut [f32],
    ) -> Result<()> {
        let t = prompt.len();
        let ids = ids_tensor(prompt, 1, t, self.params.device())?;
        let x = embedding::autograd(&ids, &self.parts.wte, &self.parts.wpe, 0)?;
        let mask = causal_mask(t, t, self.params.device())?;
        let (read, out) = self.advance(x, &mask, &[])?;
        let (n, s) = (slots.len(), self.longest());
        let fit = |tensor: &Tensor, len: usize| tensor.pad_with_zeros(2, s.max(t) - len, 0);
        let mut cache = Vec::new();
        for (layer, read) in read.iter().enumerate() {
            let read = read.map(|tensor| fit(tensor, t)?.repeat((n, 1, 1, 1)))?;
            cache.push(match self.cache.get(layer) {
                Some(held) => KeyValues {
                    k: Tensor::cat(&[&fit(&held.k, s)?, &read.k], 0)?,
                    v: Tensor::cat(&[&fit(&held.v, s)?, &read.v], 0)?,
                },
                None => read,
            });
        }
        self.cache = cache;
        self.held.extend(slots.iter().map(|slot| (*slot, t)));
        let v = self.params.config().vocab_size;
        logits[slots[0] * v..][..v].copy_from_slice(&out.i(0)?.to_vec1::<f32>()?);
        Ok(())
    }

    /// Appends the rows, one for each sequence, and leaves their logits at their slots, `[slots, V]`.
    pub(super) fn decode(&mut self, rows: &[Row], logits: &mut [f32]) -> Result<()> {
        let (device, s) = (self.params.device(), self.longest());
        let of_slot = |slot| rows.iter().find(|row| row.slot == slot);
        let in_order: Vec<&Row> = self.held.iter().filter_map(|(slot, _)| of_slot(*slot)).collect();
        let n = in_order.len();
        let list = |value: fn(&Row) -> u32| {
            Tensor::from_iter(in_order.iter().map(|row| value(row)), device)
        };
        let (ids, positions) = (list(|row| row.id)?, list(|row| row.position as u32)?);
        let (wte, wpe) = (&self.parts.wte, &self.parts.wpe);
        let x = (wte.index_select(&ids, 0)? + wpe.index_select(&positions, 0)?)?.unsqueeze(1)?;
        let visible = |row: &&Row, j: usize| j + row.position >= s;
        let mask: Vec<f32> = in_order
            .iter()
            .flat_map(|row| {
                (0..=s).map(move |j| if visible(row, j) { 0.0 } else { f32::NEG_INFINITY })
            })
            .collect();
        let mask = Tensor::from_vec(mask, (n, 1, 1, s + 1), device)?;
        let (grown, out) = self.advance(x, &mask, &self.cache)?;
        self.cache = grown;
        self.held.iter_mut().for_each(|(_, len)| *len += 1);
        let v = self.params.config().vocab_size;
        let out = out.flatten_all()?.to_vec1::<f32>()?;
        for ((slot, _), row) in self.held.iter().zip(out.chunks_exact(v)) {
            logits[slot * v..(slot + 1) * v].copy_from_slice(row);
        }
        Ok(())
    }

    /// Frees `slot` and the positions that only its sequence had.
    pub(super) fn free(&mut self, slot: usize) -> Result<()> {
        let before = self.longest();
        let others = (0..).zip(&self.held).filter(|(_, held)| held.0 != slot);
        let (index, held): (Vec<u32>, Vec<_>) = others.unzip();
        self.held = held;
        if index.is_empty() {
            self.cache.clear();
            return Ok(());
        }
        let index = Tensor::new(index, self.params.device())?;
        let s = self.longest();
        for cached in &mut self.cache {
            *cached = cached.map(|tensor| {
                tensor.index_select(&index, 0)?.narrow(2, before - s, s)?.contiguous()
            })?;
        }
        Ok(())
    }

    /// Runs T more positions `x` `[N, T, C]` after those in `cache`; that with them, and the logits
    /// after the last, `[N, V]`.
    fn advance(
        &self,
        mut x: Tensor,
        mask: &Tensor,
        cache: &[KeyValues],
    ) -> Result<(Vec<KeyValues>, Tensor)> {
        let mut grown = Vec::new();
        for (layer, weights) in self.parts.blocks.iter().enumerate() {
            let attention = block::attention(weights, self.params.config().n_head, layer);
            let normed = layer_norm::autograd(&x, &weights.ln_1)?;
            let [q, k, v] = attention.heads(&normed, self.compute)?;
            let (k, v) = match cache.get(layer) {
                Some(past) => (Tensor::cat(&[&past.k, &k], 2)?, Tensor::cat(&[&past.v, &v], 2)?),
                None => (k, v),
            };
            x = (x + attention.attend(&q, &k, &v, mask, None, self.compute)?)?;
            x = block::autograd_mlp(&x, weights, layer, None, self.compute)?;
            grown.push(KeyValues { k, v });
        }
        let last = x.narrow(1, x.dim(1)? - 1, 1)?.squeeze(1)?; // [N, C]
        let last = layer_norm::autograd(&last, &self.parts.ln_f)?;
        Ok((grown, head::autograd_logits(&last, &self.parts.wte, self.compute)?))
    }
}
