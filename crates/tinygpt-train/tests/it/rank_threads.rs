//! Ranks as threads of one process: the stand-in for MPI in tests.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tinygpt_train::ranks::{Collective, Lost};

/// One rank.
#[derive(Debug)]
pub(crate) struct ThreadRank {
    rank: usize,
    table: Arc<Table>,
    /// Values whose sums were started.
    started: Vec<Vec<f32>>,
}

/// Where all ranks put their records.
#[derive(Debug)]
struct Table {
    round: Mutex<Round>,
    is_full: Condvar,
}

#[derive(Debug)]
struct Round {
    number: u64,
    records: Vec<Option<Vec<u8>>>,
    /// Those of the round before.
    complete: Vec<Vec<u8>>,
}

impl ThreadRank {
    pub(crate) fn all(n_ranks: usize) -> Vec<Self> {
        let round = Round { number: 0, records: vec![None; n_ranks], complete: Vec::new() };
        let table = Arc::new(Table { round: Mutex::new(round), is_full: Condvar::new() });
        (0..n_ranks).map(|rank| Self { rank, table: Arc::clone(&table), started: vec![] }).collect()
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap()))
}

impl Collective for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn n_ranks(&self) -> usize {
        self.table.round.lock().unwrap().records.len()
    }

    fn start_sum(&mut self, values: Vec<f32>) -> Result<(), Lost> {
        self.started.push(values);
        Ok(())
    }

    fn finish_sums(&mut self, timeout: Duration) -> Result<Vec<Vec<f32>>, Lost> {
        let mut sums = std::mem::take(&mut self.started);
        for values in &mut sums {
            let all = self.gather(&bytes(values), timeout)?;
            values.fill(0.0);
            for record in &all {
                values.iter_mut().zip(floats(record)).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok(sums)
    }

    fn broadcast(&mut self, values: &mut [f32], timeout: Duration) -> Result<(), Lost> {
        let all = self.gather(&bytes(values), timeout)?;
        values.iter_mut().zip(floats(&all[0])).for_each(|(value, first)| *value = first);
        Ok(())
    }

    fn gather(&mut self, record: &[u8], timeout: Duration) -> Result<Vec<Vec<u8>>, Lost> {
        let mut round = self.table.round.lock().unwrap();
        let number = round.number;
        round.records[self.rank] = Some(record.to_vec());
        if round.records.iter().all(Option::is_some) {
            round.complete =
                round.records.iter_mut().map(|record| record.take().unwrap()).collect();
            round.number += 1;
            self.table.is_full.notify_all();
        }
        let is_open = |round: &mut Round| round.number == number;
        let (round, _) = self.table.is_full.wait_timeout_while(round, timeout, is_open).unwrap();
        if round.number > number {
            return Ok(round.complete.clone());
        }
        let is_missing = |rank: &usize| round.records[*rank].is_none();
        let ranks = (0..round.records.len()).filter(is_missing).collect();
        Err(Lost { ranks, reason: format!("no answer within {timeout:?}") })
    }
}
