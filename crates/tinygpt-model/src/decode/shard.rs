//! What one thread does in a step of decoding: some rows of every matrix, some of the heads, and
//! some of the vocabulary, for all sequences.
//!
//! Each weight is read by one thread, once, and in the order in which it lies in memory: that is
//! what a step's time consists of. So a thread multiplies some channels of its input with their
//! rows of the matrix, which gives a summand of every output; the threads meet and each adds up
//! what it needs of all summands, always in the same order. A thread needs queries, keys and values
//! of its own heads, whose cache is its own, and its own channels of the MLP's hidden layer; the
//! residual stream and what is linear in it, such as the layer norms, every thread has for itself.

use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use tinygpt_kernels::decode::{self, Strided};
use tinygpt_kernels::{accumulate, gelu, layer_norm, residual};

use super::decoder::Row;
use super::barrier::Meeting;
use super::product::Product;
use super::weights::Weight;
use crate::config::ModelConfig;
use crate::params::{Affine, BlockParts, ModelParts};

/// What the threads of a decoder show each other.
#[derive(Debug)]
pub(super) struct Board {
    /// What is being made.
    pub(super) step: RwLock<Step>,
    /// Each thread's summands of a product, rows at [`decode::stride_of`]. Two sets take turns: who
    /// writes one knows that everybody has read the other.
    pub(super) summands: [Vec<RwLock<Vec<f32>>>; 2],
    /// Each thread's logits, `[N, its share of V]`.
    pub(super) logits: Vec<RwLock<Vec<f32>>>,
}

/// N positions: one more in each of some sequences, or the next ones of a single sequence in order.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) rows: Vec<Row>,
    /// How many of the rows, counted from the last, need logits.
    pub(super) n_logits: usize,
}

impl Board {
    pub(super) fn new(n_threads: usize) -> Self {
        let lists = || (0..n_threads).map(|_| RwLock::default()).collect();
        Self { step: RwLock::default(), summands: [lists(), lists()], logits: lists() }
    }
}

/// One thread's share and its memory.
#[derive(Debug)]
pub(super) struct Part {
    index: usize,
    config: ModelConfig,
    /// Of the residual stream.
    inputs: Range<usize>,
    heads: Range<usize>,
    /// Of the MLP's hidden layer.
    hidden: Range<usize>,
    pub(super) vocab: Range<usize>,
    /// One for each block.
    cache: Vec<KeyValues>,
    rows: Rows,
    /// Meetings so far.
    round: u64,
}

/// Keys and values of one block, `[slots, heads of this part, block_size, D]` each: what one head
/// looks at lies together.
#[derive(Debug)]
struct KeyValues {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Activations of one position in each sequence; they grow to the largest batch and stay.
#[derive(Debug, Default)]
struct Rows {
    /// Residual stream, `[N, C]`.
    x: Vec<f32>,
    /// Where the stream goes next, `[N, C]`.
    next: Vec<f32>,
    normed: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
    /// Queries, keys and values of this part's heads, `[N, heads · D]` each.
    qkv: [Vec<f32>; 3],
    att: Vec<f32>,
    /// `[block_size]`.
    scores: Vec<f32>,
    /// This part's channels of the MLP, `[N, …]`.
    hidden: Vec<f32>,
    active: Vec<f32>,
    /// `[N, C]`.
    branch: Vec<f32>,
    /// Stands in for absent biases, `[4C]`.
    no_bias: Vec<f32>,
}

impl Rows {
    fn fit(&mut self, n: usize, c: usize, part: &Range<usize>, hidden: &Range<usize>) {
        for rows in [&mut self.x, &mut self.next, &mut self.normed, &mut self.branch] {
            rows.resize(n * c, 0.0);
        }
        for rows in self.qkv.iter_mut().chain([&mut self.att]) {
            rows.resize(n * part.len(), 0.0);
        }
        for rows in [&mut self.hidden, &mut self.active] {
            rows.resize(n * hidden.len(), 0.0);
        }
        self.mean.resize(n, 0.0);
        self.rstd.resize(n, 0.0);
    }
}

/// The part number `index` of `n` of `len` things that are dealt out in units.
fn share(len: usize, unit: usize, index: usize, n: usize) -> Range<usize> {
    let edge = |i: usize| (len.div_ceil(unit) * i / n * unit).min(len);
    edge(index)..edge(index + 1)
}

impl Part {
    /// The part of thread `index`, which gets its channels in lots of `unit`; its cache has `n_slots`
    /// slots.
    pub(super) fn new(
        config: &ModelConfig,
        (index, n_threads): (usize, usize),
        n_slots: usize,
        unit: usize,
    ) -> Self {
        let c = config.n_embd;
        let heads = share(config.n_head, 1, index, n_threads);
        let len = n_slots * heads.len() * config.block_size * config.head_dim();
        let empty = || KeyValues { keys: vec![0.0; len], values: vec![0.0; len] };
        Self {
            index,
            config: config.clone(),
            heads,
            inputs: share(c, unit, index, n_threads),
            hidden: share(4 * c, unit, index, n_threads),
            vocab: share(config.vocab_size, unit, index, n_threads),
            cache: (0..config.n_layer).map(|_| empty()).collect(),
            rows: Rows {
                scores: vec![0.0; config.block_size],
                no_bias: vec![0.0; 4 * c],
                ..Rows::default()
            },
            round: 0,
        }
    }

