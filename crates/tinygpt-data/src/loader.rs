//! The loader: which batch a step reads. No tensors here.

use crate::document_rows::{ShuffledRows, spread, starts};
use crate::error::DataError;
use crate::shard::TokenDataset;
use crate::windows::{Windows, eval_windows};

/// The target at a position that is not learned: no loss and no gradient. PyTorch calls this label -100.
pub const IGNORED_TARGET: u32 = u32::MAX;

/// Tokens and the tokens that follow them, for one forward pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// `[B, T]`, row by row.
    pub inputs: Vec<u32>,
    /// `[B, T]`: `targets[b, t]` is the token after `inputs[b, t]`, or [`IGNORED_TARGET`] if
    /// that token is not learned.
    pub targets: Vec<u32>,
    /// B, the number of windows.
    pub batch_size: usize,
    /// T, the number of tokens in a window.
    pub block_size: usize,
}

impl Batch {
    /// How many targets are learned.
    pub fn n_learned(&self) -> usize {
        self.targets.iter().filter(|id| **id != IGNORED_TARGET).count()
    }

    /// How many bytes of text the learned targets stand for, by
    /// [`Tokenizer::byte_lengths`](crate::Tokenizer::byte_lengths). The loss in bits per byte is
    /// nats per token × learned targets ÷ bytes ÷ ln 2.
    pub fn target_bytes(&self, byte_lengths: &[u32]) -> u64 {
        let length = |&id: &u32| byte_lengths.get(id as usize).copied().unwrap_or(0);
        self.targets.iter().map(|id| u64::from(length(id))).sum()
    }
}

/// The batches of a token stream. Batch i is a pure function of the stream, the shape, the seed and
/// i, so a run resumes at any batch, and several processes can each read their own.
///
/// ```
/// use tinygpt_data::{Loader, TokenDataset};
///
/// let stream = TokenDataset::from_ids((0..10).collect());
/// let batch = Loader::evaluation(&stream, 2, 3, 1)?.batch(0)?;
/// assert_eq!(batch.inputs, [0, 1, 2, 6, 7, 8]);
/// assert_eq!(batch.targets, [1, 2, 3, 7, 8, 9]);
/// # Ok::<(), tinygpt_data::DataError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Loader {
    stream: TokenDataset,
    order: Order,
    batch_size: usize,
    block_size: usize,
}

/// Where the windows begin.
#[derive(Debug, Clone)]
enum Order {
    /// Endless: epoch after epoch, each in its own random order.
    Shuffled(Windows),
    /// The same with rows that start with a document.
    ShuffledRows(ShuffledRows),
    /// The same at each pass.
    Fixed(Vec<usize>),
}

impl Loader {
    /// Batches for training: every epoch visits the whole stream once, in a random order that
    /// depends on `seed`. There is no last batch.
    ///
    /// # Errors
    /// [`DataError::Usage`] if the stream is shorter than one window and the token after it.
    pub fn training(
        stream: &TokenDataset,
        batch_size: usize,
        block_size: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let order = Order::Shuffled(Windows::new(stream.len(), block_size, seed)?);
        Ok(Self { stream: stream.clone(), order, batch_size, block_size })
    }

    /// Batches for evaluation: `n_batches` of windows that are evenly spread over the stream and do
    /// not overlap, or fewer if it does not hold that many. The last batch may be smaller.
    ///
    /// # Errors
    /// [`DataError::Usage`] if the stream is shorter than one window and the token after it.
    pub fn evaluation(
        stream: &TokenDataset,
        batch_size: usize,
        block_size: usize,
        n_batches: usize,
    ) -> Result<Self, DataError> {
        let n_windows = n_batches.saturating_mul(batch_size);
        let order = Order::Fixed(eval_windows(stream.len(), block_size, n_windows)?);
        Ok(Self { stream: stream.clone(), order, batch_size, block_size })
    }

