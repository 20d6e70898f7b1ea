//! Layer norm, with the end of the residual branch before it: `kernels/norm.cu`, `kernels/norm_backward.cu`.
#![expect(unsafe_code, reason = "launches")]

use super::arguments::{address, count, mask_address, optional, slab_rows, slabs};
use super::sums::Sum;
use super::variant::{File, Variant};
use crate::{CudaError, Gpu, Kernel, View, Work};

/// Rows of a block in the forward kernels.
const ROWS: usize = 8;

/// What a layer norm reads and writes; C channels, N rows.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// γ `[C]` f32.
    pub weight: View,
    /// β `[C]` f32; absent in a model without biases.
    pub bias: Option<View>,
    /// Output `[N, C]` act.
    pub out: View,
    /// Mean and `1/√(var + ε)` of each row, `[N]` f32 each; absent if no backward pass follows.
    pub stats: Option<[View; 2]>,
}

/// The argument of the same name in `kernels/rows.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct NormArgs {
    weight: u64,
    bias: u64,
    out: u64,
    mean: u64,
    rstd: u64,
}

impl Norm {
    #[track_caller]
    pub(crate) fn args(&self, variant: Variant, rows: usize) -> NormArgs {
        let c = variant.n_embd;
        let [mean, rstd] = self.stats.map_or([0; 2], |stats| {
            stats.map(|view| address(view, 4 * rows, "the statistics of a layer norm"))
        });
        NormArgs {
            weight: address(self.weight, 4 * c, "the weight of a layer norm"),
            bias: optional(self.bias, 4 * c, "the bias of a layer norm"),
            out: address(self.out, rows * c * variant.act.bytes(), "the output of a layer norm"),
            mean,
            rstd,
        }
    }
}

/// The end of a residual branch and the layer norm after it.
#[derive(Clone, Copy, Debug)]
pub struct ResidualNorm {
    /// The stream before the branch, `[N, C]` stream.
    pub stream: View,
    /// Output of the branch, `[N, C]` act.
    pub branch: View,
    /// Bias `[C]` f32 of the projection, if the product has not added it.
    pub bias: Option<View>,
    /// The [`DropoutMask`](super::DropoutMask) of the branch.
    pub mask: Option<View>,
    /// The stream after the branch, `[N, C]` stream; may be `stream`.
    pub stream_out: View,
    /// The layer norm of `stream_out`.
    pub norm: Norm,
}

/// The backward pass of a layer norm and the start of the branch before it.
#[derive(Clone, Copy, Debug)]
pub struct NormBackward {
    /// Gradient of the output, `[N, C]` act.
    pub dnormed: View,
    /// Input of the forward pass, `[N, C]` stream.
    pub x: View,
    /// γ `[C]` f32.
    pub weight: View,
    /// What the forward pass kept: mean and `1/√(var + ε)`, `[N]` f32 each.
    pub stats: [View; 2],
    /// Gradient of the stream, `[N, C]` stream.
    pub dstream: View,
    /// Whether to add to `dstream`; otherwise it is written.
    pub accumulate: bool,
    /// Receives the gradient of the branch whose end is the input, `[N, C]` act: `mask · dstream`.
    pub dbranch: Option<View>,
    /// The [`DropoutMask`](super::DropoutMask) of that branch.
    pub mask: Option<View>,
    /// Receives the sums over rows, [`Norms::partials_len`] f32: see [`Norms::sums`].
    pub partials: View,
}

/// The parameters whose gradients a [`NormBackward`] sums: views of `[C]` f32.
#[derive(Clone, Copy, Debug)]
pub struct NormGradients {
    /// Gradient of γ.
    pub weight: View,
    /// Gradient of β.
    pub bias: Option<View>,
    /// Gradient of the bias of the branch's projection.
    pub branch_bias: Option<View>,
}

