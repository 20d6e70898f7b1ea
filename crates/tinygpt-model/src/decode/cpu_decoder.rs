//! Decoding on the CPU over the kernels: weights are read in place, keys and values are written into
//! the KV cache in place, and nothing is allocated per token.
//!
//! A prompt is prefilled once, however many sequences continue it: the others get a copy of its keys
//! and values. After that each step is one row per sequence, computed by a few worker threads:
//! `shard.rs` has what each of them does, `weights.rs` what they read, `barrier.rs` how they wait for
//! each other.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tinygpt_kernels::decode;

use super::barrier::{Barrier, WorkerEnded, WorkerThreads};
use super::shard::{Group, Shard, ShardPlace, SharedBuffers, StepRows};
use super::weights::{View, WeightSource};
use crate::batch::Row;
use crate::config::ModelConfig;
use crate::cpu::step::Pass;
use crate::cpu::workspace::Workspace;
use crate::decode::q8_params::QuantizedParts;
use crate::error::{ModelError, Result};
use crate::host::HostSlice;
use crate::layers::pass::Dims;
use crate::params::Params;
use crate::parts::ModelParts;

/// See [`crate::Decoder`].
pub(super) struct CpuDecoder<'a> {
    config: &'a ModelConfig,
    view: View<'a>,
    threads: WorkerThreads,
    shared: Arc<Shared>,
    /// For the pass over a long prompt; freed with the decoder.
    workspace: Workspace,
}

/// Prompts up to this length use the decode kernels: packing matrices for GEMM would cost more than
/// it saves. 8-bit weights, which only those kernels can read, take longer prompts in chunks of this
/// size.
pub(super) const PREFILL_CHUNK: usize = 32;

/// What all workers can reach.
struct Shared {
    buffers: SharedBuffers,
    shards: Vec<Mutex<Shard>>,
}

impl Shared {
    fn shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        (0..self.shards.len()).map(|index| self.shard(index))
    }
}

impl fmt::Debug for CpuDecoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuDecoder").finish_non_exhaustive()
    }
}

/// Computes one worker's share of the step.
fn step_shard(
    shard: &mut Shard,
    view: &View<'_>,
    buffers: &SharedBuffers,
    barrier: &Barrier,
) -> Result<(), WorkerEnded> {
    let group = Group { buffers, barrier };
    match view {
        View::Params(weights) => shard.step(weights, group),
        View::Quantized(weights) => shard.step(weights, group),
    }
}

/// What a worker thread does: its own view of the weights, then one step after the other.
fn work(
    shared: &Shared,
    index: usize,
    barrier: &Barrier,
    source: &WeightSource,
    next_step: &mut dyn FnMut() -> bool,
) {
    let Ok(view) = source.open() else { return };
    while next_step() {
        let step = step_shard(&mut shared.shard(index), &view, &shared.buffers, barrier);
        if step.is_err() {
            return;
        }
    }
}

impl<'a> CpuDecoder<'a> {
    /// Over a model's parameters in place.
    pub(super) fn of_params(params: &'a Params, threads: usize, n_slots: usize) -> Result<Self> {
        let view = View::Params(params.read()?);
        Self::new(params.config(), view, WeightSource::of(params), threads, n_slots)
    }

    /// Over the weights of an 8-bit model.
    pub(super) fn of_bytes(
        config: &'a ModelConfig,
        parts: &'a Arc<QuantizedParts>,
        threads: usize,
        n_slots: usize,
    ) -> Result<Self> {
        let source = WeightSource::Quantized(Arc::clone(parts));
        Self::new(config, View::Quantized(parts), source, threads, n_slots)
    }

    fn new(
        config: &'a ModelConfig,
        view: View<'a>,
        source: WeightSource,
        threads: usize,
        n_slots: usize,
    ) -> Result<Self> {
        let unit = source.unit();
        let place = |index| ShardPlace { index, n_threads: threads, unit };
        let shard = |index| Mutex::new(Shard::new(config, place(index), n_slots));
        let shards = (0..threads).map(shard).collect();
        let shared = Arc::new(Shared { buffers: SharedBuffers::new(threads), shards });
        let for_workers = (Arc::clone(&shared), source);
        let started = WorkerThreads::start(threads, move |index, barrier| {
            let (shared, source) = for_workers.clone();
            move |next_step: &mut dyn FnMut() -> bool| {
                work(&shared, index, &barrier, &source, next_step);
            }
        });
        let threads = started.map_err(|source| ModelError::Threads { n: threads, source })?;
        Ok(Self { config, view, threads, shared, workspace: Workspace::default() })
    }