    /// The channels of this part's heads.
    fn channels(&self) -> Range<usize> {
        let d = self.config.head_dim();
        self.heads.start * d..self.heads.end * d
    }

    /// Stores this part's keys and values of a packed row `[3C]` of block `layer`.
    pub(super) fn put_packed(&mut self, layer: usize, slot: usize, position: usize, row: &[f32]) {
        let (c, channels) = (self.config.n_embd, self.channels());
        let [key, value] = [1, 2].map(|i| &row[i * c..][channels.clone()]);
        self.put(layer, slot, position, key, value);
    }

    /// Copies the first `n_tokens` positions of slot `from` to slot `to`.
    pub(super) fn copy(&mut self, from: usize, to: usize, n_tokens: usize) {
        let per_head = self.config.block_size * self.config.head_dim();
        let (n_heads, used) = (self.heads.len(), n_tokens * self.config.head_dim());
        for KeyValues { keys, values } in &mut self.cache {
            for head in 0..n_heads {
                let first = (from * n_heads + head) * per_head;
                for cached in [&mut *keys, values] {
                    cached.copy_within(first..first + used, (to * n_heads + head) * per_head);
                }
            }
        }
    }

    /// Stores keys and values `[heads · D]` at `position` of sequence `slot`.
    fn put(&mut self, layer: usize, slot: usize, position: usize, key: &[f32], value: &[f32]) {
        let (d, block_size) = (self.config.head_dim(), self.config.block_size);
        let KeyValues { keys, values } = &mut self.cache[layer];
        let heads = key.chunks_exact(d).zip(value.chunks_exact(d));
        for (head, (key, value)) in heads.enumerate() {
            let at = ((slot * self.heads.len() + head) * block_size + position) * d;
            keys[at..at + d].copy_from_slice(key);
            values[at..at + d].copy_from_slice(value);
        }
    }

    /// Makes this part of the step on the board; false if another thread has ended.
    pub(super) fn step<W>(&mut self, weights: &ModelParts<W>, board: &Board, meet: &Meeting) -> bool
    where
        W: Weight,
    {
        let step = board.step.read().unwrap_or_else(PoisonError::into_inner);
        let (n, c) = (step.rows.len(), self.config.n_embd);
        self.rows.fit(n, c, &self.channels(), &self.hidden);
        for (row, x) in step.rows.iter().zip(self.rows.x.chunks_exact_mut(c)) {
            weights.wte.row(row.id as usize, x);
            accumulate::add(x, &weights.wpe.values()[row.position * c..][..c], 1);
        }
        for (layer, block) in weights.blocks.iter().enumerate() {
            let meets = self.attend(layer, block, &step.rows, board, meet)
                && self.think(block, n, board, meet);
            if !meets {
                return false;
            }
        }
        self.rows.norm(&weights.ln_f);
        let mut logits = board.logits[self.index].write().unwrap_or_else(PoisonError::into_inner);
        logits.resize(step.n_logits * self.vocab.len(), 0.0);
        let normed = &self.rows.normed[(n - step.n_logits) * c..];
        weights.wte.times_table(self.vocab.clone(), step.n_logits, normed, &mut logits);
        drop(logits);
        self.round += 1;
        meet.meet(self.round)
    }

