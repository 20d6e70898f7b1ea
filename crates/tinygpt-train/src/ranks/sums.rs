//! Sums of gradients over all ranks, each started as soon as the backward pass has completed it.
//!
//! Gradients are few large messages: each message costs a latency, whatever its length.

use std::mem;
use std::time::Duration;

use tinygpt_kernels::profile::{Op, timed};
use tinygpt_model::GradientSink;

use super::collective::{Collective, Lost};

/// Values of a message that is made of several arrays, at most: 4 MiB.
const BUCKET: usize = 1 << 20;

/// The sums of a step. Arrays that are smaller than half a bucket are copied together with their neighbours.
#[derive(Debug)]
pub(crate) struct Sums<'a> {
    collective: &'a mut dyn Collective,
    /// What the messages that were started hold, in order.
    started: Vec<Message>,
    /// The next message.
    bucket: Vec<f32>,
    /// The arrays in it, by index.
    in_bucket: Vec<(usize, Vec<f32>)>,
    error: Option<Lost>,
}

/// What a message holds.
#[derive(Debug)]
enum Message {
    /// The array of this index.
    Whole(usize),
    /// Copies of several.
    Bucket(Vec<(usize, Vec<f32>)>),
}

impl<'a> Sums<'a> {
    pub(super) fn new(collective: &'a mut dyn Collective) -> Self {
        Self { collective, started: vec![], bucket: vec![], in_bucket: vec![], error: None }
    }

    fn start(&mut self, message: Message, values: Vec<f32>) {
        if self.error.is_some() {
            return;
        }
        self.started.push(message);
        let started = timed(Op::AllReduceStart, 1, 0, || self.collective.start_sum(values));
        self.error = started.err();
    }

    fn start_bucket(&mut self) {
        if !self.in_bucket.is_empty() {
            let arrays = mem::take(&mut self.in_bucket);
            let values = mem::replace(&mut self.bucket, Vec::with_capacity(BUCKET));
            self.start(Message::Bucket(arrays), values);
        }
    }

    /// Waits for all sums and puts them into `arrays`.
    ///
    /// # Errors
    /// [`Lost`] if another rank does not take part.
    pub(super) fn finish(mut self, arrays: &mut [Vec<f32>], timeout: Duration) -> Result<(), Lost> {
        self.start_bucket();
        if let Some(error) = self.error {
            return Err(error);
        }
        let sums = timed(Op::AllReduce, 1, 0, || self.collective.finish_sums(timeout))?;
        for (message, sum) in self.started.into_iter().zip(sums) {
            match message {
                Message::Whole(index) => arrays[index] = sum,
                Message::Bucket(parts) => {
                    let mut rest = &sum[..];
                    for (index, mut array) in parts {
                        let (values, after) = rest.split_at(array.len());
                        array.copy_from_slice(values);
                        arrays[index] = array;
                        rest = after;
                    }
                }
            }
        }
        Ok(())
    }
}

impl GradientSink for Sums<'_> {
    fn ready(&mut self, index: usize, gradient: Vec<f32>) {
        if gradient.len() >= BUCKET / 2 {
            return self.start(Message::Whole(index), gradient);
        }
        if self.bucket.len() + gradient.len() > BUCKET {
            self.start_bucket();
        }
        self.bucket.extend_from_slice(&gradient);
        self.in_bucket.push((index, gradient));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Adds 1 to all values, and knows the lengths of its messages.
    #[derive(Debug, Default)]
    struct AddOne {
        lens: Vec<usize>,
        started: Vec<Vec<f32>>,
        fails_at: Option<usize>,
    }

    impl Collective for AddOne {
        fn rank(&self) -> usize {
            0
        }

        fn n_ranks(&self) -> usize {
            2
        }

        fn start_sum(&mut self, mut values: Vec<f32>) -> Result<(), Lost> {
            if self.fails_at == Some(self.lens.len()) {
                return Err(Lost { ranks: vec![1], reason: "gone".to_owned() });
            }
            self.lens.push(values.len());
            values.iter_mut().for_each(|value| *value += 1.0);
            self.started.push(values);
            Ok(())
        }

        fn finish_sums(&mut self, _: Duration) -> Result<Vec<Vec<f32>>, Lost> {
            Ok(mem::take(&mut self.started))
        }

        fn broadcast(&mut self, _: &mut [f32], _: Duration) -> Result<(), Lost> {
            Ok(())
        }

        fn gather(&mut self, record: &[u8], _: Duration) -> Result<Vec<Vec<u8>>, Lost> {
            Ok(vec![record.to_vec(); 2])
        }
    }

    fn sum(collective: &mut AddOne, arrays: &mut [Vec<f32>]) -> Result<(), Lost> {
        let mut sums = Sums::new(collective);
        for (index, array) in arrays.iter_mut().enumerate().rev() {
            sums.ready(index, mem::take(array));
        }
        sums.finish(arrays, Duration::ZERO)
    }

    #[test]
    fn every_value_is_in_one_message_of_a_bounded_number() {
        let lens = [3, BUCKET / 2 - 1, BUCKET / 2, 5, 2 * BUCKET + 7, 1, 1, BUCKET / 3, BUCKET / 3];
        let array = |(index, len): (usize, &usize)| vec![index as f32; *len];
        let mut arrays: Vec<Vec<f32>> = lens.iter().enumerate().map(array).collect();
        let mut collective = AddOne::default();
        sum(&mut collective, &mut arrays).unwrap();
        for (index, (array, len)) in arrays.iter().zip(lens).enumerate() {
            assert_eq!(array.len(), len);
            assert!(array.iter().all(|value| *value == index as f32 + 1.0), "{index}");
        }
        // Two thirds of a bucket and the two single values, the longest, half a bucket, then the rest.
        let small = 2 * (BUCKET / 3) + 2 + 5;
        assert_eq!(collective.lens, [2 * BUCKET + 7, BUCKET / 2, small, BUCKET / 2 - 1 + 3],);
    }

    #[test]
    fn the_first_error_ends_it() {
        let mut arrays = vec![vec![0.0; BUCKET]; 3];
        let mut collective = AddOne { fails_at: Some(1), ..AddOne::default() };
        let lost = sum(&mut collective, &mut arrays).unwrap_err();
        assert_eq!((lost.reason.as_str(), collective.lens.len()), ("gone", 1));
    }
}
