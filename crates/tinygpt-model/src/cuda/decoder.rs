//! Decoding on a GPU: slots with a KV cache, and a step of up to [`MAX_ROWS`] rows.
//!
//! A prompt is decoded like the tokens after it, many rows of one slot at a time. A step is launched as one
//! CUDA graph for each of a few numbers of rows; rows that only fill it up compute nothing that is read.

use std::collections::HashMap;
use std::ops::Range;

use tinygpt_cuda::kernels::decode::{Decode, DecodeProduct, DecodeRow, KeyValues};
use tinygpt_cuda::kernels::norm::{Norm, ResidualNorm};
use tinygpt_cuda::{Buffer, Graph, View, show_bytes};

use super::model::CudaModel;
use crate::batch::Row;
use crate::error::{ModelError, Result};
use crate::parts::{Affine, ModelParts};

/// The most rows of a step: more of them read the weights no less often.
const MAX_ROWS: usize = 64;

/// Slots on a GPU.
#[derive(Debug)]
pub(crate) struct CudaDecoder<'a> {
    model: &'a CudaModel,
    weights: ModelParts<View>,
    operands: ModelParts<View>,
    kernels: Decode,
    /// Bytes of the keys or the values of a slot in one layer.
    slot_bytes: usize,
    /// One for each layer.
    cache: Vec<KeyValues>,
    acts: Acts,
    graphs: HashMap<usize, Graph>,
    /// The logits of the last step as they came from the GPU, `[N, V]`.
    read: Vec<f32>,
    /// What the views above point into.
    _memory: [Buffer; 2],
}

/// Activations of [`MAX_ROWS`] rows.
#[derive(Clone, Copy, Debug)]
struct Acts {
    /// [`DecodeRow`] each.
    rows: View,
    /// `[N, C]` stream.
    stream: View,
    /// `[N, C]` act: output of a layer norm, output of attention, a branch of the stream.
    normed: View,
    att: View,
    branch: View,
    /// `[N, 3C]` act.
    qkv: View,
    /// `[N, 4C]` act.
    hidden: View,
    /// `[N, V]` f32.
    logits: View,
}

impl<'a> CudaDecoder<'a> {
    /// Allocates the caches of `n_slots` sequences.
    ///
    /// # Errors
    /// [`ModelError::Request`] with the number of slots that fit, [`ModelError::Cuda`].
    pub(crate) fn new(model: &'a CudaModel, n_slots: usize) -> Result<Self> {
        let (config, gpu, variant) = (&model.config, &model.gpu, model.variant);
        let slots = (n_slots, config.block_size);
        let layer_bytes = Decode::cache_bytes(variant, slots);
        let kernels = Decode::load(gpu, variant, config.n_embd / config.n_head, slots)?;
        let acts = gpu.alloc(Acts::divide(View::planned(isize::MAX as usize), model).1)?;
        let caches = gpu.alloc(2 * config.n_layer * layer_bytes);
        let caches = caches.map_err(|_| too_many(model, n_slots))?;
        let layer = |i: usize| {
            let part = |i: usize| caches.view().slice(i * layer_bytes..(i + 1) * layer_bytes);
            KeyValues { keys: part(2 * i), values: part(2 * i + 1) }
        };
        Ok(Self {
            model,
            weights: model.weights.parts()?,
            operands: model.operands()?,
            kernels,
            slot_bytes: layer_bytes / n_slots,
            cache: (0..config.n_layer).map(layer).collect(),
            acts: Acts::divide(acts.view(), model).0,
            graphs: HashMap::new(),
            read: Vec::new(),
            _memory: [caches, acts],
        })
    }

