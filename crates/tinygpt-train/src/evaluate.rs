//! The loss on fixed windows, without touching the state of training.
//!
//! The windows are spread evenly over a split and are the same at every evaluation, so that two
//! losses differ because the weights do. Nothing is random and no weight is written.

use std::f64::consts::LN_2;
use std::ops::ControlFlow;

use tinygpt_data::{DataError, Loader, TokenDataset, Tokenizer};
use tinygpt_model::Gpt;

use crate::config::Rows;
use crate::error::TrainError;
use crate::ranks::BatchLoss;
use crate::step::token_batch;

/// The loss on one split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitLoss {
    /// Mean over all learned targets, in nats per token.
    pub nats_per_token: f64,
    /// The same loss in bits per byte of the text of those targets.
    pub bits_per_byte: f64,
}

/// The batches of one evaluation.
#[derive(Debug, Clone)]
pub struct EvalSet(Loader);

impl EvalSet {
    /// `n_batches · batch_size` windows of `seq_len` tokens over `stream`, or as many as there are; with
    /// [`Rows::Documents`], windows that start with a document, after the token `eot_id`.
    ///
    /// # Errors
    /// [`TrainError::Data`] if `stream` does not hold one, if its mask leaves no target to learn, or if a shard
    /// cannot be read.
    pub fn new(
        (rows, eot_id): (Rows, u32),
        stream: &TokenDataset,
        n_batches: usize,
        (batch_size, seq_len): (usize, usize),
    ) -> Result<Self, TrainError> {
        let loader = match rows {
            Rows::Stream => Loader::evaluation(stream, batch_size, seq_len, n_batches)?,
            Rows::Documents => {
                Loader::evaluation_documents(stream, eot_id, (batch_size, seq_len), n_batches)?
            }
        };
        let n_windows = loader.n_windows();
        if loader.n_learned(0, n_windows)? == 0 {
            return Err(TrainError::Data(DataError::Usage {
                what: format!("the mask leaves nothing to evaluate in {n_windows} windows"),
                fix: "raise `eval_iters`, or prepare the dataset with a mask that learns more"
                    .into(),
            }));
        }
        Ok(Self(loader))
    }

    /// Windows in one evaluation.
    pub fn n_windows(&self) -> usize {
        self.0.n_windows()
    }

    /// Batches in one evaluation.
    pub fn n_batches(&self) -> usize {
        self.0.n_batches()
    }

    /// The loss of `gpt` on these windows, each learned target counted once. `None` if `on_batch`, which is
    /// called before each batch, stops it.
    ///
    /// # Errors
    /// [`TrainError::Data`] or [`TrainError::Model`] if a batch cannot be read or computed.
    pub fn loss(
        &self,
        gpt: &mut Gpt,
        tokenizer: &Tokenizer,
        on_batch: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<SplitLoss>, TrainError> {
        let byte_lengths = tokenizer.byte_lengths();
        let mut losses = Vec::with_capacity(self.n_batches());
        for batch_idx in 0..self.n_batches() {
            if on_batch().is_break() {
                return Ok(None);
            }
            losses.push(self.batch_loss(batch_idx, gpt, &byte_lengths)?);
        }
        Ok(Some(SplitLoss::of(&losses)))
    }

    /// The loss on batch number `batch_idx`.
    pub(crate) fn batch_loss(
        &self,
        batch_idx: usize,
        gpt: &mut Gpt,
        byte_lengths: &[u32],
    ) -> Result<BatchLoss, TrainError> {
        let batch = self.0.batch(batch_idx as u64)?;
        Ok(BatchLoss {
            loss: gpt.loss(&token_batch(&batch))?.to_bits(),
            n_tokens: batch.n_learned(),
            n_bytes: batch.target_bytes(byte_lengths),
        })
    }
}

impl SplitLoss {
    /// The loss on all batches of a split, in their order.
    pub(crate) fn of(batches: &[BatchLoss]) -> Self {
        let (mut nats, mut n_tokens, mut n_bytes) = (0.0, 0_usize, 0_u64);
        for batch in batches {
            nats += f64::from(f32::from_bits(batch.loss)) * batch.n_tokens as f64;
            n_tokens += batch.n_tokens;
            n_bytes += batch.n_bytes;
        }
        Self {
            nats_per_token: nats / n_tokens as f64,
            bits_per_byte: nats / LN_2 / n_bytes.max(1) as f64,
        }
    }
}