    /// Puts `prompt` into the caches of `slots` and its last `logits`, `[slots, V]`, at the first of
    /// them, which has the first `n_kept` tokens already.
    pub(super) fn prefill(
        &mut self,
        slots: &[usize],
        (n_kept, prompt): (usize, &[u32]),
        logits: &mut [f32],
    ) -> Result<()> {
        match &self.view {
            View::Params(weights) if n_kept == 0 && prompt.len() > PREFILL_CHUNK => {
                let workspace = &mut self.workspace;
                prefill_at_once(
                    self.config,
                    weights,
                    &self.shared,
                    workspace,
                    slots[0],
                    prompt,
                    logits,
                );
            }
            _ => self.prefill_in_chunks(slots[0], (n_kept, prompt), logits)?,
        }
        for mut shard in self.shared.shards() {
            slots[1..].iter().for_each(|slot| shard.copy(slots[0], *slot, prompt.len()));
        }
        Ok(())
    }

    /// Prefills with the decode kernels.
    fn prefill_in_chunks(
        &self,
        slot: usize,
        (n_kept, prompt): (usize, &[u32]),
        logits: &mut [f32],
    ) -> Result<()> {
        let row = |(position, &id)| Row { slot, id, position };
        let rows: Vec<Row> = prompt.iter().enumerate().skip(n_kept).map(row).collect();
        for chunk in rows.chunks(PREFILL_CHUNK) {
            let is_last = chunk.last().is_some_and(|row| row.position + 1 == prompt.len());
            self.run(StepRows { rows: chunk.to_vec(), n_logits: usize::from(is_last) })?;
        }
        self.gather_logits(logits);
        Ok(())
    }

    /// Appends the rows to their sequences and leaves each row's logits at its slot, `[slots, V]`.
    pub(super) fn decode(&mut self, rows: Vec<Row>, logits: &mut [f32]) -> Result<()> {
        self.run(StepRows { n_logits: rows.len(), rows })?;
        self.gather_logits(logits);
        Ok(())
    }

    /// Lets all workers make a step.
    fn run(&self, step: StepRows) -> Result<()> {
        let buffers = &self.shared.buffers;
        *buffers.step.write().unwrap_or_else(PoisonError::into_inner) = step;
        self.threads.start_step();
        let mut shard = self.shared.shard(0);
        step_shard(&mut shard, &self.view, buffers, self.threads.barrier()).map_err(|WorkerEnded| {
            candle_core::Error::Msg("a decoding thread ended early, which is a bug".to_owned())
                .into()
        })
    }

    /// Gathers the logits of all workers.
    fn gather_logits(&self, all: &mut [f32]) {
        let v = self.config.vocab_size;
        let step = self.shared.buffers.step.read().unwrap_or_else(PoisonError::into_inner);
        let rows = &step.rows[step.rows.len() - step.n_logits..];
        for (shard, logits) in self.shared.shards().zip(&self.shared.buffers.logits) {
            let own = shard.vocab.clone();
            let logits = logits.read().unwrap_or_else(PoisonError::into_inner);
            for (row, logits) in rows.iter().zip(logits.chunks_exact(own.len().max(1))) {
                all[row.slot * v..(row.slot + 1) * v][own.clone()].copy_from_slice(logits);
            }
        }
    }
}

/// Prefills a long `prompt` in one pass of blocked products.
fn prefill_at_once(
    config: &ModelConfig,
    weights: &ModelParts<HostSlice<'_>>,
    shared: &Shared,
    workspace: &mut Workspace,
    slot: usize,
    prompt: &[u32],
    logits: &mut [f32],
) {
    let (t, c, weights) = (prompt.len(), config.n_embd, weights.slices());
    let dims = Dims::new(config, 1, t, shared.shards.len());
    workspace.fit(&dims, config.n_layer, false);
    let pass = Pass::without_gradients(prompt, dims);
    pass.forward(&weights, workspace, |layer, qkv| {
        for mut shard in shared.shards() {
            for (position, row) in qkv.chunks_exact(3 * c).enumerate() {
                shard.put_packed(layer, slot, position, row);
            }
        }
    });
    let (last, v) = (&workspace.norm_f.out[(t - 1) * c..], config.vocab_size);
    decode::times_table(last, 1, weights.wte, &mut logits[slot * v..(slot + 1) * v]);
}