    /// Puts `prompt` into `slots`, which are free, and its last `logits`, `[slots, V]`, at the first of them.
    pub(crate) fn prefill(
        &mut self,
        slots: &[usize],
        prompt: &[u32],
        logits: &mut [f32],
    ) -> Result<()> {
        let Some((&slot, others)) = slots.split_first() else { return Ok(()) };
        let row = |(position, &id): (usize, &u32)| Row { slot, id, position };
        let rows: Vec<Row> = prompt.iter().enumerate().map(row).collect();
        for chunk in rows.chunks(MAX_ROWS) {
            self.step(chunk)?;
        }
        let last = (rows.len() - 1) % MAX_ROWS;
        self.logits(last..last + 1, &[slot], logits)?;
        let (gpu, bytes) = (&self.model.gpu, self.slot_bytes);
        let of = |slot: usize| slot * bytes..(slot + 1) * bytes;
        for &other in others {
            for KeyValues { keys, values } in &self.cache {
                gpu.copy(keys.slice(of(other)), keys.slice(of(slot)))?;
                gpu.copy(values.slice(of(other)), values.slice(of(slot)))?;
            }
        }
        Ok(())
    }

    /// Appends the rows, one for each sequence, and leaves their logits at their slots, `[slots, V]`.
    pub(crate) fn decode(&mut self, rows: &[Row], logits: &mut [f32]) -> Result<()> {
        for chunk in rows.chunks(MAX_ROWS) {
            self.step(chunk)?;
            let slots: Vec<usize> = chunk.iter().map(|row| row.slot).collect();
            self.logits(0..chunk.len(), &slots, logits)?;
        }
        Ok(())
    }

    /// All but the head, for at most [`MAX_ROWS`] rows.
    fn step(&mut self, rows: &[Row]) -> Result<()> {
        let n = rows.len().next_power_of_two();
        let row = |row: &Row| DecodeRow::new(row.slot, row.id, row.position);
        let mut filled: Vec<DecodeRow> = rows.iter().map(row).collect();
        filled.resize(n, DecodeRow::default());
        let gpu = &self.model.gpu;
        gpu.upload(self.acts.rows.slice_of::<DecodeRow>(0..n), &filled)?;
        if gpu.is_profiled() || !self.model.uses_graphs() {
            return self.launch(n);
        }
        if !self.graphs.contains_key(&n) {
            let graph = gpu.capture(|| self.launch(n))?;
            self.graphs.insert(n, graph);
        }
        self.graphs.get(&n).map_or(Ok(()), |graph| Ok(graph.launch()?))
    }

    /// Launches the blocks for the first `n` rows.
    fn launch(&self, n: usize) -> Result<()> {
        let (config, acts) = (&self.model.config, self.acts.first(n));
        let c = config.n_embd;
        let tables = [self.weights.wte, self.weights.wpe];
        self.kernels.embed(acts.rows, tables, acts.stream, self.norm_before(0, acts))?;
        for (layer, operands) in self.operands.blocks.iter().enumerate() {
            let weights = &self.weights.blocks[layer];
            let Affine { weight, .. } = operands.c_attn;
            self.product(acts.normed, weight, weights.c_attn.bias, acts.qkv, (n, c, 3 * c))?;
            self.kernels.attend(acts.rows, acts.qkv, self.cache[layer], acts.att)?;
            self.product(acts.att, operands.attn_c_proj.weight, None, acts.branch, (n, c, c))?;
            self.residual(weights.attn_c_proj.bias, norm(&weights.ln_2, acts), acts, n)?;
            let up = DecodeProduct {
                x: acts.normed,
                weight: operands.c_fc.weight,
                bias: weights.c_fc.bias,
                gelu: true,
                y: acts.hidden,
            };
            self.kernels.product(up, (n, c, 4 * c))?;
            let down = operands.mlp_c_proj.weight;
            self.product(acts.hidden, down, None, acts.branch, (n, 4 * c, c))?;
            self.residual(weights.mlp_c_proj.bias, self.norm_before(layer + 1, acts), acts, n)?;
        }
        Ok(())
    }

    fn product(
        &self,
        x: View,
        weight: View,
        bias: Option<View>,
        y: View,
        sizes: (usize, usize, usize),
    ) -> Result<()> {
        Ok(self.kernels.product(DecodeProduct { x, weight, bias, gelu: false, y }, sizes)?)
    }

