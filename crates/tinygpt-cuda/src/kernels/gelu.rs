//! GELU and the sums over rows for bias gradients: `kernels/gelu.cu`.
#![expect(unsafe_code, reason = "launches")]

use super::arguments::{address, count, optional, slab_rows, slabs};
use super::sums::Sum;
use super::variant::{File, Variant};
use crate::{CudaError, Dtype, Gpu, Kernel, View, Work};

/// Columns of a block.
const COLUMNS: usize = 256;

/// The backward pass of GELU.
#[derive(Clone, Copy, Debug)]
pub struct GeluBackward {
    /// The pre-activation, `[N, F]` act.
    pub pre: View,
    /// Gradient of the activation `[N, F]` act; becomes that of the pre-activation.
    pub d: View,
    /// Receives the activation, `[N, F]` act; may be `pre`.
    pub out: Option<View>,
    /// Receives the sums over rows, [`Gelu::partials_len`] f32: see [`Gelu::sum`].
    pub partials: View,
}

/// The kernels of GELU and of bias gradients.
#[derive(Clone, Debug)]
pub struct Gelu {
    act: Dtype,
    forward: Kernel,
    backward: Kernel,
    bias_backward: Kernel,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ForwardArgs {
    pre: u64,
    bias: u64,
    out: u64,
    rows: u32,
    columns: u32,
    slab: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct BackwardArgs {
    pre: u64,
    d: u64,
    out: u64,
    partials: u64,
    rows: u32,
    columns: u32,
    slab: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct BiasBackwardArgs {
    d: u64,
    partials: u64,
    rows: u32,
    columns: u32,
    slab: u32,
}

/// The blocks of a matrix `[rows, columns]`.
fn grid(rows: usize, columns: usize) -> [u32; 3] {
    [columns.div_ceil(COLUMNS) as u32, count(slabs(rows), "blocks"), 1]
}

impl Gelu {
    pub(crate) fn file(variant: Variant) -> File {
        (source!("gelu.cu", "device.cuh", "math.cuh"), variant.types())
    }

    /// Compiles the kernels, or takes them from the cache.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output; other errors of the driver.
    pub fn load(gpu: &Gpu, variant: Variant) -> Result<Self, CudaError> {
        let (source, defines) = Self::file(variant);
        let module = gpu.module(&source, &defines)?;
        Ok(Self {
            act: variant.act,
            forward: module.kernel("gelu_forward", 256, 0)?,
            backward: module.kernel("gelu_backward", 256, 0)?,
            bias_backward: module.kernel("bias_backward", 256, 0)?,
        })
    }

    #[track_caller]
    fn bytes(&self, rows: usize, columns: usize) -> usize {
        assert!(columns.is_multiple_of(8), "{columns} columns: expected a multiple of 8");
        rows * columns * self.act.bytes()
    }

    /// `out ← gelu(pre)`, for `[N, F]` act. With a bias `[F]` f32, `pre ← pre + bias` before that.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong, or F is not a multiple of 8.
    pub fn forward(
        &self,
        pre: View,
        bias: Option<View>,
        out: View,
        (rows, columns): (usize, usize),
    ) -> Result<(), CudaError> {
        let bytes = self.bytes(rows, columns);
        let args = ForwardArgs {
            pre: address(pre, bytes, "the pre-activation"),
            bias: optional(bias, 4 * columns, "the bias"),
            out: address(out, bytes, "the activation"),
            rows: count(rows, "rows"),
            columns: count(columns, "columns"),
            slab: slab_rows(rows) as u32,
        };
        // SAFETY: the kernel's struct, and every view has the length that it reads or writes.
        unsafe { self.forward.launch(grid(rows, columns), &args, Work::bytes(2 * bytes)) }
    }

    /// The f32 values of the partial sums of a matrix `[rows, columns]`.
    #[must_use]
    pub fn partials_len(rows: usize, columns: usize) -> usize {
        slabs(rows) * columns
    }

    /// `d ← d · gelu'(pre)`, the sums of its rows in each block, and the activation if it is wanted.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong, or F is not a multiple of 8.
    pub fn backward(
        &self,
        given: GeluBackward,
        (rows, columns): (usize, usize),
    ) -> Result<(), CudaError> {
        let bytes = self.bytes(rows, columns);
        let partials = 4 * Self::partials_len(rows, columns);
        let args = BackwardArgs {
            pre: address(given.pre, bytes, "the pre-activation"),
            d: address(given.d, bytes, "the gradient of the activation"),
            out: optional(given.out, bytes, "the activation"),
            partials: address(given.partials, partials, "partial sums"),
            rows: count(rows, "rows"),
            columns: count(columns, "columns"),
            slab: slab_rows(rows) as u32,
        };
        let work = Work::bytes(3 * bytes + given.out.map_or(0, |_| bytes) + partials);
        // SAFETY: as in `forward`.
        unsafe { self.backward.launch(grid(rows, columns), &args, work) }
    }

    /// The sums of the rows of `d` `[N, M]` act in each block: the gradient of the bias of a projection.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong, or M is not a multiple of 8.
    pub fn bias_backward(
        &self,
        d: View,
        partials: View,
        (rows, columns): (usize, usize),
    ) -> Result<(), CudaError> {
        let args = BiasBackwardArgs {
            d: address(d, self.bytes(rows, columns), "the gradient"),
            partials: address(partials, 4 * Self::partials_len(rows, columns), "partial sums"),
            rows: count(rows, "rows"),
            columns: count(columns, "columns"),
            slab: slab_rows(rows) as u32,
        };
        // SAFETY: as in `forward`.
        unsafe { self.bias_backward.launch(grid(rows, columns), &args, Work::bytes(d.bytes())) }
    }

    /// What turns `partials` over N rows into the gradient `dbias` `[M]` f32 of a bias.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn sum(partials: View, rows: usize, dbias: View) -> Sum {
        let columns = dbias.len_of::<f32>();
        address(partials, 4 * Self::partials_len(rows, columns), "partial sums");
        Sum { partials, rows: slabs(rows), stride: columns, out: dbias }
    }
}
