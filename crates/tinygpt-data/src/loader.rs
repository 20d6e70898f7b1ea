//! The loader: which batch a step reads. No tensors here.

use crate::document_rows::{ShuffledRows, document_starts, rows, spread};
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
    /// `[B, T]`: the position in its window where the conversation of each token starts. `None` where
    /// attention goes over the whole window, as it does in windows of plain text.
    pub document_starts: Option<Vec<u32>>,
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
    /// The token that ends a conversation, where attention stays inside each.
    end_of_conversation: Option<u32>,
    n_cut: usize,
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
        Ok(Self::of_stream(stream, order, (batch_size, block_size)))
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
        Ok(Self::of_stream(stream, order, (batch_size, block_size)))
    }

    /// As [`Loader::training`], with windows that start with a document: with `eot_id`, the token that
    /// ends the document before, or behind it if the documents are conversations, which see nothing of each
    /// other ([`Batch::document_starts`]). A window continues with the documents that follow, and after the last one
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
        let rows = rows(stream, eot_id, block_size)?;
        let order = Order::ShuffledRows(ShuffledRows::new(rows.starts, seed));
        let loader = Self::of_documents(stream, eot_id, order, (batch_size, block_size));
        Ok(Self { n_cut: rows.n_cut, ..loader })
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
        let order = Order::Fixed(spread(&rows(stream, eot_id, block_size)?.starts, n_windows));
        Ok(Self::of_documents(stream, eot_id, order, (batch_size, block_size)))
    }

    fn of_stream(
        stream: &TokenDataset,
        order: Order,
        (batch_size, block_size): (usize, usize),
    ) -> Self {
        let stream = stream.clone();
        Self { stream, order, batch_size, block_size, end_of_conversation: None, n_cut: 0 }
    }

    /// Only a stream with a mask holds conversations.
    fn of_documents(
        stream: &TokenDataset,
        eot_id: u32,
        order: Order,
        shape: (usize, usize),
    ) -> Self {
        let end_of_conversation = stream.mask().map(|_| eot_id);
        Self { end_of_conversation, ..Self::of_stream(stream, order, shape) }
    }

    /// The number of windows: in one epoch for training, in all for evaluation.
    pub fn n_windows(&self) -> usize {
        match &self.order {
            Order::Shuffled(windows) => windows.per_epoch(),
            Order::ShuffledRows(rows) => rows.per_epoch(),
            Order::Fixed(starts) => starts.len(),
        }
    }

    /// The number of conversations that are longer than a window, if windows start with conversations. The next
    /// window continues behind the last answer that fits.
    pub fn n_cut(&self) -> usize {
        if self.end_of_conversation.is_some() { self.n_cut } else { 0 }
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
            document_starts: None,
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
        batch.document_starts = self
            .end_of_conversation
            .map(|end| document_starts(&batch.inputs, self.block_size, end));
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
#[path = "loader_tests.rs"]
mod tests;
