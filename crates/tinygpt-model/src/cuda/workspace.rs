//! The activations of a step on the GPU, allocated once for a shape of batch and reused.
//!
//! All of them are parts of one allocation, so the same plan that divides it says how large it has to be.
//! act is the type of activations, stream that of the residual stream, see `tinygpt_cuda::kernels`.

use tinygpt_cuda::kernels::attention::Documents;
use tinygpt_cuda::kernels::embedding::Embedding;
use tinygpt_cuda::kernels::gelu::Gelu;
use tinygpt_cuda::kernels::norm::Norms;
use tinygpt_cuda::kernels::segments::Layout;
use tinygpt_cuda::kernels::{DropoutMask, Variant};
use tinygpt_cuda::{Buffer, Gpu, View};

use super::inputs::Inputs;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::recompute::Recompute;

/// The bytes of logits that exist at a time.
const CHUNK_BYTES: usize = 1 << 30;

/// Parts of the allocation start at a multiple of this many bytes.
const ALIGNMENT: usize = 256;

/// What a workspace is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// A loss or logits.
    Forward,
    /// Gradients, with what the forward pass does not keep for them.
    Training(Recompute),
}

/// The sizes of one pass: a model's shape with B sequences of T tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dims {
    /// B.
    pub(crate) b: usize,
    /// T.
    pub(crate) t: usize,
    /// C.
    pub(crate) c: usize,
    /// H.
    pub(crate) h: usize,
    /// L.
    pub(crate) n_layer: usize,
    pub(crate) variant: Variant,
}

impl Dims {
    pub(crate) fn new(config: &ModelConfig, variant: Variant, b: usize, t: usize) -> Self {
        Self { b, t, c: config.n_embd, h: config.n_head, n_layer: config.n_layer, variant }
    }

    /// N = B·T.
    pub(crate) fn rows(&self) -> usize {
        self.b * self.t
    }

    /// Bytes of `[N, columns]` act.
    fn act(&self, columns: usize) -> usize {
        self.rows() * columns * self.variant.act.bytes()
    }

    /// Bytes of `[N, C]` stream.
    fn stream(&self) -> usize {
        self.rows() * self.c * self.variant.stream.bytes()
    }

    /// Rows of logits that exist at a time: as few chunks as fit, all of about one size.
    pub(crate) fn chunk_rows(&self) -> usize {
        let bytes = self.act(self.variant.padded_vocab_size());
        self.rows().div_ceil(bytes.div_ceil(CHUNK_BYTES).max(1))
    }
}

/// Output of a layer norm and what its backward pass needs.
#[derive(Debug)]
pub(crate) struct NormActs {
    /// `[N, C]` act.
    pub(crate) out: View,
    /// Mean and `1/√(var + ε)`, `[N]` f32 each.
    pub(crate) stats: [View; 2],
    /// Partial sums of the gradients, see `tinygpt_cuda::kernels::norm`; only for training.
    pub(crate) partials: Option<View>,
}

/// What the backward pass of one block needs of its forward pass. With [`Recompute`], blocks share some of
/// these or all but the partial sums.
#[derive(Debug)]
pub(crate) struct BlockActs {
    /// ln_1.
    pub(crate) norm_1: NormActs,
    /// Packed queries, keys and values, `[N, 3C]` act.
    pub(crate) qkv: View,
    /// Log-sum-exps of the attention rows, `[B, H, T]` f32.
    pub(crate) lse: View,
    /// Attention before its output projection, `[N, C]` act.
    pub(crate) att: View,
    /// The residual stream between attention and MLP, `[N, C]` stream.
    pub(crate) middle: View,
    /// ln_2.
    pub(crate) norm_2: NormActs,
    /// The MLP's pre-activation, `[N, 4C]` act.
    pub(crate) hidden: View,
    /// Its activation, `[N, 4C]` act.
    pub(crate) activated: View,
    /// Partial sums of the gradients of the biases of c_attn and c_fc; only for training.
    pub(crate) bias_partials: Option<[View; 2]>,
}

/// Buffers of the backward pass, which every block uses in turn.
#[derive(Debug)]
pub(crate) struct Gradients {
    /// Of the residual stream, `[N, C]` stream.
    pub(crate) dstream: View,
    /// Of the output of a layer norm, or of attention, `[N, C]` act.
    pub(crate) dnormed: View,
    /// `[N, 4C]` act.
    pub(crate) wide: View,
    /// Row sums of attention's output times its gradient, f32.
    pub(crate) delta: View,
    /// Partial sums of the token table's gradient, f32.
    pub(crate) table_partials: View,
}

/// All activations of one pass.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) dims: Dims,
    pub(crate) pass: Pass,
    pub(crate) inputs: Inputs,
    /// The residual stream before each block and after the last. A pass without gradients needs two of
    /// them, and one of `blocks`: layer i uses index i modulo the length.
    pub(crate) stream: Vec<View>,
    pub(crate) blocks: Vec<BlockActs>,
    /// ln_f.
    pub(crate) norm_f: NormActs,
    /// A branch of the residual stream or its gradient, `[N, C]` act.
    pub(crate) branch: View,
    /// A chunk of logits, `[rows, Vp]` act.
    pub(crate) logits: View,
    /// `[N]` f32.
    pub(crate) losses: View,
    /// What only a pass with gradients needs.
    pub(crate) gradients: Option<Gradients>,
    /// What the views point into.
    _memory: Option<Buffer>,
}

