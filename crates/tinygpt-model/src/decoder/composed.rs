//! The decoder out of candle ops: for CUDA and Metal, and as the oracle of the other one.
//!
//! The cache grows by concatenation; nothing is written in place.

use candle_core::{DType, Tensor};

use crate::batch::{check_ids, ids_tensor};
use crate::error::{ModelError, Result};
use crate::layers::attention::causal_mask;
use crate::layers::{block, embedding, head, layer_norm};
use crate::params::{ModelParts, Params};

/// Keys and values so far, `[B, H, S, D]` each.
#[derive(Debug)]
struct KeyValues {
    k: Tensor,
    v: Tensor,
}

/// Weights, cache and the logits after the last tokens.
#[derive(Debug)]
pub(super) struct ComposedDecoder<'a> {
    params: &'a Params,
    parts: ModelParts<Tensor>,
    compute: DType,
    /// Sequences that there is room for.
    room: usize,
    /// Sequences that go on.
    n_seqs: usize,
    n_cached: usize,
    cache: Vec<KeyValues>,
    logits: Vec<f32>,
}

impl<'a> ComposedDecoder<'a> {
    pub(super) fn new(params: &'a Params, compute: DType, n_seqs: usize) -> Result<Self> {
        if n_seqs == 0 {
            return Err(ModelError::request("a decoder needs at least one sequence"));
        }
        let parts = params.detached()?;
        let (cache, logits) = (Vec::new(), Vec::new());
        Ok(Self { params, parts, compute, room: n_seqs, n_seqs: 0, n_cached: 0, cache, logits })
    }

    pub(super) fn prefill(&mut self, prompt: &[u32]) -> Result<()> {
        check_ids(self.params.config(), prompt, 1, prompt.len())?;
        self.n_seqs = self.room;
        self.refill(&vec![prompt; self.room])
    }

    pub(super) fn refill(&mut self, texts: &[&[u32]]) -> Result<()> {
        let t = texts.first().map_or(0, |text| text.len());
        let ids = texts.concat();
        check_ids(self.params.config(), &ids, texts.len(), t)?;
        self.cache.clear();
        self.n_cached = 0;
        self.advance(&ids, t)
    }

    pub(super) fn keep(&mut self, seqs: &[usize]) -> Result<()> {
        let index: Vec<u32> = seqs.iter().map(|seq| *seq as u32).collect();
        let index = Tensor::new(index, self.params.device())?;
        for KeyValues { k, v } in &mut self.cache {
            *k = k.index_select(&index, 0)?;
            *v = v.index_select(&index, 0)?;
        }
        self.n_seqs = seqs.len();
        self.logits.clear();
        Ok(())
    }

    pub(super) fn n_seqs(&self) -> usize {
        self.n_seqs
    }

    pub(super) fn step(&mut self, ids: &[u32]) -> Result<()> {
        let config = self.params.config();
        check_ids(config, ids, self.n_seqs, 1)?;
        if self.n_cached == 0 || self.n_cached >= config.block_size {
            return Err(ModelError::request(format!(
                "the cache holds {} of {} tokens: call prefill first",
                self.n_cached, config.block_size
            )));
        }
        self.advance(ids, 1)
    }

    pub(super) fn logits(&self, seq_idx: usize) -> &[f32] {
        let v = self.params.config().vocab_size;
        self.logits.get(seq_idx * v..(seq_idx + 1) * v).unwrap_or(&[])
    }

    pub(super) fn len(&self) -> usize {
        self.n_cached
    }

    /// Runs `t` more positions of each sequence; `ids` `[n_seqs, t]`.
    fn advance(&mut self, ids: &[u32], t: usize) -> Result<()> {
        let config = self.params.config();
        let device = self.params.device();
        let mask = causal_mask(t, self.n_cached + t, device)?;
        let ids = ids_tensor(ids, self.n_seqs, t, device)?;
        let mut x = embedding::composed(&ids, &self.parts.wte, &self.parts.wpe, self.n_cached)?;
        for (layer, weights) in self.parts.blocks.iter().enumerate() {
            let attention = block::attention(weights, config.n_head, layer);
            let normed = layer_norm::composed(&x, &weights.ln_1)?;
            let [q, k, v] = attention.heads(&normed, self.compute)?;
            let (k, v) = match self.cache.get(layer) {
                Some(past) => (Tensor::cat(&[&past.k, &k], 2)?, Tensor::cat(&[&past.v, &v], 2)?),
                None => (k, v),
            };
            x = (x + attention.attend(&q, &k, &v, &mask, None, self.compute)?)?;
            x = block::composed_mlp(&x, weights, layer, None, self.compute)?;
            let grown = KeyValues { k, v };
            match self.cache.get_mut(layer) {
                Some(past) => *past = grown,
                None => self.cache.push(grown),
            }
        }
        let last = x.narrow(1, t - 1, 1)?.squeeze(1)?; // [B, C]
        let last = layer_norm::composed(&last, &self.parts.ln_f)?;
        let logits = head::composed_logits(&last, &self.parts.wte, self.compute)?; // [B, V]
        self.logits = logits.flatten_all()?.to_vec1()?;
        self.n_cached += t;
        Ok(())
    }
}
