//! Causal self-attention, forward and backward: `kernels/attention_*.cu`.
#![expect(unsafe_code, reason = "launches")]

use super::arguments::{address, count, mask_address, values};
use super::attention_tiles::{Pass, Products, Tiles, WARPS};
use super::variant::Variant;
use crate::{CudaError, Dtype, Gpu, Kernel, KernelSource, View, Work};

/// What the forward pass reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct AttentionForward {
    /// Packed queries, keys and values, `[N, 3C]` act: head h in the columns `h·D..(h+1)·D` of each.
    pub qkv: View,
    /// Receives the output, `[N, C]` act.
    pub out: View,
    /// Receives the log-sum-exps of the scaled scores in nats, `[B, H, T]` f32.
    pub lse: View,
    /// Dropout on the probabilities: row `(b·H + h)·T + query` and column `key` of the mask.
    pub mask: Option<View>,
    /// Where the documents of the sequences lie; without, a sequence is one document.
    pub documents: Option<Documents>,
}

/// The documents that share sequences and do not see each other.
#[derive(Clone, Copy, Debug)]
pub struct Documents {
    /// For each position, the position of its sequence where its document starts, `[B, T]` u32.
    pub starts: View,
    /// The position behind its document, `[B, T]` u32.
    pub ends: View,
}

/// What the backward pass reads and writes. `dqkv` overlaps no other view.
#[derive(Clone, Copy, Debug)]
pub struct AttentionBackward {
    /// As in the forward pass.
    pub qkv: View,
    /// Output of the forward pass, `[N, C]` act.
    pub out: View,
    /// Log-sum-exps of the forward pass, `[B, H, T]` f32.
    pub lse: View,
    /// Gradient of the output, `[N, C]` act.
    pub dout: View,
    /// Receives the gradient of `qkv`, `[N, 3C]` act.
    pub dqkv: View,
    /// Scratch, `[B, H, T]` f32.
    pub delta: View,
    /// As in the forward pass.
    pub mask: Option<View>,
    /// As in the forward pass.
    pub documents: Option<Documents>,
}

/// B, T and H.
pub type AttentionShape = (usize, usize, usize);

/// The kernels of attention for one head dimension D.
#[derive(Clone, Debug)]
pub struct Attention {
    act: Dtype,
    head_dim: usize,
    documents: bool,
    forward: Rows,
    delta: Kernel,
    keys: Rows,
    queries: Rows,
}

