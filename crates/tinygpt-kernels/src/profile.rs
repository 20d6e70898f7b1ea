//! Where a step's time goes: a stopwatch for each operation, off by default.
//!
//! An operation that divides its work among threads is counted with all of them, so that the times
//! are thread seconds: with W threads a step of t seconds has W · t of them to account for. While
//! it is off, a stopwatch costs one load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// What time is counted under; each variant is a line of the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Op {
    /// Token and position embedding.
    Embedding,
    /// Layer norm.
    LayerNorm,
    /// `x W` of a linear layer.
    Linear,
    /// Bias of the packed projection.
    Bias,
    /// Attention between its projections.
    Attention,
    /// Bias and GELU.
    Gelu,
    /// Bias, dropout and residual.
    Residual,
    /// Head and loss, forward and backward at once.
    Head,
    /// Scattering gradients into the embedding tables.
    EmbeddingBackward,
    /// Layer norm, backward.
    LayerNormBackward,
    /// `dy Wᵀ`, the gradient of a linear layer's input.
    LinearInputGradient,
    /// `xᵀ dy`, the gradient of a linear layer's weight.
    LinearWeightGradient,
    /// Sums of gradients over rows.
    BiasBackward,
    /// Attention, backward.
    AttentionBackward,
    /// GELU, backward.
    GeluBackward,
    /// Dropout and residual, backward.
    ResidualBackward,
    /// Adding the gradients of several workers.
    GradientSum,
    /// The norm of the gradient.
    GradientNorm,
    /// The optimizer.
    AdamW,
    /// Adding the gradients of several processes, while the backward pass goes through the blocks.
    AllReduceStart,
    /// Waiting for the rest of these sums.
    AllReduce,
    /// Waiting for other processes, and small messages.
    RankWait,
}

impl Op {
    /// All of them, in the order of a step.
    pub const ALL: [Self; 22] = [
        Self::Embedding,
        Self::LayerNorm,
        Self::Linear,
        Self::Bias,
        Self::Attention,
        Self::Gelu,
        Self::Residual,
        Self::Head,
        Self::EmbeddingBackward,
        Self::LayerNormBackward,
        Self::LinearInputGradient,
        Self::LinearWeightGradient,
        Self::BiasBackward,
        Self::AttentionBackward,
        Self::GeluBackward,
        Self::ResidualBackward,
        Self::GradientSum,
        Self::GradientNorm,
        Self::AdamW,
        Self::AllReduceStart,
        Self::AllReduce,
        Self::RankWait,
    ];

    /// Its name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::LayerNorm => "layer norm",
            Self::Linear => "linear x W",
            Self::Bias => "bias",
            Self::Attention => "attention",
            Self::Gelu => "bias + GELU",
            Self::Residual => "bias + dropout + residual",
            Self::Head => "head and loss, both ways",
            Self::EmbeddingBackward => "embedding, backward",
            Self::LayerNormBackward => "layer norm, backward",
            Self::LinearInputGradient => "linear dy Wᵀ",
            Self::LinearWeightGradient => "linear xᵀ dy",
            Self::BiasBackward => "bias, backward",
            Self::AttentionBackward => "attention, backward",
            Self::GeluBackward => "GELU, backward",
            Self::ResidualBackward => "residual, backward",
            Self::GradientSum => "sum of workers' gradients",
            Self::GradientNorm => "gradient norm",
            Self::AdamW => "AdamW",
            Self::AllReduceStart => "all-reduce, during backward",
            Self::AllReduce => "all-reduce, waiting for it",
            Self::RankWait => "waiting for other ranks",
        }
    }
}

/// What was counted under one operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The operation.
    pub op: Op,
    /// How often it ran.
    pub calls: u64,
    /// Thread seconds.
    pub seconds: f64,
    /// Floating-point operations of its matrix products, 0 where it has none to speak of.
    pub flops: u64,
}

#[derive(Debug)]
struct Counters {
    calls: AtomicU64,
    nanos: AtomicU64,
    flops: AtomicU64,
}

static IS_ON: AtomicBool = AtomicBool::new(false);
static COUNTERS: [Counters; Op::ALL.len()] = [const {
    Counters { calls: AtomicU64::new(0), nanos: AtomicU64::new(0), flops: AtomicU64::new(0) }
}; Op::ALL.len()];

/// Switches the stopwatches of this process on or off; what they have counted stays.
pub fn switch(on: bool) {
    IS_ON.store(on, Ordering::Relaxed);
}

/// Runs `work`, which uses `threads` threads for `flops` operations, and counts it under `op`.
pub fn timed<R>(op: Op, threads: usize, flops: usize, work: impl FnOnce() -> R) -> R {
    if !IS_ON.load(Ordering::Relaxed) {
        return work();
    }
    let start = Instant::now();
    let result = work();
    let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let counters = &COUNTERS[op as usize];
    counters.calls.fetch_add(1, Ordering::Relaxed);
    counters.nanos.fetch_add(nanos * threads.max(1) as u64, Ordering::Relaxed);
    counters.flops.fetch_add(flops as u64, Ordering::Relaxed);
    result
}

/// What was counted so far, for every operation that ran.
pub fn entries() -> Vec<Entry> {
    let entry = |op: Op| {
        let counters = &COUNTERS[op as usize];
        Entry {
            op,
            calls: counters.calls.load(Ordering::Relaxed),
            seconds: counters.nanos.load(Ordering::Relaxed) as f64 * 1e-9,
            flops: counters.flops.load(Ordering::Relaxed),
        }
    };
    Op::ALL.into_iter().map(entry).filter(|entry| entry.calls > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_counters_of_its_own() {
        for (i, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, i, "{op:?}");
        }
    }

    #[test]
    fn counts_while_it_is_on_and_only_then() {
        let calls = || entries().iter().find(|e| e.op == Op::Bias).map_or(0, |e| e.calls);
        assert_eq!(timed(Op::Bias, 1, 5, || 7), 7);
        assert_eq!(calls(), 0);
        switch(true);
        timed(Op::Bias, 3, 5, || std::thread::sleep(std::time::Duration::from_millis(2)));
        switch(false);
        assert_eq!(timed(Op::Bias, 1, 5, || 7), 7);
        let entry = entries().into_iter().find(|e| e.op == Op::Bias);
        let Some(Entry { calls: 1, seconds, flops: 5, .. }) = entry else { panic!("{entry:?}") };
        assert!(seconds >= 0.006, "three threads for 2 ms are not {seconds} s");
    }
}
