//! Several threads on one batch, in one of two ways.
//!
//! *Workers* each take some of the sequences, with gradients of their own and single-threaded
//! kernels. They synchronize once per step, when the gradients are added, and each worker's
//! activations stay in its core's cache. That is faster as long as the additional gradients are
//! small. Otherwise one pass takes the whole batch and its kernels divide their rows. Either way
//! results depend on the number of threads alone, never on timing.

use std::ops::Range;

use rayon::prelude::*;
use tinygpt_kernels::profile::{Op, timed};
use tinygpt_kernels::{Store, accumulate};

use crate::batch::{Part, TokenBatch, check_ids, mean, scale_of_sum};
use crate::cpu::step::{Pass, WeightGrads, Weights};
use crate::cpu::workspace::Workspace;
use crate::error::Result;
use crate::layers::dropout::{Dropout, DropoutKey};
use crate::layers::pass::Dims;
use crate::params::Params;
use crate::parts::ModelParts;

/// The gradients that all workers but the first may hold together, in elements: 256 MiB.
const WORKER_GRADIENTS: usize = 64 << 20;

/// The memory of the CPU path, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Workers(Vec<Worker>);

/// One worker's activations and, except for the first, its own gradients.
#[derive(Debug, Default)]
struct Worker {
    workspace: Workspace,
    grads: Vec<Vec<f32>>,
}

impl Workers {
    /// Makes room for `n_workers`; each but the first gets gradients shaped as `grads`.
    fn make_room(&mut self, n_workers: usize, grads: &[Vec<f32>]) {
        self.0.resize_with(n_workers.max(self.0.len()), Worker::default);
        for worker in &mut self.0[1..n_workers] {
            worker.grads.resize_with(grads.len(), Vec::new);
            for (own, grad) in worker.grads.iter_mut().zip(grads) {
                own.resize(grad.len(), 0.0);
            }
        }
    }

    /// Writes or adds the gradient of `task` to `grads`; returns the summed loss of its batch in nats.
    pub(crate) fn backward(&mut self, task: BatchTask<'_>, grads: &mut [Vec<f32>]) -> Result<f64> {
        let BatchTask { params, threads, batch, store, .. } = task;
        let config = params.config();
        batch.validate(config)?;
        let guards = params.read()?;
        let weights = &guards.slices();
        let n_workers = count(config.num_params(), batch.batch_size, threads);
        self.make_room(n_workers, grads);
        let mut jobs = Vec::with_capacity(n_workers);
        let mut outer = Some(grads.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
        for (i, worker) in self.0[..n_workers].iter_mut().enumerate() {
            let Worker { workspace, grads } = worker;
            let (mut grads, store) = match outer.take() {
                Some(outer) => (outer, store),
                None => (grads.iter_mut().map(Vec::as_mut_slice).collect(), Store::Overwrite),
            };
            if store == Store::Overwrite {
                clear_added(params, grads.iter_mut().map(|grad| &mut **grad));
            }
            let grads = ModelParts::from_ordered(config, grads)?;
            let sequences = share(batch.batch_size, i, n_workers);
            jobs.push(Job { sequences, workspace, store, grads, loss: 0.0 });
        }
        let step = Step::new(&task, weights, threads / n_workers);
        let work = |job: &mut Job<'_>| job.run(&step);
        on_pool(threads, || match &mut jobs[..] {
            [one] => work(one),
            several => several.par_iter_mut().with_max_len(1).for_each(work),
        });
        let total: f64 = jobs.iter().map(|job| job.loss).sum();
        drop(jobs);
        on_pool(threads, || {
            for worker in &self.0[1..n_workers] {
                for (sum, grad) in grads.iter_mut().zip(&worker.grads) {
                    timed(Op::GradientSum, threads, 0, || accumulate::add(sum, grad, threads));
                }
            }
        });
        Ok(total)
    }

    /// The mean loss without dropout.
    pub(crate) fn loss(
        &mut self,
        params: &Params,
        threads: usize,
        batch: &TokenBatch<'_>,
    ) -> Result<f32> {
        batch.validate(params.config())?;
        let guards = params.read()?;
        let weights = guards.slices();
        let dims = Dims::new(params.config(), batch.batch_size, batch.seq_len, threads);
        let starts = batch.document_starts;
        let pass = Pass { starts, ..Pass::without_gradients(batch.inputs, dims) };
        let workspace = self.first_workspace();
        let total = on_pool(threads, || pass.loss(&weights, batch.targets, workspace));
        Ok(mean(total, batch.n_learned()))
    }

    /// All logits, `[B, T, V]`.
    pub(crate) fn logits(
        &mut self,
        params: &Params,
        threads: usize,
        ids: &[u32],
        (b, t): (usize, usize),
    ) -> Result<Vec<f32>> {
        check_ids(params.config(), ids, b, t)?;
        let guards = params.read()?;
        let weights = guards.slices();
        let dims = Dims::new(params.config(), b, t, threads);
        let pass = Pass::without_gradients(ids, dims);
        let workspace = self.first_workspace();
        Ok(on_pool(threads, || pass.logits(&weights, workspace)))
    }

    pub(super) fn first_workspace(&mut self) -> &mut Workspace {
        self.0.resize_with(self.0.len().max(1), Worker::default);
        &mut self.0[0].workspace
    }
}

/// What is computed of a batch.
#[derive(Clone, Copy)]
pub(crate) struct BatchTask<'a> {
    pub(crate) params: &'a Params,
    pub(crate) threads: usize,
    pub(crate) batch: &'a TokenBatch<'a>,
    /// The larger batch that `batch` belongs to.
    pub(crate) part: Part,
    pub(crate) dropout: Option<DropoutKey>,
    /// Factor of the gradient of the mean loss of the larger batch.
    pub(crate) scale: f32,
    /// What is done to the gradients that are there.
    pub(crate) store: Store,
}

