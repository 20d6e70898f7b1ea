//! Several processes, called ranks, that make the run of one.
//!
//! Rank 0 decides what is done and when, writes the files and reports; the others follow its orders (see
//! `trainer/follow.rs`). A step divides its windows among the ranks and adds up the gradients, so every
//! rank makes the same step on the same weights. What connects the ranks is a [`Collective`].

mod collective;
mod error;
mod hash;
mod messages;
mod part;
mod sums;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tinygpt_kernels::profile::{Op, timed};
use tinygpt_model::{GradientSink, Grads};

pub use self::collective::{Collective, Lost};
pub use self::error::{Failure, RanksError};
pub(crate) use self::hash::hash_of;
pub(crate) use self::messages::{BatchLoss, EvalPart, Order, PartLosses, StepPart};
pub(crate) use self::part::{Piece, pieces};
use self::sums::Sums;

/// How long a rank waits while another one prepares data or saves.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// The ranks of a run; without a [`Collective`], one process that trains alone.
#[derive(Debug, Default)]
pub struct Ranks {
    collective: Option<Box<dyn Collective>>,
    timeout: Duration,
    /// Whether rank 0 has announced that the next order takes long.
    is_waiting: bool,
    /// Steps made, for messages.
    step: u64,
}

impl Ranks {
    /// One process.
    pub fn alone() -> Self {
        Self::default()
    }

    /// All ranks that `collective` connects.
    pub fn new(collective: Box<dyn Collective>) -> Self {
        Self { collective: Some(collective), timeout: LONG, ..Self::default() }
    }

    /// The number of this process.
    pub fn rank(&self) -> usize {
        self.collective.as_ref().map_or(0, |collective| collective.rank())
    }

    /// How many there are.
    pub fn n_ranks(&self) -> usize {
        self.collective.as_ref().map_or(1, |collective| collective.n_ranks())
    }

    /// Whether this is rank 0, which decides and writes.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether there is no other rank.
    pub fn is_alone(&self) -> bool {
        self.n_ranks() == 1
    }

    /// From now on, a rank that does not answer within `timeout` is lost.
    pub(crate) fn expect_answers_within(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// The steps made so far, for messages.
    pub(crate) fn at_step(&mut self, step: u64) {
        self.step = step;
    }

    /// The result of this rank, unless another one has failed: then its error, as `describe` puts it. All
    /// ranks call this together, so that none continues alone.
    ///
    /// # Errors
    /// [`RanksError::Failed`] of the first rank that has failed; rank 0 keeps an error of its own.
    pub fn agree<T, E: From<RanksError>>(
        &mut self,
        result: Result<T, E>,
        describe: impl FnOnce(&E) -> Failure,
    ) -> Result<T, E> {
        if self.is_alone() {
            return result;
        }
        let failures = self.gather(&result.as_ref().err().map(describe))?;
        if self.is_first() && result.is_err() {
            return result;
        }
        let first = failures.into_iter().enumerate().find_map(|(rank, it)| Some((rank, it?)));
        match first {
            Some((rank, failure)) => Err(RanksError::Failed { rank, failure }.into()),
            None => result,
        }
    }

    /// Checks that all ranks have the same `facts` about the run, by key.
    ///
    /// # Errors
    /// [`RanksError::Differs`].
    pub fn check_same(&mut self, facts: &Map<String, Value>) -> Result<(), RanksError> {
        let all = self.gather(facts)?;
        let Some((ours, others)) = all.split_first() else { return Ok(()) };
        for (rank, theirs) in (1..).zip(others) {
            let keys = ours.keys().chain(theirs.keys());
            if let Some(key) = keys.into_iter().find(|key| ours.get(*key) != theirs.get(*key)) {
                let text = |facts: &Map<String, Value>| match facts.get(key) {
                    None | Some(Value::Null) => "not set".to_owned(),
                    Some(Value::String(text)) => text.clone(),
                    Some(value) => value.to_string(),
                };
                let (theirs, ours) = (text(theirs), text(ours));
                return Err(RanksError::Differs { rank, key: key.clone(), theirs, ours });
            }
        }
        Ok(())
    }

    /// Gives every rank the `record` of each.
    pub(crate) fn gather<T: Serialize + DeserializeOwned>(
        &mut self,
        record: &T,
    ) -> Result<Vec<T>, RanksError> {
        let record = serde_json::to_vec(record).unwrap_or_default();
        let timeout = self.timeout;
        let gathered = timed(Op::RankWait, 1, 0, || match &mut self.collective {
            Some(collective) => collective.gather(&record, timeout),
            None => Ok(vec![record]),
        });
        let records = gathered.map_err(self.lost())?;
        let read = |(rank, record): (usize, Vec<u8>)| {
            serde_json::from_slice(&record).map_err(|_| RanksError::Unreadable { rank })
        };
        records.into_iter().enumerate().map(read).collect()
    }

    /// Rank 0 gives an order; the others follow it.
    pub(crate) fn order(&mut self, order: Order) -> Result<(), RanksError> {
        if !self.is_alone() {
            self.gather(&Some(order))?;
        }
        Ok(())
    }

    /// The next order of rank 0.
    pub(crate) fn next_order(&mut self) -> Result<Order, RanksError> {
        let timeout = self.timeout;
        if self.is_waiting {
            self.timeout = LONG;
        }
        let orders = self.gather(&None::<Order>);
        self.timeout = timeout;
        let order = orders?.into_iter().next().flatten();
        let order = order.ok_or(RanksError::Unreadable { rank: 0 })?;
        self.is_waiting = order == Order::Wait;
        Ok(order)
    }

    /// Replaces the values of all arrays by those of rank 0.
    pub(crate) fn broadcast(&mut self, values: &mut [f32]) -> Result<(), RanksError> {
        let timeout = self.timeout;
        let Some(collective) = &mut self.collective else { return Ok(()) };
        collective.broadcast(values, timeout).map_err(self.lost())
    }

    /// Gives `work` a receiver of the arrays that it completes, and puts their sums over all ranks into the `arrays`
    /// that it leaves.
    pub(crate) fn sum_while<T, E: From<RanksError>>(
        &mut self,
        arrays: &mut Grads,
        work: impl FnOnce(&mut Grads, Option<&mut dyn GradientSink>) -> Result<T, E>,
    ) -> Result<T, E> {
        let (lost, timeout) = (self.lost(), self.timeout);
        let Some(collective) = &mut self.collective else { return work(arrays, None) };
        let mut sums = Sums::new(collective.as_mut());
        let result = work(arrays, Some(&mut sums))?;
        if let Grads::Host(arrays) = arrays {
            sums.finish(arrays, timeout).map_err(lost)?;
        }
        Ok(result)
    }

    fn lost(&self) -> impl Fn(Lost) -> RanksError + use<> {
        let step = self.step;
        move |lost| RanksError::Lost { lost, step }
    }
}
