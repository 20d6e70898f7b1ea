//! What the layers of a block are given in a pass on the CPU: its sizes, weights and dropout masks, and
//! the activations that backward needs of forward.
//!
//! The buffers belong to the workspace of the CPU backend; this file says what is in them.

use tinygpt_kernels::Store;
use tinygpt_kernels::attention::Shape;
use tinygpt_kernels::dropout::Dropout as Mask;
use tinygpt_kernels::layer_norm::Stats;

use crate::config::ModelConfig;
use crate::parts::BlockParts;

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
    /// V.
    pub(crate) v: usize,
    /// Threads that each kernel may use.
    pub(crate) threads: usize,
}

impl Dims {
    pub(crate) fn new(config: &ModelConfig, b: usize, t: usize, threads: usize) -> Self {
        Self { b, t, c: config.n_embd, h: config.n_head, v: config.vocab_size, threads }
    }

    /// N = B·T.
    pub(crate) fn rows(&self) -> usize {
        self.b * self.t
    }

    pub(crate) fn attention(&self) -> Shape {
        Shape { batch: self.b, time: self.t, heads: self.h, head_dim: self.c / self.h }
    }
}

/// What is fixed during the pass through one block: sizes, weights, dropout masks.
#[derive(Clone, Copy)]
pub(crate) struct BlockPass<'a> {
    pub(crate) dims: Dims,
    pub(crate) weights: &'a BlockParts<&'a [f32]>,
    /// Where the document of each position starts, `[N]`; without, a sequence is one document.
    pub(crate) starts: Option<&'a [u32]>,
    pub(crate) masks: BlockMasks,
    /// What the backward pass does to the gradients of matrices; the others are added to.
    pub(crate) store: Store,
}

/// Dropout masks of one block, their row 0 being the first row of the pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BlockMasks {
    pub(crate) attention: Option<Mask>,
    pub(crate) attention_output: Option<Mask>,
    pub(crate) mlp_output: Option<Mask>,
}

/// Output and row statistics of one layer norm.
#[derive(Debug, Default)]
pub(crate) struct NormActs {
    /// `[N, C]`.
    pub(crate) out: Vec<f32>,
    /// `[N]`.
    pub(crate) mean: Vec<f32>,
    /// `[N]`.
    pub(crate) rstd: Vec<f32>,
}

impl NormActs {
    pub(crate) fn split(&mut self) -> (&mut [f32], Stats<'_>) {
        (&mut self.out, Stats { mean: &mut self.mean, rstd: &mut self.rstd })
    }

    pub(crate) fn fit(&mut self, d: &Dims) {
        self.out.resize(d.rows() * d.c, 0.0);
        self.mean.resize(d.rows(), 0.0);
        self.rstd.resize(d.rows(), 0.0);
    }
}

/// What the backward pass of one attention layer needs of its forward pass.
#[derive(Debug, Default)]
pub(crate) struct AttentionActs {
    /// Packed queries, keys and values, `[N, 3C]`.
    pub(crate) qkv: Vec<f32>,
    /// Log-sum-exps of the attention rows, `[B, H, T]`.
    pub(crate) lse: Vec<f32>,
    /// Attention before its output projection, `[N, C]`.
    pub(crate) att: Vec<f32>,
}

/// What the backward pass of one block needs of its forward pass.
#[derive(Debug, Default)]
pub(crate) struct BlockActs {
    /// ln_1.
    pub(crate) norm_1: NormActs,
    /// Between the attention's projections.
    pub(crate) attention: AttentionActs,
    /// The residual stream between attention and MLP, `[N, C]`.
    pub(crate) middle: Vec<f32>,
    /// ln_2.
    pub(crate) norm_2: NormActs,
    /// The MLP's pre-activation, `[N, 4C]`; the backward pass turns it into the activation.
    pub(crate) hidden: Vec<f32>,
}

impl BlockActs {
    pub(crate) fn fit(&mut self, d: &Dims) {
        let n = d.rows();
        self.norm_1.fit(d);
        self.attention.qkv.resize(n * 3 * d.c, 0.0);
        self.attention.lse.resize(n * d.h, 0.0);
        self.attention.att.resize(n * d.c, 0.0);
        self.middle.resize(n * d.c, 0.0);
        self.norm_2.fit(d);
        self.hidden.resize(n * 4 * d.c, 0.0);
    }
}

/// Buffers that every block uses in turn.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// `[N, 4C]`.
    pub(crate) wide: Vec<f32>,
    /// A branch of the residual stream or its gradient, `[N, C]`.
    pub(crate) branch: Vec<f32>,
    /// The gradient of a layer norm's output, `[N, C]`.
    pub(crate) dnormed: Vec<f32>,
    /// Replaces the biases of a model without, `[4C]`: always zero.
    pub(crate) no_bias: Vec<f32>,
    /// Takes the gradients of biases that are not there, `[4C]`: never read.
    pub(crate) no_bias_grad: Vec<f32>,
}