/// What all workers of a step share.
pub(super) struct Step<'a> {
    pub(super) weights: &'a Weights<'a>,
    batch: &'a TokenBatch<'a>,
    /// Sequences of the larger batch before these, for the dropout masks.
    first_sequence: usize,
    dropout: Option<Dropout>,
    /// Factor of the gradient of the *summed* losses.
    pub(super) scale: f32,
    /// Sizes of the whole batch, threads of one worker.
    dims: Dims,
}

impl<'a> Step<'a> {
    pub(super) fn new(task: &BatchTask<'a>, weights: &'a Weights<'a>, threads: usize) -> Self {
        let BatchTask { params, batch, part, .. } = *task;
        let config = params.config();
        Self {
            weights,
            batch,
            first_sequence: part.first,
            dropout: Dropout::new(config.dropout, task.dropout),
            scale: scale_of_sum(task.scale, part.n_learned),
            dims: Dims::new(config, batch.batch_size, batch.seq_len, threads),
        }
    }

    /// The pass over some of the sequences, and its targets.
    pub(super) fn pass(&self, sequences: &Range<usize>, store: Store) -> (Pass<'a>, &'a [u32]) {
        let t = self.dims.t;
        let tokens = sequences.start * t..sequences.end * t;
        let pass = Pass {
            inputs: &self.batch.inputs[tokens.clone()],
            starts: self.batch.document_starts.map(|starts| &starts[tokens.clone()]),
            dims: Dims { b: sequences.len(), ..self.dims },
            dropout: self.dropout,
            first_sequence: self.first_sequence + sequences.start,
            store,
        };
        (pass, &self.batch.targets[tokens])
    }
}

/// One worker's part of a step.
struct Job<'a> {
    /// Which sequences of the batch.
    sequences: Range<usize>,
    workspace: &'a mut Workspace,
    /// What it does to the gradients of matrices; the others are always added to.
    store: Store,
    grads: WeightGrads<'a>,
    /// Sum over its tokens, in nats.
    loss: f64,
}

impl Job<'_> {
    fn run(&mut self, step: &Step<'_>) {
        let (pass, targets) = step.pass(&self.sequences, self.store);
        let grads = &mut self.grads;
        self.loss = pass.train(step.weights, targets, step.scale, self.workspace, grads);
    }
}

/// Clears the gradients that a pass only ever adds to: all but those of matrices that one product
/// writes.
pub(super) fn clear_added<'g>(params: &Params, grads: impl Iterator<Item = &'g mut [f32]>) {
    for (spec, grad) in params.specs().iter().zip(grads) {
        if !spec.kind.is_multiplied() {
            grad.fill(0.0);
        }
    }
}

/// How many workers train a model of `n_params` on `batch_size` sequences.
pub(crate) fn count(n_params: usize, batch_size: usize, threads: usize) -> usize {
    let n_workers = threads.min(batch_size).max(1);
    if n_params.saturating_mul(n_workers - 1) <= WORKER_GRADIENTS { n_workers } else { 1 }
}

/// The `i`-th of `n` parts of `len`, as equal as can be.
fn share(len: usize, i: usize, n: usize) -> Range<usize> {
    len * i / n..len * (i + 1) / n
}

/// Runs `work` on a thread of rayon's pool if several threads are used, so that dividing work does
/// not start from outside the pool; otherwise in the calling thread.
pub(super) fn on_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    if threads > 1 { rayon::scope(|_| work()) } else { work() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_stop_where_their_gradients_would_take_too_much() {
        assert_eq!(count(64 << 20, 8, 2), 2, "one more set of gradients fits exactly");
        assert_eq!(count((64 << 20) + 1, 8, 2), 1);
        assert_eq!(count(11 << 20, 8, 16), 1, "seven more sets do not fit");
        assert_eq!(count(1 << 20, 8, 16), 8, "no more workers than sequences");
        assert_eq!(count(usize::MAX, 1, 16), 1, "one worker needs no further gradients");
    }
}
