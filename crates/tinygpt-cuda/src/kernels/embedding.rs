//! Token and position embedding, forward and backward: `kernels/embedding.cu`.
#![expect(unsafe_code, reason = "launches")]

use super::arguments::{address, count, mask_address, values};
use super::norm::{Norm, NormArgs};
use super::segments::Layout;
use super::variant::{File, Variant};
use crate::{CudaError, Gpu, Kernel, View, Work};

/// Warps, and so rows or pieces, of a block.
const WARPS: usize = 8;
/// Columns of a warp in the backward kernels.
const COLUMNS: usize = 256;

/// The embedding and the first layer norm.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingForward {
    /// Token ids `[N]` u32, each below V: the caller has checked that.
    pub ids: View,
    /// Token embedding `[Vp, C]` f32.
    pub wte: View,
    /// Position embedding `[positions, C]` f32, at least T positions.
    pub wpe: View,
    /// The [`DropoutMask`](super::DropoutMask) of the embedding.
    pub mask: Option<View>,
    /// The stream, `[N, C]` stream.
    pub stream: View,
    /// The layer norm of the stream.
    pub norm: Norm,
}

/// The gradients of both tables.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingBackward {
    /// Gradient of the stream, `[N, C]` stream.
    pub dstream: View,
    /// The [`DropoutMask`](super::DropoutMask) of the embedding.
    pub mask: Option<View>,
    /// What [`Layout::fill`] made of the ids, [`Layout::len`] u32.
    pub tables: View,
    /// Scratch of [`Embedding::partials_len`] f32.
    pub partials: View,
    /// Gradient of the token embedding, `[Vp, C]` f32: added to.
    pub dwte: View,
    /// Gradient of the position embedding, `[positions, C]` f32.
    pub dwpe: View,
    /// Whether to add to `dwpe`; otherwise it is written, with zeros from position T on.
    pub accumulate: bool,
}

