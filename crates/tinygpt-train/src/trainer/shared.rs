//! Steps and evaluations that several ranks make together.
//!
//! A rank computes its windows of a step with the dropout masks of the whole batch. Losses are added up in
//! the order of the ranks, gradients by the [`Collective`](crate::ranks::Collective) while the last of its backward
//! passes continues with the blocks below. Batches of an
//! evaluation are divided, and their losses added up in the order of one process.

use std::ops::Range;

use tinygpt_data::Batch;
use tinygpt_model::{Backend, GradientSink, Grads, ModelError, Part, Store, mean_loss};

use super::Trainer;
use super::follow::first_failure;
use super::step::Gradient;
use crate::error::TrainError;
use crate::evaluate::SplitLoss;
use crate::ranks::{EvalPart, PartLosses, Piece, StepPart, pieces};
use crate::step::{share_of_step, token_batch};
use crate::stop::StopFlag;

/// The windows of one rank in a step.
#[derive(Debug, Default)]
struct OwnPart {
    /// The learned targets of each micro-batch, those of other ranks included.
    n_learned: Vec<usize>,
    /// The pieces that are computed.
    losses: PartLosses,
    /// The next piece.
    read: Option<(Piece, Batch)>,
}

impl Trainer {
    /// The gradient of a step of all ranks, in `grads` of each.
    pub(super) fn shared_gradient(
        &mut self,
        windows: &Range<u64>,
        stop: &StopFlag,
    ) -> Result<Gradient, TrainError> {
        let (mine, mut own) = match self.all_but_last(windows, stop) {
            Ok(part) => part,
            Err(error) => (StepPart::Failed(error.failure()), OwnPart::default()),
        };
        // From now on a rank cannot stop alone, because the others wait for its gradients.
        let parts = self.ranks.gather(&mine)?;
        first_failure(parts.iter().map(|part| match part {
            StepPart::Failed(failure) => Some(failure),
            StepPart::Ready | StepPart::BrokenOff(_) => None,
        }))?;
        for part in parts {
            if let StepPart::BrokenOff(signal) = part {
                // It may have reached another rank only.
                stop.raise(signal);
                return Ok(Gradient::BrokenOff);
            }
        }
        self.compute(&mut own, true)?;
        let mut sums = vec![0.0; self.config.gradient_accumulation_steps];
        for losses in self.ranks.gather(&own.losses)? {
            losses.iter().for_each(|(i, bits)| sums[*i] += f64::from_bits(*bits));
        }
        let mean = |(sum, n): (f64, usize)| ((sum / n.max(1) as f64) as f32, n);
        let loss = mean_loss(&sums.into_iter().zip(own.n_learned).map(mean).collect::<Vec<_>>());
        if !loss.is_finite() {
            return Ok(Gradient::NotFinite(format!("the loss is {loss}")));
        }
        match self.grads.global_norm(self.gpt.params()) {
            Ok(norm) => Ok(Gradient::Computed { loss, norm }),
            Err(ModelError::NonFinite { what }) => {
                Ok(Gradient::NotFinite(format!("{what} is not finite")))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Puts the gradient of all windows of this rank but those of its last piece into `grads`, and reads the last ones.
    fn all_but_last(
        &mut self,
        windows: &Range<u64>,
        stop: &StopFlag,
    ) -> Result<(StepPart, OwnPart), TrainError> {
        debug_assert_eq!(self.gpt.backend(), Backend::Cpu);
        let (n_batches, batch_size) =
            (self.config.gradient_accumulation_steps, self.config.batch_size);
        let first_window = |micro_batch: usize| windows.start + (micro_batch * batch_size) as u64;
        let count = |micro_batch| self.loader.n_learned(first_window(micro_batch), batch_size);
        let n_learned = (0..n_batches).map(count).collect::<Result<Vec<_>, _>>()?;
        let mut own = OwnPart { n_learned, ..OwnPart::default() };
        let mine = pieces((n_batches, batch_size), self.ranks.rank(), self.ranks.n_ranks());
        for piece in mine {
            if own.read.is_some() {
                self.compute(&mut own, false)?;
                if let Some(signal) = stop.signal() {
                    return Ok((StepPart::BrokenOff(signal), own));
                }
            }
            let window = first_window(piece.micro_batch) + piece.first as u64;
            own.read = Some((piece, self.loader.windows_from(window, piece.len)?));
        }
        Ok((StepPart::Ready, own))
    }

    /// Adds the gradient of the piece that was read to `grads`. If it is the last one, the gradients of all ranks are
    /// added up meanwhile.
    fn compute(&mut self, own: &mut OwnPart, is_last: bool) -> Result<(), TrainError> {
        let Some((Piece { micro_batch, first, .. }, batch)) = own.read.take() else {
            return Ok(());
        };
        let dropout = self.dropout_key(micro_batch as u64);
        let n_learned = own.n_learned[micro_batch];
        let part = Part { first, of: self.config.batch_size, n_learned };
        let scale = share_of_step(n_learned, own.n_learned.iter().sum());
        let store = if own.losses.is_empty() { Store::Overwrite } else { Store::Accumulate };
        let (batch, gpt) = (token_batch(&batch), &mut self.gpt);
        let mut work = |grads: &mut Grads, sink: Option<&mut dyn GradientSink>| {
            let batch = (&batch, part);
            gpt.accumulate_part(batch, dropout, scale, store, grads, sink).map_err(TrainError::from)
        };
        let sum = match is_last {
            true => self.ranks.sum_while(&mut self.grads, work)?,
            false => work(&mut self.grads, None)?,
        };
        own.losses.push((micro_batch, sum.to_bits()));
        Ok(())
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
