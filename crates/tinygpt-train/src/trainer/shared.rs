//! Steps and evaluations that several ranks make together.
//!
//! A rank computes its windows of a step with the dropout masks of the whole batch. Losses are added up in
//! the order of the ranks, gradients by the [`Collective`](crate::ranks::Collective). Batches of an
//! evaluation are divided, and their losses added up in the order of one process.

use std::ops::Range;

use tinygpt_model::{Backend, Grads, ModelError, Part, Store, mean_loss};

use super::Trainer;
use super::follow::first_failure;
use super::step::Gradient;
use crate::error::TrainError;
use crate::evaluate::SplitLoss;
use crate::ranks::{EvalPart, Piece, StepPart, pieces};
use crate::step::{share_of_step, token_batch};
use crate::stop::StopFlag;

impl Trainer {
    /// The gradient of a step of all ranks, in `grads` of each.
    pub(super) fn shared_gradient(
        &mut self,
        windows: &Range<u64>,
        stop: &StopFlag,
    ) -> Result<Gradient, TrainError> {
        let (mine, n_learned) = match self.own_part(windows, stop) {
            Ok(part) => part,
            Err(error) => (StepPart::Failed(error.failure()), Vec::new()),
        };
        let parts = self.ranks.gather(&mine)?;
        first_failure(parts.iter().map(|part| match part {
            StepPart::Failed(failure) => Some(failure),
            StepPart::Done(_) | StepPart::BrokenOff(_) => None,
        }))?;
        let mut sums = vec![0.0; self.config.gradient_accumulation_steps];
        for part in parts {
            match part {
                StepPart::Done(losses) => {
                    losses.iter().for_each(|(i, bits)| sums[*i] += f64::from_bits(*bits));
                }
                StepPart::BrokenOff(signal) => {
                    // It may have reached another rank only.
                    stop.raise(signal);
                    return Ok(Gradient::BrokenOff);
                }
                StepPart::Failed(_) => {}
            }
        }
        let mean = |(sum, n): (f64, usize)| ((sum / n.max(1) as f64) as f32, n);
        let loss = mean_loss(&sums.into_iter().zip(n_learned).map(mean).collect::<Vec<_>>());
        if !loss.is_finite() {
            return Ok(Gradient::NotFinite(format!("the loss is {loss}")));
        }
        if let Grads::Host(arrays) = &mut self.grads {
            self.ranks.sum(arrays)?;
        }
        match self.grads.global_norm(self.gpt.params()) {
            Ok(norm) => Ok(Gradient::Computed { loss, norm }),
            Err(ModelError::NonFinite { what }) => {
                Ok(Gradient::NotFinite(format!("{what} is not finite")))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Puts the gradient of the windows of this rank into `grads`. Also counts the learned targets of each
    /// micro-batch of all ranks.
    fn own_part(
        &mut self,
        windows: &Range<u64>,
        stop: &StopFlag,
    ) -> Result<(StepPart, Vec<usize>), TrainError> {
        debug_assert_eq!(self.gpt.backend(), Backend::Cpu);
        let (n_batches, batch_size) =
            (self.config.gradient_accumulation_steps, self.config.batch_size);
        let first_window = |micro_batch: usize| windows.start + (micro_batch * batch_size) as u64;
        let count = |micro_batch| self.loader.n_learned(first_window(micro_batch), batch_size);
        let n_learned = (0..n_batches).map(count).collect::<Result<Vec<_>, _>>()?;
        let n_in_step = n_learned.iter().sum();
        let mine = pieces((n_batches, batch_size), self.ranks.rank(), self.ranks.n_ranks());
        let mut losses = Vec::with_capacity(mine.len());
        for (i, Piece { micro_batch, first, len }) in mine.into_iter().enumerate() {
            if let Some(signal) = stop.signal().filter(|_| i > 0) {
                return Ok((StepPart::BrokenOff(signal), n_learned));
            }
            let batch = self.loader.windows_from(first_window(micro_batch) + first as u64, len)?;
            let dropout = self.dropout_key(micro_batch as u64);
            let n_learned = n_learned[micro_batch];
            let part = Part { first, of: batch_size, n_learned };
            let scale = share_of_step(n_learned, n_in_step);
            let store = if i == 0 { Store::Overwrite } else { Store::Accumulate };
            let batch = (&token_batch(&batch), part);
            let sum = self.gpt.accumulate_part(batch, dropout, scale, store, &mut self.grads)?;
            losses.push((micro_batch, sum.to_bits()));
        }
        Ok((StepPart::Done(losses), n_learned))
    }

    /// The losses on the training and the validation split, computed by all ranks. `None` if one of them is
    /// asked to stop; `on_batch` is called with the number of batches of this rank before each of them.
    pub(super) fn shared_evaluation(
        &mut self,
        stop: &StopFlag,
        on_batch: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<[SplitLoss; 2]>, TrainError> {
        let mine = match self.own_evaluation(stop, on_batch) {
            Ok(part) => part,
            Err(error) => EvalPart::Failed(error.failure()),
        };
        let parts = self.ranks.gather(&mine)?;
        first_failure(parts.iter().map(|part| match part {
            EvalPart::Failed(failure) => Some(failure),
            EvalPart::Done(_) | EvalPart::BrokenOff(_) => None,
        }))?;
        let mut batches = Vec::new();
        for part in parts {
            match part {
                EvalPart::Done(losses) => batches.extend(losses),
                EvalPart::BrokenOff(signal) => {
                    signal.into_iter().for_each(|signal| stop.raise(signal));
                    return Ok(None);
                }
                EvalPart::Failed(_) => {}
            }
        }
        batches.sort_by_key(|(number, _)| *number);
        let batches: Vec<_> = batches.into_iter().map(|(_, loss)| loss).collect();
        let (of_train, of_val) = batches.split_at(self.eval_sets[0].n_batches());
        Ok(Some([SplitLoss::of(of_train), SplitLoss::of(of_val)]))
    }

    fn own_evaluation(
        &mut self,
        stop: &StopFlag,
        on_batch: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<EvalPart, TrainError> {
        let byte_lengths = self.prepared.tokenizer.byte_lengths();
        let [train, val] = &self.eval_sets;
        let n_train = train.n_batches();
        let n_all = n_train + val.n_batches();
        let mut losses = Vec::new();
        for number in (self.ranks.rank()..n_all).step_by(self.ranks.n_ranks()) {
            if on_batch(number, n_all) || stop.signal().is_some() {
                return Ok(EvalPart::BrokenOff(stop.signal()));
            }
            let (set, batch_idx) =
                if number < n_train { (train, number) } else { (val, number - n_train) };
            losses.push((number, set.batch_loss(batch_idx, &mut self.gpt, &byte_lengths)?));
        }
        Ok(EvalPart::Done(losses))
    }
}
