//! The weights that a decoder's workers read: a model's parameters in place, or those of an 8-bit
//! model.
//!
//! A worker reads some rows of every matrix and some outputs of the table; [`Weight`] has one
//! implementation for each kind of weights.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;
use tinygpt_kernels::decode::{self, Strided, StridedMut};
use tinygpt_kernels::q8;

use crate::config::ModelConfig;
use crate::decode::q8_params::{Q8Param, QuantizedParts};
use crate::error::Result;
use crate::host::{self, HostSlice};
use crate::params::Params;
use crate::parts::ModelParts;

/// Some inputs of a matrix `[K, M]`.
#[derive(Clone, Debug)]
pub(super) struct MatrixPart {
    pub(super) inputs: Range<usize>,
    /// M.
    pub(super) n_outputs: usize,
}

/// A parameter as decoding reads it.
pub(super) trait Weight {
    /// Shards are multiples of this many rows.
    const UNIT: usize;

    /// The values of what is never rounded: vectors and the position table.
    fn values(&self) -> &[f32];

    /// `out ← x · w` for `n` rows of `x` and this part of the matrix.
    fn times(&self, part: MatrixPart, n: usize, x: Strided<'_>, out: StridedMut<'_>);

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

    fn times(&self, part: MatrixPart, n: usize, x: Strided<'_>, out: StridedMut<'_>) {
        let MatrixPart { inputs, n_outputs: m } = part;
        let w = Strided { data: &self[inputs.start * m..inputs.end * m], stride: m };
        decode::times_matrix(n, x, w, out);
    }

    fn times_table(&self, outputs: Range<usize>, n: usize, x: &[f32], out: &mut [f32]) {
        let c = x.len() / n.max(1);
        decode::times_table(x, n, &self[outputs.start * c..outputs.end * c], out);
    }

    fn row(&self, id: usize, out: &mut [f32]) {
        out.copy_from_slice(&self[id * out.len()..][..out.len()]);
    }
}

impl Weight for Q8Param {
    const UNIT: usize = q8::TILE;

    fn values(&self) -> &[f32] {
        match self {
            Self::Full(values) => values,
            // Read as products only.
            Self::Q8(_) => &[],
        }
    }

    fn times(&self, part: MatrixPart, n: usize, x: Strided<'_>, out: StridedMut<'_>) {
        if let Self::Q8(matrix) = self {
            let MatrixPart { inputs, n_outputs } = part;
            q8::times(n, x, q8::Q8Slice { matrix, inputs, outputs: 0..n_outputs }, out);
        }
    }

    fn times_table(&self, outputs: Range<usize>, n: usize, x: &[f32], out: &mut [f32]) {
        if let Self::Q8(matrix) = self {
            let (x, width) = (Strided { data: x, stride: matrix.inputs() }, outputs.len());
            let part = q8::Q8Slice { matrix, inputs: 0..matrix.inputs(), outputs };
            q8::times(n, x, part, StridedMut { data: out, stride: width });
        }
    }

    fn row(&self, id: usize, out: &mut [f32]) {
        if let Self::Q8(table) = self {
            table.output(id, out);
        }
    }
}

/// The weights of a decoder, which each of its workers opens.
#[derive(Clone, Debug)]
pub(super) enum WeightSource {
    /// Of a [`crate::Gpt`].
    Params(ModelConfig, Arc<[Tensor]>),
    /// Of an 8-bit model.
    Quantized(Arc<QuantizedParts>),
}

impl WeightSource {
    pub(super) fn of(params: &Params) -> Self {
        let tensors = params.iter().map(|(_, tensor)| tensor.clone()).collect();
        Self::Params(params.config().clone(), tensors)
    }

    /// See [`Weight::UNIT`].
    pub(super) fn unit(&self) -> usize {
        match self {
            Self::Params(..) => HostSlice::UNIT,
            Self::Quantized(_) => Q8Param::UNIT,
        }
    }

    /// One worker's view.
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

/// Weights as one worker reads them.
pub(super) enum View<'a> {
    Params(ModelParts<HostSlice<'a>>),
    Quantized(&'a QuantizedParts),
}
