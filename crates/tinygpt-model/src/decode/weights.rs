//! What the decoder's threads read: a model's parameters where they lie, or those of a quantised model.
//!
//! A thread reads some rows of every matrix and some outputs of the table; [`Weight`] says how, once for
//! each kind.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;
use tinygpt_kernels::decode::{self, Strided};
use tinygpt_kernels::q8;

use super::barrier::Meeting;
use super::shard::{Board, Part};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::cpu::host::{self, HostSlice};
use crate::params::{ModelParts, Params};
use crate::decode::q8_model::{QuantizedParts, Rounded};

/// A parameter as decoding reads it.
pub(super) trait Weight {
    /// Shares of threads are made of so many rows.
    const UNIT: usize;

    /// The values of what is never rounded: vectors and the positions' table.
    fn values(&self) -> &[f32];

    /// `out ← x · w` for `n` rows of `x` and these inputs of a matrix `[K, M]`; the rows of `out` are
    /// `stride` elements apart.
    fn times(
        &self,
        m: usize,
        inputs: Range<usize>,
        n: usize,
        x: Strided<'_>,
        out: (&mut [f32], usize),
    );

    /// `out ← x · wᵀ` for `n` rows of `x` `[N, C]` and these rows of a table `[V, C]`.
    fn times_table(&self, outputs: Range<usize>, n: usize, x: &[f32], out: &mut [f32]);

    /// `out ←` row `id` of a table `[V, C]`.
    fn row(&self, id: usize, out: &mut [f32]);
}

impl Weight for HostSlice<'_> {
    /// A cache line.
    const UNIT: usize = 16;

    fn values(&self) -> &[f32] {
        self
    }

    fn times(
        &self,
        m: usize,
        inputs: Range<usize>,
        n: usize,
        x: Strided<'_>,
        out: (&mut [f32], usize),
    ) {
        decode::times_matrix(n, x, (&self[inputs.start * m..inputs.end * m], m), out);
    }

    fn times_table(&self, outputs: Range<usize>, n: usize, x: &[f32], out: &mut [f32]) {
        let c = x.len() / n.max(1);
        decode::times_table(x, n, &self[outputs.start * c..outputs.end * c], out);
    }

    fn row(&self, id: usize, out: &mut [f32]) {
        out.copy_from_slice(&self[id * out.len()..][..out.len()]);
    }
}

impl Weight for Rounded {
    const UNIT: usize = quantized::TILE;

    fn values(&self) -> &[f32] {
        match self {
            Self::Full(values) => values,
            // Nobody asks for the values of these.
            Self::Bytes(_) => &[],
        }
    }

    fn times(
        &self,
        m: usize,
        inputs: Range<usize>,
        n: usize,
        x: Strided<'_>,
        out: (&mut [f32], usize),
    ) {
        if let Self::Bytes(matrix) = self {
            quantized::times(n, x, quantized::Part { matrix, inputs, outputs: 0..m }, out);
        }
    }

    fn times_table(&self, outputs: Range<usize>, n: usize, x: &[f32], out: &mut [f32]) {
        if let Self::Bytes(matrix) = self {
            let (x, width) = (Strided { data: x, stride: matrix.inputs() }, outputs.len());
            let part = quantized::Part { matrix, inputs: 0..matrix.inputs(), outputs };
            quantized::times(n, x, part, (out, width));
        }
    }

    fn row(&self, id: usize, out: &mut [f32]) {
        if let Self::Bytes(table) = self {
            table.output(id, out);
        }
    }
}

/// The weights of a decoder, which all its threads can open.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Of a model that can be trained.
    Params(ModelConfig, Arc<[Tensor]>),
    /// Of a quantised one.
    Quantized(Arc<QuantizedParts>),
}

impl Source {
    pub(super) fn of(params: &Params) -> Self {
        let tensors = params.iter().map(|(_, tensor)| tensor.clone()).collect();
        Self::Params(params.config().clone(), tensors)
    }

    /// See [`Weight::UNIT`].
    pub(super) fn unit(&self) -> usize {
        match self {
            Self::Params(..) => HostSlice::UNIT,
            Self::Quantized(_) => Rounded::UNIT,
        }
    }

    /// One thread's view.
    pub(super) fn open(&self) -> Result<View<'_>> {
        Ok(match self {
            Self::Params(config, tensors) => {
                let slices: Result<Vec<_>> = tensors.iter().map(host::read).collect();
                View::Params(ModelParts::from_ordered(config, slices?)?)
            }
            Self::Quantized(parts) => View::Quantized(parts),
        })
    }
}

/// Weights as one thread sees them.
pub(super) enum View<'a> {
    Params(ModelParts<HostSlice<'a>>),
    Quantized(&'a QuantizedParts),
}

impl View<'_> {
    /// Lets `part` make its part of a step with them; false if another thread has ended.
    pub(super) fn step(&self, part: &mut Part, board: &Board, meet: &Meeting) -> bool {
        match self {
            Self::Params(weights) => part.step(weights, board, meet),
            Self::Quantized(weights) => part.step(weights, board, meet),
        }
    }
}