impl Workspace {
    /// Allocates what `pass` needs.
    pub(crate) fn new(gpu: &Gpu, dims: Dims, pass: Pass) -> Result<Self> {
        let memory = gpu.alloc(Self::bytes(dims, pass))?;
        let workspace = Plan { rest: memory.view(), dims, pass }.workspace();
        Ok(Self { _memory: Some(memory), ..workspace })
    }

    /// What its backward pass computes again.
    pub(crate) fn recompute(&self) -> Recompute {
        match self.pass {
            Pass::Training(recompute) => recompute,
            Pass::Forward => Recompute::None,
        }
    }

    /// The bytes that `pass` needs.
    pub(crate) fn bytes(dims: Dims, pass: Pass) -> usize {
        let all = View::planned(isize::MAX as usize);
        let mut plan = Plan { rest: all, dims, pass };
        let _ = plan.workspace();
        all.bytes() - plan.rest.bytes()
    }
}

/// Divides a range of memory.
struct Plan {
    rest: View,
    dims: Dims,
    pass: Pass,
}

impl Plan {
    fn workspace(&mut self) -> Workspace {
        let d = self.dims;
        let trains = self.pass != Pass::Forward;
        let row_of_logits = d.variant.padded_vocab_size() * d.variant.act.bytes();
        Workspace {
            dims: d,
            pass: self.pass,
            inputs: self.inputs(),
            stream: (0..=if trains { d.n_layer } else { 1 })
                .map(|_| self.bytes(d.stream()))
                .collect(),
            blocks: self.blocks(if trains { d.n_layer } else { 1 }),
            norm_f: self.norm(None, None),
            branch: self.bytes(d.act(d.c)),
            logits: self.bytes(d.chunk_rows() * row_of_logits),
            losses: self.f32s(d.rows()),
            gradients: trains.then(|| self.gradients()),
            _memory: None,
        }
    }

    /// The next `len` bytes.
    fn bytes(&mut self, len: usize) -> View {
        let (part, end) = (self.rest.slice(0..len), len.next_multiple_of(ALIGNMENT));
        self.rest = self.rest.slice(end.min(self.rest.bytes())..self.rest.bytes());
        part
    }

    fn f32s(&mut self, len: usize) -> View {
        self.bytes(len * size_of::<f32>())
    }

    /// What is shared, or as many bytes.
    fn shared_or(&mut self, shared: Option<View>, len: usize) -> View {
        shared.unwrap_or_else(|| self.bytes(len))
    }

    fn inputs(&mut self) -> Inputs {
        let (rows, n_sites) = (self.dims.rows(), 1 + 3 * self.dims.n_layer);
        let layout = Layout::new(rows, self.dims.variant.vocab_size);
        Inputs {
            ids: self.f32s(rows),
            targets: self.f32s(rows),
            documents: Documents { starts: self.f32s(rows), ends: self.f32s(rows) },
            tables: self.f32s(if self.pass == Pass::Forward { 0 } else { layout.len() }),
            masks: self.bytes(n_sites * size_of::<DropoutMask>()),
            scale: self.f32s(1),
        }
    }

    fn norm(&mut self, out: Option<View>, stats: Option<[View; 2]>) -> NormActs {
        let (d, rows) = (self.dims, self.dims.rows());
        let partials_len = Norms::partials_len(d.variant, rows);
        NormActs {
            out: self.shared_or(out, d.act(d.c)),
            stats: stats.unwrap_or_else(|| [self.f32s(rows), self.f32s(rows)]),
            partials: (self.pass != Pass::Forward).then(|| self.f32s(partials_len)),
        }
    }

    fn blocks(&mut self, n: usize) -> Vec<BlockActs> {
        let mut blocks = Vec::with_capacity(n);
        for _ in 0..n {
            let block = self.block(blocks.first());
            blocks.push(block);
        }
        blocks
    }

    /// A block, which shares with the `first` one what is computed again.
    fn block(&mut self, first: Option<&BlockActs>) -> BlockActs {
        let d = self.dims;
        let outputs = first.filter(|_| self.pass != Pass::Training(Recompute::None));
        let all = first.filter(|_| self.pass == Pass::Training(Recompute::Block));
        let norm = |acts: fn(&BlockActs) -> &NormActs| {
            (outputs.map(|first| acts(first).out), all.map(|first| acts(first).stats))
        };
        let (norm_1, norm_2) = (norm(|acts| &acts.norm_1), norm(|acts| &acts.norm_2));
        BlockActs {
            norm_1: self.norm(norm_1.0, norm_1.1),
            qkv: self.shared_or(all.map(|first| first.qkv), d.act(3 * d.c)),
            lse: self.shared_or(all.map(|first| first.lse), d.rows() * d.h * size_of::<f32>()),
            att: self.shared_or(all.map(|first| first.att), d.act(d.c)),
            middle: self.shared_or(all.map(|first| first.middle), d.stream()),
            norm_2: self.norm(norm_2.0, norm_2.1),
            hidden: self.shared_or(all.map(|first| first.hidden), d.act(4 * d.c)),
            activated: self.shared_or(outputs.map(|first| first.activated), d.act(4 * d.c)),
            bias_partials: (self.pass != Pass::Forward)
                .then(|| [3, 4].map(|width| self.f32s(Gelu::partials_len(d.rows(), width * d.c)))),
        }
    }

    fn gradients(&mut self) -> Gradients {
        let d = self.dims;
        Gradients {
            dstream: self.bytes(d.stream()),
            dnormed: self.bytes(d.act(d.c)),
            wide: self.bytes(d.act(4 * d.c)),
            delta: self.f32s(d.rows() * d.h),
            table_partials: self.f32s(Embedding::partials_len(d.variant, d.rows())),
        }
    }
}
