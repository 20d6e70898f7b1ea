//! Decoding on the CPU, over the kernels: weights are read where they lie, keys and values are
//! written into the cache in place, and nothing is allocated per token.
//!
//! A prompt is one pass of the crate's `fused.rs` whatever its length and however many sequences
//! continue it: the others get a copy of its keys and values. After that each step is one row per
//! sequence, made by a few threads together: `part.rs` says what each of them does, `crew.rs` how
//! they wait for each other.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;
use tinygpt_kernels::decode;

use super::crew::{Crew, Meeting};
use super::part::{Board, Part};
use crate::batch::check_ids;
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::fused::Pass;
use crate::host::{self, HostSlice};
use crate::params::{ModelParts, Params};
use crate::workspace::{Dims, Workspace};

/// See [`crate::Decoder`].
pub(super) struct FusedDecoder<'a> {
    params: &'a Params,
    weights: ModelParts<HostSlice<'a>>,
    crew: Crew,
    shared: Arc<Shared>,
    n_seqs: usize,
    n_cached: usize,
    /// The cache slots of the sequences that go on.
    slots: Vec<usize>,
    /// The prompt's pass; its memory is freed with the decoder.
    workspace: Workspace,
    /// `[slots, V]`.
    logits: Vec<f32>,
}

/// What the threads reach.
struct Shared {
    board: Board,
    parts: Vec<Mutex<Part>>,
}

impl Shared {
    fn part(&self, index: usize) -> MutexGuard<'_, Part> {
        self.parts[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&self) -> impl Iterator<Item = MutexGuard<'_, Part>> {
        (0..self.parts.len()).map(|index| self.part(index))
    }
}

impl fmt::Debug for FusedDecoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FusedDecoder")
            .field("slots", &self.slots)
            .field("n_cached", &self.n_cached)
            .finish_non_exhaustive()
    }
}

/// A helper's life: its own view of the weights, then one step after the other.
fn help(
    shared: &Shared,
    index: usize,
    meeting: &Meeting,
    (config, tensors): (&ModelConfig, &[Tensor]),
    next_step: &mut dyn FnMut() -> bool,
) {
    let slices: Result<Vec<_>> = tensors.iter().map(host::read).collect();
    let Ok(weights) = slices.and_then(|slices| ModelParts::from_ordered(config, slices)) else {
        return;
    };
    while next_step() && shared.part(index).step(&weights, &shared.board, meeting) {}
}

