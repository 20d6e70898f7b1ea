//! The activations of a step on the GPU, allocated once for a shape of batch and reused.
//!
//! act is the type of activations, stream that of the residual stream, see `tinygpt_cuda::kernels`.

use tinygpt_cuda::kernels::gelu::Gelu;
use tinygpt_cuda::kernels::segments::Layout;
use tinygpt_cuda::kernels::{DropoutMask, Kernels, Variant};
use tinygpt_cuda::{Buffer, Gpu, View};

use crate::config::ModelConfig;
use crate::error::Result;

/// The bytes of logits that exist at a time.
const CHUNK_BYTES: usize = 1 << 30;

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
    out: Buffer,
    /// Mean and `1/√(var + ε)`, `[N]` f32 each.
    stats: [Buffer; 2],
    /// Partial sums of the gradients, see `tinygpt_cuda::kernels::norm`.
    partials: Option<Buffer>,
}

impl NormActs {
    pub(crate) fn out(&self) -> View {
        self.out.view()
    }

    pub(crate) fn stats(&self) -> [View; 2] {
        [self.stats[0].view(), self.stats[1].view()]
    }

    /// Only a workspace with gradients has them.
    pub(crate) fn partials(&self) -> Option<View> {
        self.partials.as_ref().map(Buffer::view)
    }
}

/// What the backward pass of one block needs of its forward pass.
#[derive(Debug)]
pub(crate) struct BlockActs {
    /// ln_1.
    pub(crate) norm_1: NormActs,
    /// Packed queries, keys and values, `[N, 3C]` act.
    pub(crate) qkv: Buffer,
    /// Log-sum-exps of the attention rows, `[B, H, T]` f32.
    pub(crate) lse: Buffer,
    /// Attention before its output projection, `[N, C]` act.
    pub(crate) att: Buffer,
    /// The residual stream between attention and MLP, `[N, C]` stream.
    pub(crate) middle: Buffer,
    /// ln_2.
    pub(crate) norm_2: NormActs,
    /// The MLP's pre-activation, `[N, 4C]` act.
    pub(crate) hidden: Buffer,
    /// Its activation, `[N, 4C]` act.
    pub(crate) activated: Buffer,
    /// Partial sums of the gradients of the biases of c_attn and c_fc.
    pub(crate) bias_partials: Option<[Buffer; 2]>,
}

/// Buffers of the backward pass, which every block uses in turn.
#[derive(Debug)]
pub(crate) struct Gradients {
    /// Of the residual stream, `[N, C]` stream.
    pub(crate) dstream: Buffer,
    /// Of the output of a layer norm, or of attention, `[N, C]` act.
    pub(crate) dnormed: Buffer,
    /// `[N, 4C]` act.
    pub(crate) wide: Buffer,
    /// Row sums of attention's output times its gradient, f32.
    pub(crate) delta: Buffer,
    /// Partial sums of the token table's gradient, f32.
    pub(crate) table_partials: Buffer,
}

/// Tokens and numbers of a batch, uploaded before a pass.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// `[N]` u32.
    pub(crate) ids: Buffer,
    /// `[N]` u32.
    pub(crate) targets: Buffer,
    /// The positions sorted by token, for the backward pass.
    pub(crate) tables: Buffer,
    /// The masks of all sites: a `DropoutMask` each.
    pub(crate) masks: Buffer,
    /// The factor of the summed losses, f32.
    pub(crate) scale: Buffer,
}

/// All activations of one pass.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) dims: Dims,
    pub(crate) inputs: Inputs,
    /// The residual stream before each block and after the last. A pass without gradients needs two of
    /// them, and one of `blocks`: layer i uses index i modulo the length.
    pub(crate) stream: Vec<Buffer>,
    pub(crate) blocks: Vec<BlockActs>,
    /// ln_f.
    pub(crate) norm_f: NormActs,
    /// A branch of the residual stream or its gradient, `[N, C]` act.
    pub(crate) branch: Buffer,
    /// A chunk of logits, `[rows, Vp]` act.
    pub(crate) logits: Buffer,
    /// `[N]` f32.
    pub(crate) losses: Buffer,
    /// What only a pass with gradients needs.
    pub(crate) gradients: Option<Gradients>,
}

