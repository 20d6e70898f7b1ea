//! Several ranks: rank 0 decides, the others follow.
//!
//! Whatever depends on a clock, a signal or a file is decided once, by rank 0, and reaches the others as
//! an order. A rank that fails reports it in its part of the work, so that all of them end.

use tinygpt_model::host;

use super::step::StepResult;
use super::{Outcome, Trainer};
use crate::error::TrainError;
use crate::ranks::{Failure, Order, RanksError, hash_of};
use crate::stop::StopFlag;

impl Trainer {
    /// The run of a rank other than 0.
    pub(super) fn follow(&mut self, stop: &StopFlag) -> Result<Outcome, TrainError> {
        loop {
            self.ranks.at_step(self.progress.step);
            let result = match self.ranks.next_order()? {
                Order::Step { lr } => self.follow_step(lr, stop),
                Order::Evaluate => self.shared_evaluation(stop, &mut |_, _| false).map(drop),
                Order::Check => self.compare_weights(),
                Order::Wait => Ok(()),
                Order::End { signal } => return self.end_as_rank_0(signal),
            };
            match result {
                Ok(()) => {}
                Err(error @ TrainError::Ranks(RanksError::Lost { .. })) => return Err(error),
                // Rank 0 has the error too, and ends the run.
                Err(_) => {}
            }
        }
    }

    fn follow_step(&mut self, lr: f64, stop: &StopFlag) -> Result<(), TrainError> {
        match self.make_step(lr, stop)? {
            StepResult::Made { .. } | StepResult::Skipped(_) => self.progress.step += 1,
            StepResult::BrokenOff => {}
        }
        Ok(())
    }

    fn end_as_rank_0(&mut self, signal: Option<usize>) -> Result<Outcome, TrainError> {
        self.ranks.agree(Ok(()), TrainError::failure)?;
        Ok(signal.map_or(Outcome::Finished, Outcome::Stopped))
    }

    /// Ends the run of the other ranks as it has ended here.
    pub(super) fn dismiss_ranks(
        &mut self,
        outcome: Result<Outcome, TrainError>,
    ) -> Result<Outcome, TrainError> {
        if matches!(outcome, Err(TrainError::Ranks(RanksError::Lost { .. }))) {
            return outcome;
        }
        let signal = match outcome {
            Ok(Outcome::Stopped(signal)) => Some(signal),
            _ => None,
        };
        self.ranks.order(Order::End { signal })?;
        self.ranks.agree(outcome, TrainError::failure)
    }

    /// Checks that all ranks have the same weights, if that is due.
    pub(super) fn check_ranks_at_interval(&mut self) -> Result<(), TrainError> {
        let step = self.progress.step;
        self.ranks.at_step(step);
        let is_due = step > 0 && step.is_multiple_of(self.config.check_ranks);
        if is_due { self.check_ranks() } else { Ok(()) }
    }

    /// Checks that all ranks have the same weights.
    ///
    /// # Errors
    /// [`RanksError::WeightsDiffer`].
    pub(super) fn check_ranks(&mut self) -> Result<(), TrainError> {
        if self.ranks.is_alone() {
            return Ok(());
        }
        self.ranks.order(Order::Check)?;
        self.compare_weights()
    }

    fn compare_weights(&mut self) -> Result<(), TrainError> {
        let mut hash = 0;
        for (_, tensor) in self.gpt.params().iter() {
            hash = hash_of(hash, &host::read(tensor)?);
        }
        let all = self.ranks.gather(&hash)?;
        match all.iter().position(|theirs| *theirs != all[0]) {
            Some(rank) => Err(RanksError::WeightsDiffer { rank, step: self.progress.step }.into()),
            None => Ok(()),
        }
    }
}

/// The error of the first rank that has one.
pub(super) fn first_failure<'a>(
    failures: impl Iterator<Item = Option<&'a Failure>>,
) -> Result<(), RanksError> {
    let found = failures.enumerate().find_map(|(rank, failure)| Some((rank, failure?.clone())));
    found.map_or(Ok(()), |(rank, failure)| Err(RanksError::Failed { rank, failure }))
}
