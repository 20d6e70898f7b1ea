//! Decoding on the CPU, over the kernels: weights are read where they lie, keys and values are
//! written into the cache in place, and nothing is allocated per token.
//!
//! The prompt is one pass of `fused.rs` whatever its length and however many sequences continue
//! it: the others get a copy of its keys and values. After that each step is one row per sequence;
//! one row goes through [`decode`], which reads each weight once; several share a matrix product.

use std::fmt;

use tinygpt_kernels::{bias, decode, embedding, gelu, layer_norm, residual};

use crate::batch::check_ids;
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::fused::Pass;
use crate::host::HostSlice;
use crate::layers::{head, linear};
use crate::params::{Affine, ModelParts, Params};
use crate::workspace::{Dims, Workspace};

/// See [`crate::Decoder`].
pub(super) struct FusedDecoder<'a> {
    params: &'a Params,
    weights: ModelParts<HostSlice<'a>>,
    threads: usize,
    n_seqs: usize,
    n_cached: usize,
    /// One for each block.
    cache: Vec<KeyValues>,
    /// The prompt's pass; its memory is freed with the decoder.
    workspace: Workspace,
    rows: Rows,
    /// `[n_seqs, V]`.
    logits: Vec<f32>,
}

impl fmt::Debug for FusedDecoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FusedDecoder")
            .field("n_seqs", &self.n_seqs)
            .field("n_cached", &self.n_cached)
            .finish_non_exhaustive()
    }
}

