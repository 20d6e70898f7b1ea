//! Decoding on the CPU, over the kernels: weights are read where they lie, keys and values are
//! written into the cache in place, and nothing is allocated per token.
//!
//! A text is read in one pass of the crate's `fused.rs` whatever its length and however many
//! sequences continue it: the others get a copy of its keys and values. After that each step is one row per
//! sequence, made by a few threads together: `part.rs` says what each of them does, `crew.rs` how
//! they wait for each other.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;
use rayon::prelude::*;
use tinygpt_kernels::{decode, quantized};

use super::Row;
use super::crew::{Crew, Meeting};
use super::part::{Board, Part, Step};
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
    /// The pass over a text; its memory is freed with the decoder.
    workspace: Workspace,
}

/// Up to so many tokens a text is read by the kernels of decoding: to lay a matrix out for blocked
/// products would take longer than the products do.
const SHORT: usize = 32;

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
        f.debug_struct("FusedDecoder").finish_non_exhaustive()
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
    /// `in_bytes` lets the threads read 8-bit weights, which they make of the others now.
    pub(super) fn new(
        params: &'a Params,
        threads: usize,
        n_slots: usize,
        in_bytes: bool,
    ) -> Result<Self> {
        let config = params.config();
        let weights = params.read()?;
        // Whole blocks, so that the rounding is the same on any number of threads; or cache lines.
        let unit = if in_bytes { quantized::BLOCK } else { 16 };
        let mut parts: Vec<Part> =
            (0..threads).map(|i| Part::new(config, (i, threads), n_slots, unit)).collect();
        if in_bytes {
            let slices = weights.slices();
            parts.par_iter_mut().for_each(|part| part.quantize(&slices));
        }
        let parts = parts.into_iter().map(Mutex::new).collect();
        let shared = Arc::new(Shared { board: Board::new(threads), parts });
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
            weights,
            crew: crew.map_err(refused)?,
            shared,
            workspace: Workspace::default(),
        })
    }

    /// Reads `text` into the caches of `slots` and leaves the `logits` after it, `[slots, V]`, at the
    /// first of them.
    pub(super) fn read(&mut self, slots: &[usize], text: &[u32], logits: &mut [f32]) -> Result<()> {
        if text.len() <= SHORT {
            let row = |(position, &id)| Row { slot: slots[0], id, position };
            self.make(Step { rows: text.iter().enumerate().map(row).collect(), n_logits: 1 })?;
            self.gather_logits(logits);
        } else {
            self.pass(slots[0], text, logits);
        }
        for mut part in self.shared.parts() {
            slots[1..].iter().for_each(|slot| part.copy(slots[0], *slot, text.len()));
        }
        Ok(())
    }

    /// Reads a long `text` in one pass of blocked products.
    fn pass(&mut self, slot: usize, text: &[u32], logits: &mut [f32]) {
        let config = self.params.config();
        let (t, c) = (text.len(), config.n_embd);
        let dims = Dims::new(config, 1, t, self.shared.parts.len());
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
        let (last, v) = (&self.workspace.norm_f.out[(t - 1) * c..], config.vocab_size);
        decode::times_table(last, 1, weights.wte, &mut logits[slot * v..(slot + 1) * v]);
    }

    /// Appends the rows to their sequences and leaves each row's logits at its slot, `[slots, V]`.
    pub(super) fn step(&mut self, rows: Vec<Row>, logits: &mut [f32]) -> Result<()> {
        self.make(Step { n_logits: rows.len(), rows })?;
        self.gather_logits(logits);
        Ok(())
    }

    /// Lets all threads make a step.
    fn make(&self, step: Step) -> Result<()> {
        let board = &self.shared.board;
        *board.step.write().unwrap_or_else(PoisonError::into_inner) = step;
        self.crew.begin_step();
        if !self.shared.part(0).step(&self.weights, board, self.crew.meeting()) {
            let message = "a decoding thread ended early, which is a bug".to_owned();
            return Err(candle_core::Error::Msg(message).into());
        }
        Ok(())
    }

    /// Brings the logits of all threads together.
    fn gather_logits(&self, all: &mut [f32]) {
        let v = self.params.config().vocab_size;
        let step = self.shared.board.step.read().unwrap_or_else(PoisonError::into_inner);
        let rows = &step.rows[step.rows.len() - step.n_logits..];
        for (part, logits) in self.shared.parts().zip(&self.shared.board.logits) {
            let own = part.vocab.clone();
            let logits = logits.read().unwrap_or_else(PoisonError::into_inner);
            for (row, logits) in rows.iter().zip(logits.chunks_exact(own.len().max(1))) {
                all[row.slot * v..(row.slot + 1) * v][own.clone()].copy_from_slice(logits);
            }
        }
    }
}