    /// `x ← x + attention(norm(x))`; false if another thread has ended.
    fn attend<W>(
        &mut self,
        layer: usize,
        block: &BlockParts<W>,
        step: &[Row],
        board: &Board,
        meet: &Meeting,
    ) -> bool
    where
        W: Weight,
    {
        let (n, c, channels) = (step.len(), self.config.n_embd, self.channels());
        self.rows.norm(&block.ln_1);
        let normed = Strided { data: &self.rows.normed[self.inputs.start..], stride: c };
        let w = (&block.c_attn.weight, self.inputs.clone());
        let product = Product { n, m: 3 * c, set: self.round % 2 };
        self.round += 1;
        if !product.post(normed, w, (board, self.index), meet, self.round) {
            return false;
        }
        for (i, out) in self.rows.qkv.iter_mut().enumerate() {
            let columns = i * c + channels.start..i * c + channels.end;
            product.collect(board, columns, block.c_attn.bias.as_ref().map(Weight::values), out);
        }
        self.look_back(layer, step);
        let att = Strided { data: &self.rows.att, stride: channels.len() };
        let w = (&block.attn_c_proj.weight, channels);
        let product = Product { n, m: c, set: self.round % 2 };
        self.round += 1;
        if !product.post(att, w, (board, self.index), meet, self.round) {
            return false;
        }
        product.collect(board, 0..c, None, &mut self.rows.branch);
        self.rows.add_branch(block.attn_c_proj.bias.as_ref().map(Weight::values));
        true
    }

    /// Stores the new keys and values and lets each head look at all so far.
    fn look_back(&mut self, layer: usize, step: &[Row]) {
        let (d, block_size) = (self.config.head_dim(), self.config.block_size);
        let width = self.heads.len() * d;
        let [q, k, v] = std::mem::take(&mut self.rows.qkv);
        for (row, &Row { slot, position, .. }) in step.iter().enumerate() {
            let own = row * width..(row + 1) * width;
            self.put(layer, slot, position, &k[own.clone()], &v[own.clone()]);
            let scores = &mut self.rows.scores[..=position];
            let heads = q[own.clone()].chunks_exact(d).zip(self.rows.att[own].chunks_exact_mut(d));
            let KeyValues { keys, values } = &self.cache[layer];
            for (head, (q, out)) in heads.enumerate() {
                let first = (slot * self.heads.len() + head) * block_size * d;
                let seen = first..first + (position + 1) * d;
                decode::attend(q, &keys[seen.clone()], &values[seen], scores, out);
            }
        }
        self.rows.qkv = [q, k, v];
    }

    /// `x ← x + mlp(norm(x))`; false if another thread has ended.
    fn think<W>(&mut self, block: &BlockParts<W>, n: usize, board: &Board, meet: &Meeting) -> bool
    where
        W: Weight,
    {
        let (c, own) = (self.config.n_embd, self.hidden.clone());
        self.rows.norm(&block.ln_2);
        let normed = Strided { data: &self.rows.normed[self.inputs.start..], stride: c };
        let w = (&block.c_fc.weight, self.inputs.clone());
        let product = Product { n, m: 4 * c, set: self.round % 2 };
        self.round += 1;
        if !product.post(normed, w, (board, self.index), meet, self.round) {
            return false;
        }
        let Rows { hidden, active, branch, no_bias, .. } = &mut self.rows;
        product.collect(board, own.clone(), None, hidden);
        if !own.is_empty() {
            let bias = block.c_fc.bias.as_ref().map(Weight::values).unwrap_or(no_bias);
            gelu::forward(hidden, &bias[own.clone()], active, 1);
        }
        let w = (&block.mlp_c_proj.weight, own.clone());
        let product = Product { n, m: c, set: self.round % 2 };
        self.round += 1;
        let active = Strided { data: active, stride: own.len() };
        if !product.post(active, w, (board, self.index), meet, self.round) {
            return false;
        }
        product.collect(board, 0..c, None, branch);
        self.rows.add_branch(block.mlp_c_proj.bias.as_ref().map(Weight::values));
        true
    }
}

impl Rows {
    /// `x ← x + branch + bias`.
    fn add_branch(&mut self, bias: Option<&[f32]>) {
        let c = self.x.len() / self.mean.len();
        let bias = bias.unwrap_or(&self.no_bias[..c]);
        residual::forward(&self.x, &self.branch, bias, None, &mut self.next, 1);
        std::mem::swap(&mut self.x, &mut self.next);
    }

    /// `normed ← norm(x)`.
    fn norm<W: Weight>(&mut self, norm: &Affine<W>) {
        let bias = norm.bias.as_ref().map(Weight::values);
        let affine = layer_norm::Affine { weight: norm.weight.values(), bias };
        let stats = layer_norm::Stats { mean: &mut self.mean, rstd: &mut self.rstd };
        layer_norm::forward(&self.x, affine, &mut self.normed, stats, 1);
    }
}