/// A kernel and the rows of T that a block of it owns.
#[derive(Clone, Debug)]
struct Rows {
    kernel: Kernel,
    rows: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ForwardArgs {
    qkv: u64,
    out: u64,
    lse: u64,
    dropout: u64,
    documents: [u64; 2],
    batch: u32,
    time: u32,
    heads: u32,
    scale: f32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DeltaArgs {
    out: u64,
    dout: u64,
    delta: u64,
    batch: u32,
    time: u32,
    heads: u32,
    unused: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct BackwardArgs {
    qkv: u64,
    dout: u64,
    lse: u64,
    delta: u64,
    dropout: u64,
    documents: [u64; 2],
    dqkv: u64,
    batch: u32,
    time: u32,
    heads: u32,
    scale: f32,
}

const THREADS: u32 = 32 * WARPS as u32;
/// Of `attention_delta.cu`.
const DELTA_THREADS: u32 = 256;
/// Of `attention_exact.cu`: rows of a tile, and bytes that it keeps of a query.
const EXACT_TILE_ROWS: usize = 32;
const EXACT_QUERY_BYTES: usize = 24;
/// Bytes of a query in `attention_backward_keys.cu`.
const QUERY_BYTES: usize = 16;
/// Shared memory of a multiprocessor that holds two blocks with large tiles: A100 and H100 have it, GeForce
/// cards, which give 99 KiB to a block, do not.
const ROOMY_SHARED_BYTES: usize = 160 << 10;

const FORWARD: KernelSource = source!(
    "attention_forward.cu",
    "device.cuh",
    "dropout.cuh",
    "attention_args.cuh",
    "attention.cuh"
);
const KEYS: KernelSource = source!(
    "attention_backward_keys.cu",
    "device.cuh",
    "dropout.cuh",
    "attention_args.cuh",
    "attention.cuh",
    "attention_backward.cuh"
);
const QUERIES: KernelSource = source!(
    "attention_backward_queries.cu",
    "device.cuh",
    "dropout.cuh",
    "attention_args.cuh",
    "attention.cuh",
    "attention_backward.cuh"
);
const DELTA: KernelSource = source!("attention_delta.cu", "device.cuh");
const EXACT: KernelSource =
    source!("attention_exact.cu", "device.cuh", "dropout.cuh", "attention_args.cuh");

/// Which products a variant has.
///
/// # Panics
/// If TF32 is asked for with bf16 activations.
fn products(variant: Variant, tf32: bool) -> Products {
    assert!(!tf32 || variant.act == Dtype::F32, "TF32 has f32 activations");
    match (variant.act, tf32) {
        (Dtype::Bf16, _) => Products::Bf16,
        (Dtype::F32, true) => Products::Tf32,
        (Dtype::F32, false) => Products::Exact,
    }
}

impl Attention {
    /// Whether the kernels can run this head dimension D.
    #[must_use]
    pub fn is_supported(head_dim: usize) -> bool {
        (16..=128).contains(&head_dim) && head_dim.is_multiple_of(16)
    }

    /// The files of these kernels with their `-D` options, for a GPU that gives `max_shared_bytes` of shared
    /// memory to a block. Those that keep attention inside `documents` need more registers.
    ///
    /// # Panics
    /// If the head dimension [is not supported](Self::is_supported), or for TF32 with bf16 activations.
    #[must_use]
    pub fn files(
        variant: Variant,
        head_dim: usize,
        tf32: bool,
        documents: bool,
        max_shared_bytes: u32,
    ) -> Vec<(KernelSource, Vec<(&'static str, u32)>)> {
        assert!(Self::is_supported(head_dim), "head dimension {head_dim} is not supported");
        let products = products(variant, tf32);
        let common = [
            ("ACT_BF16", u32::from(products == Products::Bf16)),
            ("STREAM_BF16", 0),
            ("HEAD_DIM", head_dim as u32),
        ];
        let delta = (DELTA, common.to_vec());
        let common = [&common[..], &[("DOCUMENTS", u32::from(documents))]].concat();
        if products == Products::Exact {
            return vec![delta, (EXACT, common)];
        }
        let is_roomy = max_shared_bytes as usize >= ROOMY_SHARED_BYTES;
        let file = |source, pass| {
            let tiles = Tiles::new(products, pass, head_dim, is_roomy);
            (source, [&common[..], &tiles.defines()].concat())
        };
        let keys = file(KEYS, Pass::Keys);
        vec![delta, file(FORWARD, Pass::Forward), keys, file(QUERIES, Pass::Queries)]
    }

    /// Compiles the kernels, or takes them from the cache. With `tf32` the operands of products are rounded
    /// to TF32; without, f32 activations are multiplied exactly. With `documents` both passes are to be given
    /// [`Documents`], without they are not.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output; other errors of the driver.
    ///
    /// # Panics
    /// As [`Attention::files`].
    pub fn load(
        gpu: &Gpu,
        variant: Variant,
        head_dim: usize,
        tf32: bool,
        documents: bool,
    ) -> Result<Self, CudaError> {
        let max_shared_bytes = gpu.info().max_shared_bytes;
        let files = Self::files(variant, head_dim, tf32, documents, max_shared_bytes);
        let modules = gpu.modules(&files)?;
        let act = variant.act;
        let delta = modules[0].kernel("attention_delta", DELTA_THREADS, 0)?;
        let products = products(variant, tf32);
        let load = |pass| {
            let (name, module) = match pass {
                Pass::Forward => ("attention_forward", 1),
                Pass::Keys => ("attention_backward_keys", 2),
                Pass::Queries => ("attention_backward_queries", 3),
            };
            let row_bytes = head_dim * act.bytes();
            let (module, rows, bytes) = if products == Products::Exact {
                let queries =
                    if pass == Pass::Keys { EXACT_TILE_ROWS * EXACT_QUERY_BYTES } else { 0 };
                (1, exact_rows(head_dim), 2 * EXACT_TILE_ROWS * row_bytes + queries)
            } else {
                let is_roomy = max_shared_bytes as usize >= ROOMY_SHARED_BYTES;
                let tiles = Tiles::new(products, pass, head_dim, is_roomy);
                let queries = if pass == Pass::Keys { 2 * tiles.columns * QUERY_BYTES } else { 0 };
                (module, tiles.rows(), tiles.shared_bytes(row_bytes) + queries)
            };
            let kernel = modules[module].kernel(name, THREADS, bytes as u32)?;
            Ok::<_, CudaError>(Rows { kernel, rows })
        };
        let [forward, keys, queries] =
            [load(Pass::Forward)?, load(Pass::Keys)?, load(Pass::Queries)?];
        Ok(Self { act, head_dim, documents, forward, delta, keys, queries })
    }

    /// Writes the output and the log-sum-exps.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong, or documents are given that the kernels were not compiled for.
    pub fn forward(&self, given: AttentionForward, shape: AttentionShape) -> Result<(), CudaError> {
        let (b, t, h) = shape;
        let plain = self.plain_bytes(shape);
        let args = ForwardArgs {
            qkv: address(given.qkv, 3 * plain, "the packed queries, keys and values"),
            out: address(given.out, plain, "the output"),
            lse: values::<f32>(given.lse, b * h * t, "the log-sum-exps"),
            dropout: mask_address(given.mask),
            documents: self.documents(given.documents, b * t),
            batch: count(b, "sequences"),
            time: count(t, "positions"),
            heads: count(h, "heads"),
            scale: self.scale(),
        };
        let work = self.work(4, 2, shape);
        // SAFETY: the kernel's struct, and every view has the length that it reads or writes.
        unsafe { self.forward.kernel.launch(self.forward.grid(shape), &args, work) }
    }

    /// Writes the gradient of the packed input, each element once.
    ///
    /// # Errors
    /// [`CudaError`] if a launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong, or documents are given that the kernels were not compiled for.
    pub fn backward(
        &self,
        given: AttentionBackward,
        shape: AttentionShape,
    ) -> Result<(), CudaError> {
        let (b, t, h) = shape;
        let plain = self.plain_bytes(shape);
        let (batch, time, heads) =
            (count(b, "sequences"), count(t, "positions"), count(h, "heads"));
        let dout = address(given.dout, plain, "the gradient of the output");
        let delta = values::<f32>(given.delta, b * h * t, "the scratch");
        let args = DeltaArgs {
            out: address(given.out, plain, "the output"),
            dout,
            delta,
            batch,
            time,
            heads,
            unused: 0,
        };
        let pairs_a_block = DELTA_THREADS as usize / delta_lanes(self.head_dim);
        let blocks = count((b * t * h).div_ceil(pairs_a_block), "blocks");
        // SAFETY: as in `forward`.
        unsafe { self.delta.launch([blocks, 1, 1], &args, self.work(2, 0, shape))? };
        let args = BackwardArgs {
            qkv: address(given.qkv, 3 * plain, "the packed queries, keys and values"),
            dout,
            lse: values::<f32>(given.lse, b * h * t, "the log-sum-exps"),
            delta,
            dropout: mask_address(given.mask),
            documents: self.documents(given.documents, b * t),
            dqkv: address(given.dqkv, 3 * plain, "the gradient of queries, keys and values"),
            batch,
            time,
            heads,
            scale: self.scale(),
        };
        // SAFETY: as in `forward`.
        unsafe {
            self.keys.kernel.launch(self.keys.grid(shape), &args, self.work(6, 4, shape))?;
            self.queries.kernel.launch(self.queries.grid(shape), &args, self.work(5, 3, shape))
        }
    }

    /// Reading or writing `n_matrices` of `[N, C]`, and `n_products` over the lower triangle of `[T, T]`.
    fn work(&self, n_matrices: usize, n_products: usize, shape: AttentionShape) -> Work {
        let (b, t, h) = shape;
        let flops = (n_products * b * h * t * (t + 1) * self.head_dim) as u64;
        Work { bytes: (n_matrices * self.plain_bytes(shape)) as u64, flops }
    }

    /// Bytes of `[N, C]` act.
    #[track_caller]
    fn plain_bytes(&self, (b, t, h): AttentionShape) -> usize {
        // The y and z of a grid.
        assert!(b < 1 << 16 && h < 1 << 16, "{b} sequences of {h} heads: at most 65535 of each");
        b * t * h * self.head_dim * self.act.bytes()
    }

    /// The addresses of starts and ends, 0 without.
    #[track_caller]
    fn documents(&self, given: Option<Documents>, positions: usize) -> [u64; 2] {
        assert_eq!(self.documents, given.is_some(), "the kernels were compiled for the other case");
        given.map_or([0; 2], |given| {
            [
                values::<u32>(given.starts, positions, "the starts of documents"),
                values::<u32>(given.ends, positions, "the ends of documents"),
            ]
        })
    }

    /// `1/√D`.
    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

impl Rows {
    fn grid(&self, (b, t, h): AttentionShape) -> [u32; 3] {
        [t.div_ceil(self.rows) as u32, h as u32, b as u32]
    }
}

/// Rows that a block of `attention_exact.cu` owns.
fn exact_rows(head_dim: usize) -> usize {
    let split = if head_dim <= 32 {
        1
    } else if head_dim <= 64 {
        2
    } else {
        4
    };
    THREADS as usize / split
}

/// Lanes of a row and head in `attention_delta.cu`.
fn delta_lanes(head_dim: usize) -> usize {
    (head_dim / 8).next_power_of_two()
}