/// Keys and values of one block, `[n_seqs, H, block_size, D]` each: what one head looks at lies
/// together.
struct KeyValues {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// The activations of one position in each sequence.
struct Rows {
    /// Residual stream, `[n_seqs, C]`.
    x: Vec<f32>,
    /// Where the stream goes next, `[n_seqs, C]`.
    next: Vec<f32>,
    normed: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
    /// `[n_seqs, 3C]`.
    qkv: Vec<f32>,
    att: Vec<f32>,
    /// `[block_size]`.
    scores: Vec<f32>,
    /// `[n_seqs, 4C]`.
    hidden: Vec<f32>,
    /// `[n_seqs, 4C]`.
    active: Vec<f32>,
    branch: Vec<f32>,
    /// Stands in for absent biases, `[4C]`.
    no_bias: Vec<f32>,
}

impl Rows {
    fn new(n: usize, c: usize, block_size: usize) -> Self {
        let zeros = |len: usize| vec![0.0; len];
        Self {
            x: zeros(n * c),
            next: zeros(n * c),
            normed: zeros(n * c),
            mean: zeros(n),
            rstd: zeros(n),
            qkv: zeros(n * 3 * c),
            att: zeros(n * c),
            scores: zeros(block_size),
            hidden: zeros(n * 4 * c),
            active: zeros(n * 4 * c),
            branch: zeros(n * c),
            no_bias: zeros(4 * c),
        }
    }
}

impl<'a> FusedDecoder<'a> {
    pub(super) fn new(params: &'a Params, threads: usize, n_seqs: usize) -> Result<Self> {
        if n_seqs == 0 {
            return Err(ModelError::request("a decoder needs at least one sequence"));
        }
        let config = params.config();
        let len = n_seqs * config.block_size * config.n_embd;
        let empty = || KeyValues { keys: vec![0.0; len], values: vec![0.0; len] };
        Ok(Self {
            params,
            weights: params.read()?,
            threads,
            n_seqs,
            n_cached: 0,
            cache: (0..config.n_layer).map(|_| empty()).collect(),
            workspace: Workspace::default(),
            rows: Rows::new(n_seqs, config.n_embd, config.block_size),
            logits: Vec::new(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.n_cached
    }

    pub(super) fn logits(&self, seq_idx: usize) -> &[f32] {
        let v = self.params.config().vocab_size;
        self.logits.get(seq_idx * v..(seq_idx + 1) * v).unwrap_or(&[])
    }

    pub(super) fn prefill(&mut self, prompt: &[u32]) -> Result<()> {
        let config = self.params.config();
        check_ids(config, prompt, 1, prompt.len())?;
        let (t, c) = (prompt.len(), config.n_embd);
        let dims = Dims::new(config, 1, t, self.threads);
        let weights = self.weights.slices();
        self.workspace.fit(&dims, config.n_layer, false);
        let pass = Pass::without_gradients(prompt, dims);
        let (cache, head_dim) = (&mut self.cache, config.head_dim());
        pass.forward(&weights, &mut self.workspace, |layer, qkv| {
            for (position, row) in qkv.chunks_exact(3 * c).enumerate() {
                cache[layer].put(0, position, row, config.block_size, head_dim);
            }
        });
        let per_seq = config.block_size * c;
        for KeyValues { keys, values } in &mut self.cache {
            for seq in 1..self.n_seqs {
                keys.copy_within(..per_seq, seq * per_seq);
                values.copy_within(..per_seq, seq * per_seq);
            }
        }
        self.n_cached = t;
        let last = &self.workspace.norm_f.out[(t - 1) * c..];
        self.logits.resize(self.n_seqs * config.vocab_size, 0.0);
        let (first, others) = self.logits.split_at_mut(config.vocab_size);
        decode::row_times_transposed(last, weights.wte, first, self.threads);
        others.chunks_exact_mut(config.vocab_size).for_each(|logits| logits.copy_from_slice(first));
        Ok(())
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
        let (weights, c) = (self.weights.slices(), config.n_embd);
        let (rows, threads) = (&mut self.rows, self.threads);
        let wpe = &weights.wpe[self.n_cached * c..][..c];
        embedding::forward(ids, (weights.wte, wpe), (1, c), None, &mut rows.x);
        for (block, cache) in weights.blocks.iter().zip(&mut self.cache) {
            rows.norm(&block.ln_1);
            product(&rows.normed, block.c_attn.weight, &mut rows.qkv, c, threads);
            if let Some(bias) = block.c_attn.bias {
                bias::forward(&mut rows.qkv, bias, 1);
            }
            rows.attend(cache, self.n_cached, config);
            product(&rows.att, block.attn_c_proj.weight, &mut rows.branch, c, threads);
            rows.add_branch(block.attn_c_proj.bias);
            rows.norm(&block.ln_2);
            product(&rows.normed, block.c_fc.weight, &mut rows.hidden, c, threads);
            let bias = block.c_fc.bias.unwrap_or(&rows.no_bias);
            gelu::forward(&mut rows.hidden, bias, &mut rows.active, 1);
            product(&rows.active, block.mlp_c_proj.weight, &mut rows.branch, 4 * c, threads);
            rows.add_branch(block.mlp_c_proj.bias);
        }
        rows.norm(&weights.ln_f);
        product_with_table(&rows.normed, weights.wte, &mut self.logits, c, threads);
        self.n_cached += 1;
        Ok(())
    }
}

impl Rows {
    /// `normed ← norm(x)`.
    fn norm(&mut self, norm: &Affine<&[f32]>) {
        let affine = layer_norm::Affine { weight: norm.weight, bias: norm.bias };
        let stats = layer_norm::Stats { mean: &mut self.mean, rstd: &mut self.rstd };
        layer_norm::forward(&self.x, affine, &mut self.normed, stats, 1);
    }

    /// `x ← x + branch + bias`.
    fn add_branch(&mut self, bias: Option<&[f32]>) {
        let c = self.x.len() / self.mean.len();
        let bias = bias.unwrap_or(&self.no_bias[..c]);
        residual::forward(&self.x, &self.branch, bias, None, &mut self.next, 1);
        std::mem::swap(&mut self.x, &mut self.next);
    }

    /// Stores the new keys and values at `position` and lets every head look at all so far.
    fn attend(&mut self, cache: &mut KeyValues, position: usize, config: &ModelConfig) {
        let (c, d, block_size) = (config.n_embd, config.head_dim(), config.block_size);
        let scores = &mut self.scores[..=position];
        let rows = self.qkv.chunks_exact(3 * c).zip(self.att.chunks_exact_mut(c));
        for (seq, (qkv, att)) in rows.enumerate() {
            cache.put(seq, position, qkv, block_size, d);
            let heads = qkv[..c].chunks_exact(d).zip(att.chunks_exact_mut(d));
            for (h, (q, out)) in heads.enumerate() {
                let first = (seq * config.n_head + h) * block_size * d;
                let seen = first..first + (position + 1) * d;
                decode::attend(q, &cache.keys[seen.clone()], &cache.values[seen], scores, out);
            }
        }
    }
}

/// `out ← x · w` for `x` `[n, K]` and `w` `[K, M]`.
fn product(x: &[f32], w: &[f32], out: &mut [f32], k: usize, threads: usize) {
    if x.len() == k {
        return decode::row_times_matrix(x, w, out, threads);
    }
    linear::forward(x, w, out, k, threads);
}

/// `out ← x · wteᵀ` for `x` `[n, C]` and `wte` `[V, C]`.
fn product_with_table(x: &[f32], wte: &[f32], out: &mut [f32], c: usize, threads: usize) {
    if x.len() == c {
        return decode::row_times_transposed(x, wte, out, threads);
    }
    head::logits(x, wte, out, c, threads);
}

impl KeyValues {
    /// Stores keys and values of a packed row `[3C]` at `position` of sequence `seq`.
    fn put(&mut self, seq: usize, position: usize, row: &[f32], block_size: usize, d: usize) {
        let c = row.len() / 3;
        let parts = row[c..2 * c].chunks_exact(d).zip(row[2 * c..].chunks_exact(d));
        for (h, (key, value)) in parts.enumerate() {
            let at = ((seq * (c / d) + h) * block_size + position) * d;
            self.keys[at..at + d].copy_from_slice(key);
            self.values[at..at + d].copy_from_slice(value);
        }
    }
}