impl<'a> FusedDecoder<'a> {
    pub(super) fn new(params: &'a Params, threads: usize, n_seqs: usize) -> Result<Self> {
        if n_seqs == 0 {
            return Err(ModelError::request("a decoder needs at least one sequence"));
        }
        let config = params.config();
        let parts = (0..threads).map(|i| Mutex::new(Part::new(config, i, threads, n_seqs)));
        let shared = Arc::new(Shared { board: Board::new(threads), parts: parts.collect() });
        let helped = Arc::new((
            Arc::clone(&shared),
            config.clone(),
            params.iter().map(|(_, tensor)| tensor.clone()).collect::<Vec<_>>(),
        ));
        let crew = Crew::start(threads, move |index, meeting| {
            let helped = Arc::clone(&helped);
            move |next_step: &mut dyn FnMut() -> bool| {
                let (shared, config, tensors) = &*helped;
                help(shared, index, &meeting, (config, tensors), next_step);
            }
        });
        let refused = |error| {
            ModelError::request(format!(
                "the system refuses {threads} threads ({error}): ask for fewer"
            ))
        };
        Ok(Self {
            params,
            weights: params.read()?,
            crew: crew.map_err(refused)?,
            shared,
            n_seqs,
            n_cached: 0,
            slots: Vec::new(),
            workspace: Workspace::default(),
            logits: Vec::new(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.n_cached
    }

    pub(super) fn logits(&self, row: usize) -> &[f32] {
        let v = self.params.config().vocab_size;
        self.logits.get(row * v..(row + 1) * v).unwrap_or(&[])
    }

    pub(super) fn prefill(&mut self, prompt: &[u32]) -> Result<()> {
        self.slots.clear();
        self.read(prompt, 0)?;
        self.shared.parts().for_each(|mut part| part.share_first(self.n_seqs, prompt.len()));
        self.slots.extend(0..self.n_seqs);
        let v = self.params.config().vocab_size;
        self.logits.resize(self.n_seqs * v, 0.0);
        let (first, others) = self.logits.split_at_mut(v);
        others.chunks_exact_mut(v).for_each(|logits| logits.copy_from_slice(first));
        Ok(())
    }

    pub(super) fn refill(&mut self, texts: &[&[u32]]) -> Result<()> {
        for (row, text) in texts.iter().enumerate() {
            self.read(text, row)?;
        }
        Ok(())
    }

    /// Reads `text` into the cache of row `row` and leaves its logits there.
    fn read(&mut self, text: &[u32], row: usize) -> Result<()> {
        let config = self.params.config();
        check_ids(config, text, 1, text.len())?;
        let (t, c, v) = (text.len(), config.n_embd, config.vocab_size);
        let threads = self.shared.parts.len();
        let dims = Dims::new(config, 1, t, threads);
        let slot = self.slots.get(row).copied().unwrap_or(row);
        let weights = self.weights.slices();
        self.workspace.fit(&dims, config.n_layer, false);
        let pass = Pass::without_gradients(text, dims);
        pass.forward(&weights, &mut self.workspace, |layer, qkv| {
            for mut part in self.shared.parts() {
                for (position, row) in qkv.chunks_exact(3 * c).enumerate() {
                    part.put_packed(layer, slot, position, row);
                }
            }
        });
        self.n_cached = t;
        let last = &self.workspace.norm_f.out[(t - 1) * c..];
        self.logits.resize(self.logits.len().max((row + 1) * v), 0.0);
        decode::times_table(last, 1, weights.wte, &mut self.logits[row * v..(row + 1) * v]);
        Ok(())
    }

    pub(super) fn n_seqs(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn keep(&mut self, rows: &[usize]) {
        self.logits.clear();
        self.slots = rows.iter().map(|row| self.slots[*row]).collect();
    }

    pub(super) fn step(&mut self, ids: &[u32]) -> Result<()> {
        let config = self.params.config();
        check_ids(config, ids, self.slots.len(), 1)?;
        if self.n_cached == 0 || self.n_cached >= config.block_size {
            return Err(ModelError::request(format!(
                "the cache holds {} of {} tokens: call prefill first",
                self.n_cached, config.block_size
            )));
        }
        let board = &self.shared.board;
        let mut step = board.step.write().unwrap_or_else(PoisonError::into_inner);
        step.ids.clear();
        step.ids.extend_from_slice(ids);
        step.slots.clone_from(&self.slots);
        step.position = self.n_cached;
        drop(step);
        self.crew.begin_step();
        if !self.shared.part(0).step(&self.weights, board, self.crew.meeting()) {
            let message = "a decoding thread ended early, which is a bug".to_owned();
            return Err(candle_core::Error::Msg(message).into());
        }
        self.n_cached += 1;
        self.gather_logits();
        Ok(())
    }

    /// Brings the logits of all threads together.
    fn gather_logits(&mut self) {
        let v = self.params.config().vocab_size;
        self.logits.resize(self.slots.len() * v, 0.0);
        for (part, logits) in self.shared.parts().zip(&self.shared.board.logits) {
            let own = part.vocab.clone();
            let logits = logits.read().unwrap_or_else(PoisonError::into_inner);
            let rows = logits.chunks_exact(own.len().max(1));
            for (all, logits) in self.logits.chunks_exact_mut(v).zip(rows) {
                all[own.clone()].copy_from_slice(logits);
            }
        }
    }
}
