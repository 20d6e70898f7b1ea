//! The loss on fixed windows, without touching the state of training.
//!
//! The windows are spread evenly over a split and are the same at every evaluation, so that two
//! losses differ because the weights do. Nothing random is drawn and no weight is written.

use std::f64::consts::LN_2;
use std::ops::ControlFlow;

use tinygpt_data::{TokenStream, Tokenizer, eval_windows, fill_batch, target_bytes};
use tinygpt_model::{Gpt, TokenBatch};

use crate::error::TrainError;

/// The loss on one split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitLoss {
    /// Mean over all tokens, in nats per token.
    pub nats_per_token: f64,
    /// The same loss spread over the bytes those tokens stand for, in bits.
    pub bits_per_byte: f64,
}

/// What one evaluation reads.
#[derive(Debug)]
pub struct EvalSet<'a> {
    stream: &'a TokenStream,
    starts: Vec<usize>,
    batch_size: usize,
    seq_len: usize,
}

impl<'a> EvalSet<'a> {
    /// `n_batches · batch_size` windows of `seq_len` tokens over `stream`, or as many as it holds.
    ///
    /// # Errors
    /// [`TrainError::Data`] if it does not hold one.
    pub fn new(
        stream: &'a TokenStream,
        n_batches: usize,
        batch_size: usize,
        seq_len: usize,
    ) -> Result<Self, TrainError> {
        let starts = eval_windows(stream.len(), seq_len, n_batches.saturating_mul(batch_size))?;
        Ok(Self { stream, starts, batch_size, seq_len })
    }

    /// Windows in one evaluation.
    pub fn n_windows(&self) -> usize {
        self.starts.len()
    }

    /// Batches in one evaluation.
    pub fn n_batches(&self) -> usize {
        self.starts.len().div_ceil(self.batch_size)
    }

    /// The loss of `gpt` on these windows, each token counted once. `None` if `on_batch`, which is
    /// called before each batch, breaks off.
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
        let (mut nats, mut n_tokens, mut n_bytes) = (0.0, 0_usize, 0_u64);
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for starts in self.starts.chunks(self.batch_size) {
            if on_batch().is_break() {
                return Ok(None);
            }
            let windows = starts.iter().copied();
            fill_batch(self.stream, windows, self.seq_len, &mut inputs, &mut targets)?;
            let loss = gpt.loss(&TokenBatch {
                inputs: &inputs,
                targets: &targets,
                batch_size: starts.len(),
                seq_len: self.seq_len,
            })?;
            nats += f64::from(loss) * targets.len() as f64;
            n_tokens += targets.len();
            n_bytes += target_bytes(&targets, &byte_lengths);
        }
        Ok(Some(SplitLoss {
            nats_per_token: nats / n_tokens as f64,
            bits_per_byte: nats / LN_2 / n_bytes.max(1) as f64,
        }))
    }
}