    /// As [`Loader::training`], with windows that start with a document: with `eot_id`, the token that
    /// ends the document before. A window continues with the documents that follow, and after the last one
    /// with the first. A document that it cuts is at the start of another window, unless it is longer than a
    /// window.
    ///
    /// # Errors
    /// As [`Loader::training`] and [`Loader::batch`]: the stream is read once.
    pub fn training_documents(
        stream: &TokenDataset,
        eot_id: u32,
        (batch_size, block_size): (usize, usize),
        seed: u64,
    ) -> Result<Self, DataError> {
        let starts = starts(stream, eot_id, block_size)?;
        let order = Order::ShuffledRows(ShuffledRows::new(starts, seed));
        Ok(Self { stream: stream.clone(), order, batch_size, block_size })
    }

    /// As [`Loader::evaluation`], with windows that start with a document. They may overlap.
    ///
    /// # Errors
    /// As [`Loader::training_documents`].
    pub fn evaluation_documents(
        stream: &TokenDataset,
        eot_id: u32,
        (batch_size, block_size): (usize, usize),
        n_batches: usize,
    ) -> Result<Self, DataError> {
        let n_windows = n_batches.saturating_mul(batch_size);
        let order = Order::Fixed(spread(&starts(stream, eot_id, block_size)?, n_windows));
        Ok(Self { stream: stream.clone(), order, batch_size, block_size })
    }

    /// The number of windows: in one epoch for training, in all for evaluation.
    pub fn n_windows(&self) -> usize {
        match &self.order {
            Order::Shuffled(windows) => windows.per_epoch(),
            Order::ShuffledRows(rows) => rows.per_epoch(),
            Order::Fixed(starts) => starts.len(),
        }
    }

    /// The number of batches that hold these windows.
    pub fn n_batches(&self) -> usize {
        self.n_windows().div_ceil(self.batch_size)
    }

    /// Batch number `batch_idx`, counted from 0 over all epochs.
    ///
    /// # Errors
    /// [`DataError::Corrupt`] or [`DataError::Io`] if a shard cannot be read.
    pub fn batch(&self, batch_idx: u64) -> Result<Batch, DataError> {
        self.batch_from(batch_idx * self.batch_size as u64)
    }

    /// The batch that starts at window number `first`, for a run whose batch size has changed.
    /// Empty if an evaluation has no such window.
    ///
    /// # Errors
    /// As [`Loader::batch`].
    pub fn batch_from(&self, first: u64) -> Result<Batch, DataError> {
        self.windows_from(first, self.batch_size)
    }

    /// The `n` windows from number `first` on, for a process that computes a part of a batch.
    ///
    /// # Errors
    /// As [`Loader::batch`].
    pub fn windows_from(&self, first: u64, n: usize) -> Result<Batch, DataError> {
        self.read(&self.starts(first, n))
    }

    /// How many targets of the `n` windows from number `first` on are learned; reads no tokens.
    ///
    /// # Errors
    /// As [`Loader::batch`].
    pub fn n_learned(&self, first: u64, n: usize) -> Result<usize, DataError> {
        let starts = self.starts(first, n);
        let Some(mask) = self.stream.mask() else { return Ok(starts.len() * self.block_size) };
        let mut learned = vec![0; self.block_size + 1];
        let mut total = 0;
        for start in starts {
            read_circle(mask, start, &mut learned)?;
            total += learned[1..].iter().filter(|mask| **mask != 0).count();
        }
        Ok(total)
    }

    /// Where the `n` windows from number `first` on start.
    fn starts(&self, first: u64, n: usize) -> Vec<usize> {
        let windows = first..first + n as u64;
        match &self.order {
            Order::Shuffled(order) => windows.map(|i| order.window(i)).collect(),
            Order::ShuffledRows(rows) => windows.map(|i| rows.row(i)).collect(),
            Order::Fixed(starts) => fixed_part(starts, first, n).to_vec(),
        }
    }

    fn read(&self, starts: &[usize]) -> Result<Batch, DataError> {
        let n_tokens = starts.len() * self.block_size;
        let mut batch = Batch {
            inputs: Vec::with_capacity(n_tokens),
            targets: Vec::with_capacity(n_tokens),
            batch_size: starts.len(),
            block_size: self.block_size,
        };
        let mut window = vec![0; self.block_size + 1];
        let mut learned = vec![0; self.block_size + 1];
        for &start in starts {
            read_circle(&self.stream, start, &mut window)?;
            batch.inputs.extend_from_slice(&window[..self.block_size]);
            if let Some(mask) = self.stream.mask() {
                read_circle(mask, start, &mut learned)?;
                for (id, _) in window.iter_mut().zip(&learned).filter(|(_, mask)| **mask == 0) {
                    *id = IGNORED_TARGET;
                }
            }
            batch.targets.extend_from_slice(&window[1..]);
        }
        Ok(batch)
    }
}

