//! Decoding on the CPU, over the kernels: weights are read where they lie, keys and values are
//! written into the cache in place, and nothing is allocated per token.
//!
//! A text is read once, however many sequences continue it: the others get a copy of its keys and
//! values. After that each step is one row per sequence, made by a few threads together: `part.rs` says
//! what each of them does, `weights.rs` what of, `crew.rs` how they wait for each other.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tinygpt_kernels::decode;

use super::decoder::Row;
use super::barrier::{Crew, Meeting};
use super::shard::{Board, Part, Step};
use super::weights::{Source, View};
use crate::config::ModelConfig;
use crate::error::{ModelError, Result};
use crate::cpu::step::Pass;
use crate::cpu::host::HostSlice;
use crate::params::{ModelParts, Params};
use crate::decode::q8_model::QuantizedParts;
use crate::cpu::workspace::{Dims, Workspace};

/// See [`crate::Decoder`].
pub(super) struct FusedDecoder<'a> {
    config: &'a ModelConfig,
    view: View<'a>,
    crew: Crew,
    shared: Arc<Shared>,
    /// The pass over a text; its memory is freed with the decoder.
    workspace: Workspace,
}

/// Up to so many tokens a text is read by the kernels of decoding: to lay a matrix out for blocked
/// products would take longer than the products do. 8-bit weights, which only those kernels know, read
/// a longer one in lots of so many.
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
    source: &Source,
    next_step: &mut dyn FnMut() -> bool,
) {
    let Ok(weights) = source.open() else { return };
    while next_step() && weights.step(&mut shared.part(index), &shared.board, meeting) {}
}

impl<'a> FusedDecoder<'a> {
    /// Over the weights where they lie.
    pub(super) fn of_params(params: &'a Params, threads: usize, n_slots: usize) -> Result<Self> {
        let view = View::Params(params.read()?);
        Self::new(params.config(), (view, Source::of(params)), threads, n_slots)
    }

    /// Over the weights of a quantised model.
    pub(super) fn of_bytes(
        config: &'a ModelConfig,
        parts: &'a Arc<QuantizedParts>,
        threads: usize,
        n_slots: usize,
    ) -> Result<Self> {
        let weights = (View::Quantized(parts), Source::Quantized(Arc::clone(parts)));
        Self::new(config, weights, threads, n_slots)
    }

    fn new(
        config: &'a ModelConfig,
        (view, source): (View<'a>, Source),
        threads: usize,
        n_slots: usize,
    ) -> Result<Self> {
        let unit = source.unit();
        let part = |i| Mutex::new(Part::new(config, (i, threads), n_slots, unit));
        let parts = (0..threads).map(part).collect();
        let shared = Arc::new(Shared { board: Board::new(threads), parts });
        let helped = (Arc::clone(&shared), source);
        let crew = Crew::start(threads, move |index, meeting| {
            let (shared, source) = helped.clone();
            move |next_step: &mut dyn FnMut() -> bool| {
                help(&shared, index, &meeting, &source, next_step);
            }
        });
        let crew = crew.map_err(|source| ModelError::Threads { n: threads, source })?;
        Ok(Self { config, view, crew, shared, workspace: Workspace::default() })
    }

    /// Reads `text` into the caches of `slots` and leaves the `logits` after it, `[slots, V]`, at the
    /// first of them.
    pub(super) fn read(&mut self, slots: &[usize], text: &[u32], logits: &mut [f32]) -> Result<()> {
        match &self.view {
            View::Params(weights) if text.len() > SHORT => {
                let workspace = &mut self.workspace;
                pass(self.config, weights, &self.shared, workspace, (slots[0], text), logits);
            }
            _ => self.read_in_lots(slots[0], text, logits)?,
        }
        for mut part in self.shared.parts() {
            slots[1..].iter().for_each(|slot| part.copy(slots[0], *slot, text.len()));
        }
        Ok(())
    }

    /// Reads `text` by the kernels of decoding.
    fn read_in_lots(&self, slot: usize, text: &[u32], logits: &mut [f32]) -> Result<()> {
        let row = |(position, &id)| Row { slot, id, position };
        let rows: Vec<Row> = text.iter().enumerate().map(row).collect();
        for lot in rows.chunks(SHORT) {
            let is_last = lot.last().is_some_and(|row| row.position + 1 == text.len());
            self.make(Step { rows: lot.to_vec(), n_logits: usize::from(is_last) })?;
        }
        self.gather_logits(logits);
        Ok(())
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
        if !self.view.step(&mut self.shared.part(0), board, self.crew.meeting()) {
            let message = "a decoding thread ended early, which is a bug".to_owned();
            return Err(candle_core::Error::Msg(message).into());
        }
        Ok(())
    }

    /// Brings the logits of all threads together.
    fn gather_logits(&self, all: &mut [f32]) {
        let v = self.config.vocab_size;
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

/// Reads a long `text` in one pass of blocked products.
fn pass(
    config: &ModelConfig,
    weights: &ModelParts<HostSlice<'_>>,
    shared: &Shared,
    workspace: &mut Workspace,
    (slot, text): (usize, &[u32]),
    logits: &mut [f32],
) {
    let (t, c, weights) = (text.len(), config.n_embd, weights.slices());
    let dims = Dims::new(config, 1, t, shared.parts.len());
    workspace.fit(&dims, config.n_layer, false);
    let pass = Pass::without_gradients(text, dims);
    pass.forward(&weights, workspace, |layer, qkv| {
        for mut part in shared.parts() {
            for (position, row) in qkv.chunks_exact(3 * c).enumerate() {
                part.put_packed(layer, slot, position, row);
            }
        }
    });
    let (last, v) = (&workspace.norm_f.out[(t - 1) * c..], config.vocab_size);
    decode::times_table(last, 1, weights.wte, &mut logits[slot * v..(slot + 1) * v]);
}
