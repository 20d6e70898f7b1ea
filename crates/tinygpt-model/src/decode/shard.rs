//! What one worker thread does in a decoding step: some rows of every matrix, some of the heads,
//! and some of the vocabulary, for all sequences.
//!
//! Each weight is read by one thread, once, and in the order in which it lies in memory: that is
//! what a step's time consists of. So a worker multiplies some channels of its input with their
//! rows of the matrix, which gives a partial sum of every output. At a barrier all partial sums are
//! complete, and each worker adds up the columns that it needs, always in the same order. A worker
//! needs queries, keys and values of its own heads, whose KV cache is its own, and its own channels
//! of the MLP's hidden layer. The residual stream and the layer norms are computed by all of them.

use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use tinygpt_kernels::decode::{self, Strided, StridedMut};
use tinygpt_kernels::{accumulate, bias, layer_norm as kernel, residual};

use super::barrier::{Barrier, WorkerEnded};
use super::weights::{MatrixPart, Weight};
use crate::batch::Row;
use crate::config::ModelConfig;
use crate::layers::{layer_norm, mlp};
use crate::parts::{Affine, BlockParts, ModelParts};

/// The buffers through which the workers of a decoder exchange results.
#[derive(Debug)]
pub(super) struct SharedBuffers {
    /// The step that is being made.
    pub(super) step: RwLock<StepRows>,
    /// Each worker's partial sums of a product, rows at [`decode::stride_of`]. Products alternate
    /// between the two sets: when a worker writes one, all have read the other.
    partial_sums: [Vec<RwLock<Vec<f32>>>; 2],
    /// Each worker's logits, `[N, its share of V]`.
    pub(super) logits: Vec<RwLock<Vec<f32>>>,
}

/// N positions: one more in each of some sequences, or the next ones of a single sequence in order.
#[derive(Debug, Default)]
pub(super) struct StepRows {
    pub(super) rows: Vec<Row>,
    /// How many of the rows, counted from the last, need logits.
    pub(super) n_logits: usize,
}

impl SharedBuffers {
    pub(super) fn new(n_threads: usize) -> Self {
        let lists = || (0..n_threads).map(|_| RwLock::default()).collect();
        Self { step: RwLock::default(), partial_sums: [lists(), lists()], logits: lists() }
    }
}

/// All workers of a decoder, as one of them sees them.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) buffers: &'a SharedBuffers,
    pub(super) barrier: &'a Barrier,
}

/// One worker's place in the products that all compute together.
#[derive(Debug)]
struct AllReduce {
    index: usize,
    /// Barriers passed so far.
    round: u64,
}

/// A matrix and the part of it that is this worker's.
struct Operand<'a, W> {
    weight: &'a W,
    part: MatrixPart,
}

impl AllReduce {
    /// Adds this worker's partial sum of `x · w` for `n` rows, and returns when all have added
    /// theirs.
    fn product<'g, W: Weight>(
        &mut self,
        n: usize,
        x: Strided<'_>,
        w: Operand<'_, W>,
        group: Group<'g>,
    ) -> Result<PartialSums<'g>, WorkerEnded> {
        let lists = &group.buffers.partial_sums[(self.round % 2) as usize];
        let stride = decode::stride_of(w.part.n_outputs);
        let mut own = lists[self.index].write().unwrap_or_else(PoisonError::into_inner);
        let len = own.len().max(n * stride);
        own.resize(len, 0.0);
        w.weight.times(w.part, n, x, StridedMut { data: &mut own, stride });
        drop(own);
        self.wait(group)?;
        Ok(PartialSums { lists, stride })
    }

    fn wait(&mut self, group: Group<'_>) -> Result<(), WorkerEnded> {
        self.round += 1;
        group.barrier.wait(self.round)
    }
}

/// The partial sums of all workers for one product `[N, M]`.
struct PartialSums<'a> {
    lists: &'a [RwLock<Vec<f32>>],
    stride: usize,
}