impl Workspace {
    /// Allocates a pass of `dims`; with `gradients`, all that the backward pass needs is kept.
    pub(crate) fn new(gpu: &Gpu, kernels: &Kernels, dims: Dims, gradients: bool) -> Result<Self> {
        let made = Allocator { gpu, kernels, dims, gradients };
        let kept = if gradients { dims.n_layer } else { 1 };
        let rows = dims.rows();
        let row_of_logits = dims.variant.padded_vocab_size() * dims.variant.act.bytes();
        Ok(Self {
            dims,
            inputs: made.inputs()?,
            stream: (0..=kept).map(|_| made.bytes(dims.stream())).collect::<Result<_>>()?,
            blocks: (0..kept).map(|_| made.block()).collect::<Result<_>>()?,
            norm_f: made.norm()?,
            branch: made.bytes(dims.act(dims.c))?,
            logits: made.bytes(dims.chunk_rows() * row_of_logits)?,
            losses: made.bytes(rows * size_of::<f32>())?,
            gradients: gradients.then(|| made.gradients()).transpose()?,
        })
    }
}

struct Allocator<'a> {
    gpu: &'a Gpu,
    kernels: &'a Kernels,
    dims: Dims,
    gradients: bool,
}

impl Allocator<'_> {
    fn bytes(&self, bytes: usize) -> Result<Buffer> {
        Ok(self.gpu.alloc(bytes)?)
    }

    fn f32s(&self, len: usize) -> Result<Buffer> {
        self.bytes(len * size_of::<f32>())
    }

    fn inputs(&self) -> Result<Inputs> {
        let rows = self.dims.rows();
        let layout = Layout::new(rows, self.dims.variant.vocab_size);
        Ok(Inputs {
            ids: self.f32s(rows)?,
            targets: self.f32s(rows)?,
            tables: self.f32s(if self.gradients { layout.len() } else { 0 })?,
            masks: self.bytes((1 + 3 * self.dims.n_layer) * size_of::<DropoutMask>())?,
            scale: self.f32s(1)?,
        })
    }

    fn norm(&self) -> Result<NormActs> {
        let rows = self.dims.rows();
        let partials = || self.f32s(self.kernels.norms.partials_len(rows));
        Ok(NormActs {
            out: self.bytes(self.dims.act(self.dims.c))?,
            stats: [self.f32s(rows)?, self.f32s(rows)?],
            partials: self.gradients.then(partials).transpose()?,
        })
    }

    fn block(&self) -> Result<BlockActs> {
        let d = self.dims;
        let partials = |columns: usize| self.f32s(Gelu::partials_len(d.rows(), columns));
        let bias_partials = || Ok::<_, crate::ModelError>([partials(3 * d.c)?, partials(4 * d.c)?]);
        Ok(BlockActs {
            norm_1: self.norm()?,
            qkv: self.bytes(d.act(3 * d.c))?,
            lse: self.f32s(d.rows() * d.h)?,
            att: self.bytes(d.act(d.c))?,
            middle: self.bytes(d.stream())?,
            norm_2: self.norm()?,
            hidden: self.bytes(d.act(4 * d.c))?,
            activated: self.bytes(d.act(4 * d.c))?,
            bias_partials: self.gradients.then(bias_partials).transpose()?,
        })
    }

    fn gradients(&self) -> Result<Gradients> {
        let d = self.dims;
        Ok(Gradients {
            dstream: self.bytes(d.stream())?,
            dnormed: self.bytes(d.act(d.c))?,
            wide: self.bytes(d.act(4 * d.c))?,
            delta: self.f32s(d.rows() * d.h)?,
            table_partials: self.f32s(self.kernels.embedding.partials_len(d.rows()))?,
        })
    }
}
