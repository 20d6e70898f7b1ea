//! Decoding token by token over a KV cache: `kernels/decode_*.cu`.
//!
//! A step has N rows, each one more token of the sequence in a slot. What a row gets does not depend on the
//! other rows or on N.
#![expect(unsafe_code, reason = "launches, and the promise of `Plain`")]

use super::arguments::{address, count, optional, values};
use super::norm::{Norm, NormArgs};
use super::variant::{File, Variant};
use crate::{CudaError, Gpu, Kernel, Plain, View, Work};

/// A row of a step, as the kernels read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeRow {
    slot: u32,
    id: u32,
    position: u32,
    active: u32,
}

// SAFETY: four u32: no padding, and every bit pattern is a value.
unsafe impl Plain for DecodeRow {}

impl DecodeRow {
    /// Token `id` at `position` of the sequence in `slot`. The default row only fills up a step: nothing is
    /// kept of it.
    ///
    /// # Panics
    /// If a number does not fit into 32 bits.
    #[must_use]
    pub fn new(slot: usize, id: u32, position: usize) -> Self {
        let (slot, position) = (count(slot, "slot"), count(position, "position"));
        Self { slot, id, position, active: 1 }
    }
}

/// Keys and values of one layer, `[slots, H, block_size, D]` act each.
#[derive(Clone, Copy, Debug)]
pub struct KeyValues {
    /// Keys.
    pub keys: View,
    /// Values.
    pub values: View,
}

/// A product of N rows.
#[derive(Clone, Copy, Debug)]
pub struct DecodeProduct {
    /// `[N, K]` act.
    pub x: View,
    /// `[K, M]` act.
    pub weight: View,
    /// `[M]` f32.
    pub bias: Option<View>,
    /// Whether the result goes through GELU.
    pub gelu: bool,
    /// Receives `[N, M]` act.
    pub y: View,
}