impl PartialSums<'_> {
    /// `out ←` the sum of the given columns, with their bias.
    fn reduce(&self, columns: Range<usize>, bias: Option<&[f32]>, out: &mut [f32]) {
        if columns.is_empty() {
            return;
        }
        for (i, list) in self.lists.iter().enumerate() {
            let list = list.read().unwrap_or_else(PoisonError::into_inner);
            let rows = list.chunks_exact(self.stride);
            for (out, row) in out.chunks_exact_mut(columns.len()).zip(rows) {
                match i {
                    0 => out.copy_from_slice(&row[columns.clone()]),
                    _ => accumulate::add(out, &row[columns.clone()], 1),
                }
            }
        }
        if let Some(bias) = bias {
            bias::forward(out, &bias[columns], 1);
        }
    }
}

/// One worker's share of the model, its part of the KV cache, and its activations.
#[derive(Debug)]
pub(super) struct Shard {
    all_reduce: AllReduce,
    config: ModelConfig,
    /// Of the residual stream.
    inputs: Range<usize>,
    heads: Range<usize>,
    /// Of the MLP's hidden layer.
    hidden: Range<usize>,
    pub(super) vocab: Range<usize>,
    /// One for each block.
    cache: Vec<KvCache>,
    acts: Activations,
}

/// Keys and values of one block, `[slots, heads of this shard, block_size, D]` each: what one head
/// attends to lies together.
#[derive(Debug)]
struct KvCache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Activations of one position in each sequence; they grow to the largest batch and stay.
#[derive(Debug, Default)]
struct Activations {
    /// Residual stream, `[N, C]`.
    x: Vec<f32>,
    /// The residual stream after the next branch, `[N, C]`.
    next: Vec<f32>,
    normed: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
    /// Queries, keys and values of this shard's heads, `[N, heads · D]` each.
    qkv: [Vec<f32>; 3],
    att: Vec<f32>,
    /// `[block_size]`.
    scores: Vec<f32>,
    /// This shard's channels of the MLP, `[N, …]`.
    hidden: Vec<f32>,
    active: Vec<f32>,
    /// `[N, C]`.
    branch: Vec<f32>,
    /// Replaces absent biases, `[4C]`.
    no_bias: Vec<f32>,
}

impl Activations {
    fn fit(&mut self, n: usize, c: usize, heads: &Range<usize>, hidden: &Range<usize>) {
        for rows in [&mut self.x, &mut self.next, &mut self.normed, &mut self.branch] {
            rows.resize(n * c, 0.0);
        }
        for rows in self.qkv.iter_mut().chain([&mut self.att]) {
            rows.resize(n * heads.len(), 0.0);
        }
        for rows in [&mut self.hidden, &mut self.active] {
            rows.resize(n * hidden.len(), 0.0);
        }
        self.mean.resize(n, 0.0);
        self.rstd.resize(n, 0.0);
    }
}

/// The share number `index` of `n` of `len` things that are dealt out in units.
fn share(len: usize, unit: usize, index: usize, n: usize) -> Range<usize> {
    let edge = |i: usize| (len.div_ceil(unit) * i / n * unit).min(len);
    edge(index)..edge(index + 1)
}

/// Which shard of how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShardPlace {
    pub(super) index: usize,
    pub(super) n_threads: usize,
    /// Channels are dealt out in multiples of this.
    pub(super) unit: usize,
}

impl Shard {
    /// The shard of a thread; its cache has `n_slots` slots.
    pub(super) fn new(config: &ModelConfig, place: ShardPlace, n_slots: usize) -> Self {
        let ShardPlace { index, n_threads, unit } = place;
        let c = config.n_embd;
        let heads = share(config.n_head, 1, index, n_threads);
        let len = n_slots * heads.len() * config.block_size * config.head_dim();
        let empty = || KvCache { keys: vec![0.0; len], values: vec![0.0; len] };
        Self {
            all_reduce: AllReduce { index, round: 0 },
            config: config.clone(),
            heads,
            inputs: share(c, unit, index, n_threads),
            hidden: share(4 * c, unit, index, n_threads),
            vocab: share(config.vocab_size, unit, index, n_threads),
            cache: (0..config.n_layer).map(|_| empty()).collect(),
            acts: Activations {
                scores: vec![0.0; config.block_size],
                no_bias: vec![0.0; 4 * c],
                ..Activations::default()
            },
        }
    }