/// The kernels of the embedding.
#[derive(Clone, Debug)]
pub struct Embedding {
    variant: Variant,
    forward: Kernel,
    wte: Kernel,
    wte_long: Kernel,
    wpe: Kernel,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ForwardArgs {
    ids: u64,
    wte: u64,
    wpe: u64,
    mask: u64,
    stream: u64,
    norm: NormArgs,
    rows: u32,
    seq_len: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct WteArgs {
    dstream: u64,
    mask: u64,
    order: u64,
    pieces: u64,
    long_ids: u64,
    counts: u64,
    partials: u64,
    dwte: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct WpeArgs {
    dstream: u64,
    mask: u64,
    dwpe: u64,
    rows: u32,
    seq_len: u32,
    accumulate: u32,
}

impl Embedding {
    pub(crate) fn file(variant: Variant) -> File {
        (
            source!("embedding.cu", "device.cuh", "dropout.cuh", "rows.cuh"),
            variant.types_and_width(),
        )
    }

    /// Compiles the kernels, or takes them from the cache.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output; other errors of the driver.
    ///
    /// # Panics
    /// If the variant [is not supported](Variant::is_supported).
    pub fn load(gpu: &Gpu, variant: Variant) -> Result<Self, CudaError> {
        let (source, defines) = Self::file(variant);
        let module = gpu.module(&source, &defines)?;
        let kernel = |name| module.kernel(name, 32 * WARPS as u32, 0);
        Ok(Self {
            variant,
            forward: kernel("embedding_forward")?,
            wte: kernel("wte_backward")?,
            wte_long: kernel("wte_backward_long")?,
            wpe: kernel("wpe_backward")?,
        })
    }

    fn stream_bytes(&self, rows: usize) -> usize {
        rows * self.variant.n_embd * self.variant.stream.bytes()
    }

    /// The positions of a position embedding that has at least `t` of them.
    #[track_caller]
    fn positions(&self, wpe: View, t: usize) -> usize {
        let positions = wpe.len_of::<f32>() / self.variant.n_embd;
        assert!(t > 0 && t <= positions, "{t} positions of a table of {positions}");
        positions
    }

    /// `stream ← dropout(wte[id] + wpe[n mod T])` for B·T rows, and the layer norm of it.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn forward(
        &self,
        given: EmbeddingForward,
        (b, t): (usize, usize),
    ) -> Result<(), CudaError> {
        let (rows, c) = (b * t, self.variant.n_embd);
        let positions = self.positions(given.wpe, t);
        let wte_bytes = 4 * self.variant.padded_vocab_size() * c;
        let args = ForwardArgs {
            ids: values::<u32>(given.ids, rows, "ids"),
            wte: address(given.wte, wte_bytes, "the token embedding"),
            wpe: address(given.wpe, 4 * positions * c, "the position embedding"),
            mask: mask_address(given.mask),
            stream: address(given.stream, self.stream_bytes(rows), "the stream"),
            norm: given.norm.args(self.variant, rows),
            rows: count(rows, "rows"),
            seq_len: count(t, "T"),
        };
        let act_bytes = rows * c * self.variant.act.bytes();
        let work = Work::bytes(8 * rows * c + self.stream_bytes(rows) + act_bytes);
        // SAFETY: the kernel's struct, and every view has the length that it reads or writes.
        unsafe { self.forward.launch([count(rows.div_ceil(WARPS), "blocks"), 1, 1], &args, work) }
    }

    /// The f32 values of [`EmbeddingBackward::partials`] for N rows.
    #[must_use]
    pub fn partials_len(variant: Variant, rows: usize) -> usize {
        Layout::new(rows, variant.vocab_size).max_partials() * variant.n_embd
    }

    /// Adds the gradients of all rows to those of the tables.
    ///
    /// # Errors
    /// [`CudaError`] if a launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn backward(
        &self,
        given: EmbeddingBackward,
        (b, t): (usize, usize),
    ) -> Result<(), CudaError> {
        let (rows, c) = (b * t, self.variant.n_embd);
        let dstream = address(given.dstream, self.stream_bytes(rows), "the gradient of the stream");
        let mask = mask_address(given.mask);
        self.wte_backward(&given, rows)?;
        let positions = self.positions(given.dwpe, t);
        let args = WpeArgs {
            dstream,
            mask,
            dwpe: address(given.dwpe, 4 * positions * c, "the gradient of the position embedding"),
            rows: count(rows, "rows"),
            seq_len: count(t, "T"),
            accumulate: u32::from(given.accumulate),
        };
        let grid = [count(positions, "positions"), c.div_ceil(COLUMNS) as u32, 1];
        let work = Work::bytes(self.stream_bytes(rows) + 4 * positions * c);
        // SAFETY: as in `forward`.
        unsafe { self.wpe.launch(grid, &args, work) }
    }

    fn wte_backward(&self, given: &EmbeddingBackward, rows: usize) -> Result<(), CudaError> {
        let (c, layout) = (self.variant.n_embd, Layout::new(rows, self.variant.vocab_size));
        let tables = address(given.tables, 4 * layout.len(), "the sorted ids");
        let at = |value: usize| tables + 4 * value as u64;
        let partials = 4 * Self::partials_len(self.variant, rows);
        let wte_bytes = 4 * self.variant.padded_vocab_size() * c;
        let args = WteArgs {
            dstream: given.dstream.ptr(),
            mask: mask_address(given.mask),
            order: at(layout.order_at()),
            pieces: at(layout.pieces_at()),
            long_ids: at(layout.long_ids_at()),
            counts: tables,
            partials: address(given.partials, partials, "partial sums of the token embedding"),
            dwte: address(given.dwte, wte_bytes, "the gradient of the token embedding"),
        };
        let tiles = c.div_ceil(COLUMNS) as u32;
        let grid = |n: usize| [n.div_ceil(WARPS) as u32, tiles, 1];
        // At most: as many rows of the table as positions, read and written.
        let work = Work::bytes(self.stream_bytes(rows) + 8 * rows * c);
        // SAFETY: as in `forward`; `Layout::fill` names only positions below N and ids below V.
        unsafe {
            self.wte.launch(grid(layout.max_pieces()), &args, work)?;
            self.wte_long.launch(grid(layout.max_long_ids()), &args, Work::default())
        }
    }
}