/// The kernels of layer norms.
#[derive(Clone, Debug)]
pub struct Norms {
    variant: Variant,
    forward: Kernel,
    residual: Kernel,
    backward: Kernel,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ForwardArgs {
    stream: u64,
    norm: NormArgs,
    rows: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ResidualArgs {
    stream: u64,
    branch: u64,
    bias: u64,
    mask: u64,
    stream_out: u64,
    norm: NormArgs,
    rows: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct BackwardArgs {
    dnormed: u64,
    x: u64,
    weight: u64,
    mean: u64,
    rstd: u64,
    dstream: u64,
    dbranch: u64,
    mask: u64,
    partials: u64,
    rows: u32,
    slab: u32,
    accumulate: u32,
}

impl Norms {
    pub(crate) fn files(variant: Variant) -> [File; 2] {
        let forward = source!("norm.cu", "device.cuh", "dropout.cuh", "rows.cuh");
        let backward = source!("norm_backward.cu", "device.cuh", "dropout.cuh");
        [forward, backward].map(|source| (source, variant.types_and_width()))
    }

    /// Compiles the kernels, or takes them from the cache.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output; other errors of the driver.
    ///
    /// # Panics
    /// If the variant [is not supported](Variant::is_supported).
    pub fn load(gpu: &Gpu, variant: Variant) -> Result<Self, CudaError> {
        let modules = gpu.modules(&Self::files(variant))?;
        let warps_a_row = variant.n_embd.div_ceil(256);
        let teams = if warps_a_row >= 5 { 1 } else { 8 / warps_a_row };
        Ok(Self {
            variant,
            forward: modules[0].kernel("norm_forward", 32 * ROWS as u32, 0)?,
            residual: modules[0].kernel("residual_norm_forward", 32 * ROWS as u32, 0)?,
            backward: modules[1].kernel("norm_backward", (teams * warps_a_row * 32) as u32, 0)?,
        })
    }

    fn stream_bytes(&self, rows: usize) -> usize {
        rows * self.variant.n_embd * self.variant.stream.bytes()
    }

    fn act_bytes(&self, rows: usize) -> usize {
        rows * self.variant.n_embd * self.variant.act.bytes()
    }

    /// Normalizes every row of `stream` `[N, C]`.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn forward(&self, stream: View, norm: Norm, rows: usize) -> Result<(), CudaError> {
        let args = ForwardArgs {
            stream: address(stream, self.stream_bytes(rows), "the stream"),
            norm: norm.args(self.variant, rows),
            rows: count(rows, "rows"),
        };
        let work = Work::bytes(self.stream_bytes(rows) + self.act_bytes(rows));
        // SAFETY: the kernel's struct, and every view has the length that it reads or writes.
        unsafe { self.forward.launch([count(rows.div_ceil(ROWS), "blocks"), 1, 1], &args, work) }
    }

    /// `stream_out ← stream + dropout(branch + bias)`, and the layer norm of it.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn residual_forward(&self, given: ResidualNorm, rows: usize) -> Result<(), CudaError> {
        let stream_bytes = self.stream_bytes(rows);
        let args = ResidualArgs {
            stream: address(given.stream, stream_bytes, "the stream"),
            branch: address(given.branch, self.act_bytes(rows), "the branch"),
            bias: optional(given.bias, 4 * self.variant.n_embd, "the bias of the branch"),
            mask: mask_address(given.mask),
            stream_out: address(given.stream_out, stream_bytes, "the stream after the branch"),
            norm: given.norm.args(self.variant, rows),
            rows: count(rows, "rows"),
        };
        let work = Work::bytes(2 * (stream_bytes + self.act_bytes(rows)));
        // SAFETY: as in `forward`.
        unsafe { self.residual.launch([count(rows.div_ceil(ROWS), "blocks"), 1, 1], &args, work) }
    }

    /// The f32 values of [`NormBackward::partials`] for N rows.
    #[must_use]
    pub fn partials_len(variant: Variant, rows: usize) -> usize {
        slabs(rows) * 3 * variant.n_embd
    }

    /// `dstream += layer norm backward(dnormed)`, `dbranch ← mask · dstream`, and the sums over the rows of
    /// a block for three gradients.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn backward(&self, given: NormBackward, rows: usize) -> Result<(), CudaError> {
        let (stream_bytes, act_bytes) = (self.stream_bytes(rows), self.act_bytes(rows));
        let [mean, rstd] = given.stats.map(|view| address(view, 4 * rows, "the statistics"));
        let args = BackwardArgs {
            dnormed: address(given.dnormed, act_bytes, "the gradient of a layer norm"),
            x: address(given.x, stream_bytes, "the stream"),
            weight: address(given.weight, 4 * self.variant.n_embd, "the weight of a layer norm"),
            mean,
            rstd,
            dstream: address(given.dstream, stream_bytes, "the gradient of the stream"),
            dbranch: optional(given.dbranch, act_bytes, "the gradient of the branch"),
            mask: mask_address(given.mask),
            partials: address(
                given.partials,
                4 * Self::partials_len(self.variant, rows),
                "partial sums",
            ),
            rows: count(rows, "rows"),
            slab: slab_rows(rows) as u32,
            accumulate: u32::from(given.accumulate),
        };
        let streams = if given.accumulate { 3 } else { 2 } * stream_bytes;
        let acts = act_bytes + given.dbranch.map_or(0, |_| act_bytes);
        // SAFETY: as in `forward`.
        unsafe {
            self.backward.launch([slabs(rows) as u32, 1, 1], &args, Work::bytes(streams + acts))
        }
    }

    /// What turns the `partials` of a [`NormBackward`] over N rows into gradients.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn sums(&self, partials: View, rows: usize, gradients: NormGradients) -> Vec<Sum> {
        let c = self.variant.n_embd;
        address(partials, 4 * Self::partials_len(self.variant, rows), "partial sums");
        let outs = [Some(gradients.weight), gradients.bias, gradients.branch_bias];
        let sum = |(kind, out): (usize, Option<View>)| {
            let partials =
                partials.slice_of::<f32>(kind * c..Self::partials_len(self.variant, rows));
            Some(Sum { partials, rows: slabs(rows), stride: 3 * c, out: out? })
        };
        outs.into_iter().enumerate().filter_map(sum).collect()
    }
}