    /// Adds the branch with its bias to the stream, and normalizes it.
    fn residual(&self, bias: Option<View>, norm: Norm, acts: Acts, n: usize) -> Result<()> {
        let Acts { stream, branch, .. } = acts;
        let given = ResidualNorm { stream, branch, bias, mask: None, stream_out: stream, norm };
        Ok(self.model.kernels.norms.residual_forward(given, n)?)
    }

    /// The layer norm that reads the stream before block `layer`; after the last block that is ln_f.
    fn norm_before(&self, layer: usize, acts: Acts) -> Norm {
        let blocks = &self.weights.blocks;
        norm(blocks.get(layer).map_or(&self.weights.ln_f, |block| &block.ln_1), acts)
    }

    /// Brings the logits of some rows of the last step to their slots of `logits` `[slots, V]`.
    fn logits(&mut self, rows: Range<usize>, slots: &[usize], logits: &mut [f32]) -> Result<()> {
        let (gpu, variant) = (&self.model.gpu, self.model.variant);
        let (v, row_bytes) = (variant.vocab_size, variant.n_embd * variant.act.bytes());
        let x = self.acts.normed.slice(rows.start * row_bytes..rows.end * row_bytes);
        let on_gpu = self.acts.logits.slice_of::<f32>(0..rows.len() * v);
        self.kernels.logits(x, self.operands.wte, on_gpu)?;
        self.read.resize(rows.len() * v, 0.0);
        gpu.download(on_gpu, &mut self.read)?;
        for (row, &slot) in self.read.chunks(v).zip(slots) {
            logits[slot * v..(slot + 1) * v].copy_from_slice(row);
        }
        Ok(())
    }
}

impl Acts {
    /// Parts of `memory` for [`MAX_ROWS`] rows, and how many bytes they take.
    fn divide(memory: View, model: &CudaModel) -> (Self, usize) {
        let (c, variant) = (model.config.n_embd, model.variant);
        let mut end = 0;
        let mut part = |bytes_of_row: usize| {
            let part = memory.slice(end..end + MAX_ROWS * bytes_of_row);
            end += (MAX_ROWS * bytes_of_row).next_multiple_of(256);
            part
        };
        let act = variant.act.bytes();
        let acts = Self {
            rows: part(size_of::<DecodeRow>()),
            stream: part(c * variant.stream.bytes()),
            normed: part(c * act),
            att: part(c * act),
            branch: part(c * act),
            qkv: part(3 * c * act),
            hidden: part(4 * c * act),
            logits: part(variant.vocab_size * size_of::<f32>()),
        };
        (acts, end)
    }

    /// The first `n` rows of each.
    fn first(&self, n: usize) -> Self {
        let first = |view: View| view.slice(0..view.bytes() / MAX_ROWS * n);
        let Self { rows, stream, normed, att, branch, qkv, hidden, logits } = *self;
        Self {
            rows: first(rows),
            stream: first(stream),
            normed: first(normed),
            att: first(att),
            branch: first(branch),
            qkv: first(qkv),
            hidden: first(hidden),
            logits: first(logits),
        }
    }
}

fn norm(weights: &Affine<View>, acts: Acts) -> Norm {
    let Affine { weight, bias } = *weights;
    Norm { weight, bias, out: acts.normed, stats: None }
}

/// The error for caches that do not fit.
fn too_many(model: &CudaModel, n_slots: usize) -> ModelError {
    let config = &model.config;
    let of_slot =
        2 * config.n_layer * Decode::cache_bytes(model.variant, (1, config.block_size)).max(1);
    let free = model.gpu.memory().map_or(0, |(free, _)| free);
    ModelError::request(format!(
        "{n_slots} sequences of {} tokens need {} of GPU memory for their keys and values, and {} are free: at \
         most {} fit",
        config.block_size,
        show_bytes(n_slots * of_slot),
        show_bytes(free),
        (free - free / 20) / of_slot
    ))
}