/// Reads `into` from position `start` on. Only rows of documents reach the end of the stream; they continue
/// at its start.
fn read_circle(stream: &TokenDataset, start: usize, into: &mut [u32]) -> Result<(), DataError> {
    let n_left = into.len().min(stream.len() - start);
    let (left, wrapped) = into.split_at_mut(n_left);
    stream.read(start, left)?;
    stream.read(0, wrapped)
}

/// At most `n` of `starts` from number `first` on.
fn fixed_part(starts: &[usize], first: u64, n: usize) -> &[usize] {
    let first = usize::try_from(first).unwrap_or(usize::MAX).min(starts.len());
    &starts[first..starts.len().min(first.saturating_add(n))]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn stream(n: u32) -> TokenDataset {
        TokenDataset::from_ids((0..n).collect())
    }

    #[test]
    fn training_batches_follow_the_windows() {
        let (stream, windows) = (stream(1_000), Windows::new(1_000, 8, 7).unwrap());
        let loader = Loader::training(&stream, 3, 8, 7).unwrap();
        assert_eq!(loader.n_windows(), windows.per_epoch());
        for (batch, first) in [(loader.batch(50).unwrap(), 150), (loader.batch_from(7).unwrap(), 7)]
        {
            for (row, idx) in (first..first + 3).enumerate() {
                let start = windows.window(idx) as u32;
                let expected: Vec<u32> = (start..start + 8).collect();
                assert_eq!(batch.inputs[row * 8..][..8], expected);
            }
            assert!(batch.inputs.iter().zip(&batch.targets).all(|(i, t)| i + 1 == *t));
        }
    }

    #[test]
    fn windows_of_documents_start_with_their_separator() {
        // Documents of 3, 4, 5, ... tokens; 0 ends each.
        let ids: Vec<u32> = (3..30).flat_map(|n| (1..=n).chain([0])).collect();
        let stream = TokenDataset::from_ids(ids.clone());
        let loader = Loader::training_documents(&stream, 0, (4, 40), 7).unwrap();
        let n_batches = loader.n_windows().div_ceil(4) as u64;
        let mut rows = Vec::new();
        for batch in (0..n_batches).map(|i| loader.batch(i).unwrap()) {
            for (inputs, targets) in batch.inputs.chunks(40).zip(batch.targets.chunks(40)) {
                assert_eq!((inputs[0], &inputs[1..]), (0, &targets[..39]));
                assert_eq!(targets[0], 1, "the first token of a document");
                rows.push(inputs.to_vec());
            }
        }
        // The last document and then the first one.
        let seam = |row: &Vec<u32>| row.windows(5).any(|part| part == [29, 0, 1, 2, 3]);
        assert!(rows.iter().any(seam));
        let evaluation = Loader::evaluation_documents(&stream, 0, (4, 40), 1).unwrap();
        assert_eq!(evaluation.batch(0).unwrap().inputs[..5], [0, 1, 2, 3, 0]);
        // The default has no part in this: its windows do not depend on what the tokens are.
        let other = TokenDataset::from_ids(ids.iter().map(|id| id + 1).collect());
        let [here, there] = [&stream, &other].map(|it| Loader::training(it, 4, 40, 7).unwrap());
        let shifted: Vec<u32> = here.batch(3).unwrap().inputs.iter().map(|id| id + 1).collect();
        assert_eq!(there.batch(3).unwrap().inputs, shifted);
    }

    #[test]
    fn evaluation_batches_end_with_a_smaller_one() {
        let loader = Loader::evaluation(&stream(50), 3, 7, 9).unwrap();
        assert_eq!((loader.n_windows(), loader.n_batches()), (7, 3));
        let sizes: Vec<usize> = (0..4).map(|i| loader.batch(i).unwrap().batch_size).collect();
        assert_eq!(sizes, [3, 3, 1, 0]);
        assert_eq!(loader.batch(2).unwrap().inputs, (42..49).collect::<Vec<u32>>());
    }

    #[test]
    fn target_bytes_ignore_tokens_without_text() {
        let batch = Loader::evaluation(&stream(4), 1, 3, 1).unwrap().batch(0).unwrap();
        assert_eq!(batch.targets, [1, 2, 3]);
        assert_eq!(batch.target_bytes(&[9, 1, 2]), 3);
    }

    #[test]
    fn a_mask_hides_targets_and_nothing_else() {
        // Documents of 3, 4, 5, ... tokens; 0 ends each. Every third token is learned.
        let ids: Vec<u32> = (3..30).flat_map(|n| (1..=n).chain([0])).collect();
        let mask: Vec<u32> = (0..ids.len()).map(|i| u32::from(i % 3 == 0)).collect();
        // Rows of conversations start at other places, so both streams have a mask.
        let all = TokenDataset::from_ids(vec![1; ids.len()]);
        let plain = TokenDataset::from_ids(ids.clone()).with_mask(all).unwrap();
        let masked = plain.clone().with_mask(TokenDataset::from_ids(mask.clone())).unwrap();
        let loaders = |stream: &TokenDataset| {
            [
                Loader::training(stream, 4, 40, 7).unwrap(),
                Loader::evaluation(stream, 4, 40, 3).unwrap(),
                Loader::training_documents(stream, 0, (4, 40), 7).unwrap(),
                Loader::evaluation_documents(stream, 0, (4, 40), 3).unwrap(),
            ]
        };
        for (plain, masked) in loaders(&plain).iter().zip(&loaders(&masked)) {
            for i in 0..plain.n_batches() as u64 {
                let (plain, masked) = (plain.batch(i).unwrap(), masked.batch(i).unwrap());
                assert_eq!(plain.inputs, masked.inputs);
                let learned = plain.targets.iter().zip(&masked.targets);
                assert!(learned.clone().all(|(id, seen)| id == seen || *seen == IGNORED_TARGET));
                let n = learned.filter(|(id, seen)| id == seen).count();
                assert_eq!((n, plain.n_learned()), (masked.n_learned(), plain.targets.len()));
            }
            let counted = [plain, masked].map(|it| it.n_learned(4, 7).unwrap());
            let read = [plain, masked].map(|it| it.windows_from(4, 7).unwrap().n_learned());
            assert_eq!(counted, read);
        }
        // The last row continues with the start of the stream, and so does its mask.
        let starts = starts(&masked, 0, 40).unwrap();
        let rows = Loader::evaluation_documents(&masked, 0, (1, 40), starts.len()).unwrap();
        assert!(starts.iter().any(|start| start + 40 >= ids.len()));
        for (row, start) in (0..).zip(starts) {
            let target = |i: usize| (start + 1 + i) % ids.len();
            let seen = |i: usize| if mask[i] == 0 { IGNORED_TARGET } else { ids[i] };
            let expected: Vec<u32> = (0..40).map(target).map(seen).collect();
            assert_eq!(rows.batch(row).unwrap().targets, expected);
        }
    }

    #[test]
    fn bytes_and_tokens_are_those_of_learned_targets() {
        let mask = TokenDataset::from_ids(vec![1, 0, 1, 1]);
        let stream = stream(4).with_mask(mask).unwrap();
        let batch = Loader::evaluation(&stream, 1, 3, 1).unwrap().batch(0).unwrap();
        assert_eq!((&batch.targets[..], batch.n_learned()), (&[IGNORED_TARGET, 2, 3][..], 2));
        assert_eq!(batch.target_bytes(&[9, 1, 2, 4]), 6);
    }

    #[test]
    fn a_mask_of_another_length_is_refused() {
        let error = stream(4).with_mask(stream(3)).unwrap_err();
        assert_eq!(
            error.explained(),
            "the mask has 3 numbers for 4 tokens, expected one for each; \
             prepare the dataset again with `force`"
        );
    }
}