    /// The channels of this shard's heads.
    fn channels(&self) -> Range<usize> {
        let d = self.config.head_dim();
        self.heads.start * d..self.heads.end * d
    }

    /// Stores this shard's keys and values of a packed row `[3C]` of block `layer`.
    pub(super) fn put_packed(&mut self, layer: usize, slot: usize, position: usize, row: &[f32]) {
        let (c, channels) = (self.config.n_embd, self.channels());
        let [key, value] = [1, 2].map(|i| &row[i * c..][channels.clone()]);
        self.put(layer, slot, position, key, value);
    }

    /// Copies the first `n_tokens` positions of slot `from` to slot `to`.
    pub(super) fn copy(&mut self, from: usize, to: usize, n_tokens: usize) {
        let per_head = self.config.block_size * self.config.head_dim();
        let (n_heads, used) = (self.heads.len(), n_tokens * self.config.head_dim());
        for KvCache { keys, values } in &mut self.cache {
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
        let KvCache { keys, values } = &mut self.cache[layer];
        let heads = key.chunks_exact(d).zip(value.chunks_exact(d));
        for (head, (key, value)) in heads.enumerate() {
            let at = ((slot * self.heads.len() + head) * block_size + position) * d;
            keys[at..at + d].copy_from_slice(key);
            values[at..at + d].copy_from_slice(value);
        }
    }

    /// Computes this worker's share of the step in the group's buffers.
    pub(super) fn step<W: Weight>(
        &mut self,
        weights: &ModelParts<W>,
        group: Group<'_>,
    ) -> Result<(), WorkerEnded> {
        let step = group.buffers.step.read().unwrap_or_else(PoisonError::into_inner);
        let (n, c) = (step.rows.len(), self.config.n_embd);
        self.acts.fit(n, c, &self.channels(), &self.hidden);
        for (row, x) in step.rows.iter().zip(self.acts.x.chunks_exact_mut(c)) {
            weights.wte.row(row.id as usize, x);
            accumulate::add(x, &weights.wpe.values()[row.position * c..][..c], 1);
        }
        for (layer, block) in weights.blocks.iter().enumerate() {
            self.attention(layer, block, &step.rows, group)?;
            self.mlp(block, n, group)?;
        }
        self.acts.norm(&weights.ln_f);
        let logits = &group.buffers.logits[self.all_reduce.index];
        let mut logits = logits.write().unwrap_or_else(PoisonError::into_inner);
        logits.resize(step.n_logits * self.vocab.len(), 0.0);
        let normed = &self.acts.normed[(n - step.n_logits) * c..];
        weights.wte.times_table(self.vocab.clone(), step.n_logits, normed, &mut logits);
        drop(logits);
        self.all_reduce.wait(group)
    }

    /// `x ← x + attention(norm(x))`.
    fn attention<W: Weight>(
        &mut self,
        layer: usize,
        block: &BlockParts<W>,
        step: &[Row],
        group: Group<'_>,
    ) -> Result<(), WorkerEnded> {
        let (n, c, channels) = (step.len(), self.config.n_embd, self.channels());
        self.acts.norm(&block.ln_1);
        let normed = Strided { data: &self.acts.normed[self.inputs.start..], stride: c };
        let inputs = self.inputs.clone();
        let w =
            Operand { weight: &block.c_attn.weight, part: MatrixPart { inputs, n_outputs: 3 * c } };
        let sums = self.all_reduce.product(n, normed, w, group)?;
        for (i, out) in self.acts.qkv.iter_mut().enumerate() {
            let columns = i * c + channels.start..i * c + channels.end;
            sums.reduce(columns, block.c_attn.bias.as_ref().map(Weight::values), out);
        }
        self.attend_cache(layer, step);
        let att = Strided { data: &self.acts.att, stride: channels.len() };
        let w = Operand {
            weight: &block.attn_c_proj.weight,
            part: MatrixPart { inputs: channels, n_outputs: c },
        };
        let sums = self.all_reduce.product(n, att, w, group)?;
        sums.reduce(0..c, None, &mut self.acts.branch);
        self.acts.add_branch(block.attn_c_proj.bias.as_ref().map(Weight::values));
        Ok(())
    }

    /// Stores the new keys and values and lets each head attend to all so far. One head after the other, so
    /// that its keys and values stay in the CPU's cache for all rows of a conversation's next turn.
    fn attend_cache(&mut self, layer: usize, step: &[Row]) {
        let (d, block_size) = (self.config.head_dim(), self.config.block_size);
        let width = self.heads.len() * d;
        let [q, k, v] = std::mem::take(&mut self.acts.qkv);
        for (row, &Row { slot, position, .. }) in step.iter().enumerate() {
            let own = row * width..(row + 1) * width;
            self.put(layer, slot, position, &k[own.clone()], &v[own]);
        }
        let KvCache { keys, values } = &self.cache[layer];
        for head in 0..self.heads.len() {
            for (row, &Row { slot, position, .. }) in step.iter().enumerate() {
                let own = row * width + head * d..row * width + (head + 1) * d;
                let scores = &mut self.acts.scores[..=position];
                let first = (slot * self.heads.len() + head) * block_size * d;
                let seen = first..first + (position + 1) * d;
                let (q, out) = (&q[own.clone()], &mut self.acts.att[own]);
                decode::attend(q, &keys[seen.clone()], &values[seen], scores, out);
            }
        }
        self.acts.qkv = [q, k, v];
    }

    /// `x ← x + mlp(norm(x))`.
    fn mlp<W: Weight>(
        &mut self,
        block: &BlockParts<W>,
        n: usize,
        group: Group<'_>,
    ) -> Result<(), WorkerEnded> {
        let (c, own) = (self.config.n_embd, self.hidden.clone());
        self.acts.norm(&block.ln_2);
        let normed = Strided { data: &self.acts.normed[self.inputs.start..], stride: c };
        let inputs = self.inputs.clone();
        let w =
            Operand { weight: &block.c_fc.weight, part: MatrixPart { inputs, n_outputs: 4 * c } };
        let sums = self.all_reduce.product(n, normed, w, group)?;
        let Activations { hidden, active, branch, no_bias, .. } = &mut self.acts;
        sums.reduce(own.clone(), None, hidden);
        if !own.is_empty() {
            let bias = block.c_fc.bias.as_ref().map(Weight::values).unwrap_or(no_bias);
            mlp::activate(hidden, &bias[own.clone()], active, 1);
        }
        let active = Strided { data: active, stride: own.len() };
        let w = Operand {
            weight: &block.mlp_c_proj.weight,
            part: MatrixPart { inputs: own, n_outputs: c },
        };
        let sums = self.all_reduce.product(n, active, w, group)?;
        sums.reduce(0..c, None, branch);
        self.acts.add_branch(block.mlp_c_proj.bias.as_ref().map(Weight::values));
        Ok(())
    }
}

impl Activations {
    /// `x ← x + branch + bias`.
    fn add_branch(&mut self, bias: Option<&[f32]>) {
        let c = self.x.len() / self.mean.len();
        let bias = bias.unwrap_or(&self.no_bias[..c]);
        residual::forward(&self.x, &self.branch, bias, None, &mut self.next, 1);
        std::mem::swap(&mut self.x, &mut self.next);
    }

    /// `normed ← norm(x)`.
    fn norm<W: Weight>(&mut self, norm: &Affine<W>) {
        let norm =
            Affine { weight: norm.weight.values(), bias: norm.bias.as_ref().map(Weight::values) };
        let stats = kernel::Stats { mean: &mut self.mean, rstd: &mut self.rstd };
        layer_norm::normalize(&self.x, &norm, &mut self.normed, stats, 1);
    }
}