/// The kernels of decoding for one model.
#[derive(Clone, Debug)]
pub struct Decode {
    variant: Variant,
    head_dim: usize,
    n_slots: usize,
    block_size: usize,
    embedding: Kernel,
    product: Kernel,
    logits: Kernel,
    cache: Kernel,
    attention: Kernel,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct EmbeddingArgs {
    rows: u64,
    wte: u64,
    wpe: u64,
    stream: u64,
    norm: NormArgs,
    n: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ProductArgs {
    x: u64,
    weight: u64,
    bias: u64,
    y: u64,
    rows: u32,
    inputs: u32,
    outputs: u32,
    gelu: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct LogitsArgs {
    x: u64,
    table: u64,
    logits: u64,
    rows: u32,
    vocab_size: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CacheArgs {
    qkv: u64,
    rows: u64,
    keys: u64,
    values: u64,
    n: u32,
    heads: u32,
    block_size: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct AttentionArgs {
    qkv: u64,
    rows: u64,
    keys: u64,
    values: u64,
    out: u64,
    heads: u32,
    block_size: u32,
    scale: f32,
}

/// Of the kernels: rows and columns of a block, and threads.
const ROWS: usize = 8;
const COLUMNS: usize = 64;
const WARPS: usize = 8;
const THREADS: usize = 32 * WARPS;

impl Decode {
    /// The files of these kernels with their `-D` options.
    #[must_use]
    pub fn files(variant: Variant, head_dim: usize) -> [File; 3] {
        let head = [variant.types(), vec![("HEAD_DIM", head_dim as u32)]].concat();
        let row = variant.types_and_width();
        [
            (source!("decode_embedding.cu", "device.cuh", "rows.cuh", "decode.cuh"), row.clone()),
            (source!("decode_product.cu", "device.cuh", "math.cuh", "rows.cuh"), row),
            (source!("decode_attention.cu", "device.cuh", "math.cuh", "decode.cuh"), head),
        ]
    }

    /// Compiles the kernels, or takes them from the cache, for caches of `n_slots` sequences of
    /// `block_size` tokens.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output; other errors of the driver.
    ///
    /// # Panics
    /// If the variant [is not supported](Variant::is_supported).
    pub fn load(
        gpu: &Gpu,
        variant: Variant,
        head_dim: usize,
        (n_slots, block_size): (usize, usize),
    ) -> Result<Self, CudaError> {
        let modules = gpu.modules(&Self::files(variant, head_dim))?;
        Ok(Self {
            variant,
            head_dim,
            n_slots,
            block_size,
            embedding: modules[0].kernel("decode_embedding", THREADS as u32, 0)?,
            product: modules[1].kernel("decode_product", THREADS as u32, 0)?,
            logits: modules[1].kernel("decode_logits", THREADS as u32, 0)?,
            cache: modules[2].kernel("decode_cache", THREADS as u32, 0)?,
            attention: modules[2].kernel("decode_attention", 128, 0)?,
        })
    }

    /// Bytes of the keys, or the values, of one layer.
    #[must_use]
    pub fn cache_bytes(variant: Variant, (n_slots, block_size): (usize, usize)) -> usize {
        n_slots * block_size * variant.n_embd * variant.act.bytes()
    }

    /// Bytes of `[n, columns]` act.
    fn act_bytes(&self, n: usize, columns: usize) -> usize {
        n * columns * self.variant.act.bytes()
    }

    fn heads(&self) -> usize {
        self.variant.n_embd / self.head_dim
    }

    /// The embeddings of `rows` `[N]`, into `stream` `[N, C]`, and the layer norm of them.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn embed(
        &self,
        rows: View,
        [wte, wpe]: [View; 2],
        stream: View,
        norm: Norm,
    ) -> Result<(), CudaError> {
        let (n, c) = (rows.len_of::<DecodeRow>(), self.variant.n_embd);
        let stream_bytes = n * c * self.variant.stream.bytes();
        let args = EmbeddingArgs {
            rows: values::<DecodeRow>(rows, n, "the rows"),
            wte: address(wte, 4 * self.variant.padded_vocab_size() * c, "the token embedding"),
            wpe: address(wpe, 4 * self.block_size * c, "the position embedding"),
            stream: address(stream, stream_bytes, "the stream"),
            norm: norm.args(self.variant, n),
            n: count(n, "rows"),
        };
        let work = Work::bytes(8 * n * c + stream_bytes + self.act_bytes(n, c));
        let grid = [count(n.div_ceil(WARPS), "blocks"), 1, 1];
        // SAFETY: the kernel's struct, and every view has the length that it reads or writes; ids and
        // positions are inside the tables, as the caller of `DecodeRow::new` has them.
        unsafe { self.embedding.launch(grid, &args, work) }
    }

    /// `y ← x W + b`, or GELU of it.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong, or K or M is not a multiple of 8.
    pub fn product(
        &self,
        given: DecodeProduct,
        (n, inputs, outputs): (usize, usize, usize),
    ) -> Result<(), CudaError> {
        assert!(
            inputs.is_multiple_of(8) && outputs.is_multiple_of(8),
            "a product of {inputs} inputs and {outputs} outputs: expected multiples of 8"
        );
        let weight_bytes = self.act_bytes(inputs, outputs);
        let args = ProductArgs {
            x: address(given.x, self.act_bytes(n, inputs), "the input"),
            weight: address(given.weight, weight_bytes, "the weight"),
            bias: optional(given.bias, 4 * outputs, "the bias"),
            y: address(given.y, self.act_bytes(n, outputs), "the output"),
            rows: count(n, "rows"),
            inputs: count(inputs, "inputs"),
            outputs: count(outputs, "outputs"),
            gelu: u32::from(given.gelu),
        };
        let work = Work {
            bytes: (weight_bytes + self.act_bytes(n, inputs + outputs)) as u64,
            flops: 2 * (n * inputs * outputs) as u64,
        };
        let grid = [n.div_ceil(ROWS) as u32, outputs.div_ceil(COLUMNS) as u32, 1];
        // SAFETY: as in `embed`.
        unsafe { self.product.launch(grid, &args, work) }
    }

    /// `logits ← x wteᵀ`: `x` `[N, C]` act, `logits` `[N, V]` f32.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn logits(&self, x: View, table: View, logits: View) -> Result<(), CudaError> {
        let (c, v) = (self.variant.n_embd, self.variant.vocab_size);
        let n = logits.len_of::<f32>() / v;
        let table_bytes = self.act_bytes(self.variant.padded_vocab_size(), c);
        let args = LogitsArgs {
            x: address(x, self.act_bytes(n, c), "the input of the head"),
            table: address(table, table_bytes, "the token embedding"),
            logits: values::<f32>(logits, n * v, "the logits"),
            rows: count(n, "rows"),
            vocab_size: count(v, "V"),
        };
        let work = Work { bytes: (table_bytes + 4 * n * v) as u64, flops: 2 * (n * v * c) as u64 };
        let grid = [n.div_ceil(ROWS) as u32, count(v.div_ceil(WARPS), "blocks"), 1];
        // SAFETY: as in `embed`.
        unsafe { self.logits.launch(grid, &args, work) }
    }

    /// Puts the keys and values of `rows` into the cache, and attends: `qkv` `[N, 3C]` → `out` `[N, C]`, act.
    ///
    /// # Errors
    /// [`CudaError`] if a launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn attend(
        &self,
        rows: View,
        qkv: View,
        cache: KeyValues,
        out: View,
    ) -> Result<(), CudaError> {
        let (n, c) = (rows.len_of::<DecodeRow>(), self.variant.n_embd);
        let cache_bytes = Self::cache_bytes(self.variant, (self.n_slots, self.block_size));
        let (heads, block_size) =
            (count(self.heads(), "heads"), count(self.block_size, "block size"));
        let args = CacheArgs {
            qkv: address(qkv, self.act_bytes(n, 3 * c), "queries, keys and values"),
            rows: values::<DecodeRow>(rows, n, "the rows"),
            keys: address(cache.keys, cache_bytes, "the keys"),
            values: address(cache.values, cache_bytes, "the values"),
            n: count(n, "rows"),
            heads,
            block_size,
        };
        let pieces = 2 * n * c / 8;
        let work = Work::bytes(self.act_bytes(n, 4 * c));
        // SAFETY: as in `embed`; slots and positions are inside the cache.
        unsafe { self.cache.launch([pieces.div_ceil(THREADS) as u32, 1, 1], &args, work)? };
        let args = AttentionArgs {
            qkv: args.qkv,
            rows: args.rows,
            keys: args.keys,
            values: args.values,
            out: address(out, self.act_bytes(n, c), "the output"),
            heads,
            block_size,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
        };
        // How long the sequences are is not known here.
        let work = Work::bytes(self.act_bytes(n, 2 * c));
        // SAFETY: as above.
        unsafe { self.attention.launch([heads, count(n, "rows"), 1], &args, work) }
    }
}
