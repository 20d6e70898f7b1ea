//! The small records that ranks exchange.

use serde::{Deserialize, Serialize};

use super::error::Failure;

/// What rank 0 has decided that all do next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// A step with this learning rate.
    Step { lr: f64 },
    /// An evaluation.
    Evaluate,
    /// A comparison of all weights.
    Check,
    /// The next order may take long: rank 0 saves or samples.
    Wait,
    /// The run has ended, by this signal if it was stopped.
    End { signal: Option<usize> },
}

/// How far a rank is with its windows of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum StepPart {
    /// Only its last piece is left, whose gradients are sent while they are computed.
    Ready,
    /// This signal asked to stop meanwhile.
    BrokenOff(usize),
    /// Its error.
    Failed(Failure),
}

/// The bits of the summed losses of a rank in a step, with the number of the micro-batch.
pub(crate) type PartLosses = Vec<(usize, u64)>;

/// What a rank has computed of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum EvalPart {
    /// Its batches, by number.
    Done(Vec<(usize, BatchLoss)>),
    /// The run has to end meanwhile: its time is up, or this signal asked to stop.
    BrokenOff(Option<usize>),
    /// Its error.
    Failed(Failure),
}

/// The loss on one batch of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchLoss {
    /// The bits of its mean, in nats per token: JSON has no NaN.
    pub(crate) loss: u32,
    /// Learned targets.
    pub(crate) n_tokens: usize,
    /// Bytes of text that they stand for.
    pub(crate) n_bytes: u64,
}
