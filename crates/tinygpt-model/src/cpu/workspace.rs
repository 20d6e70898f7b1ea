//! The memory of the CPU backend: every activation of a step, allocated once and reused.
//!
//! Fresh large allocations would be mapped, faulted in and unmapped by the kernel at every step,
//! which costs up to a tenth of it. So the buffers live here, grow when a shape is larger than all
//! before, and are handed to the layers as slices. The computation is in `layers/` and `step.rs`,
//! the activations of one block are in `layers/pass.rs`.

use crate::layers::pass::{BlockActs, Dims, NormActs, Scratch};

/// All activations of one pass.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// The residual stream before each block and after the last, `[N, C]` each. A pass without
    /// gradients needs two of them, and one of `blocks`: layer i uses index i modulo the length.
    pub(crate) stream: Vec<Vec<f32>>,
    /// One for each block.
    pub(crate) blocks: Vec<BlockActs>,
    /// ln_f.
    pub(crate) norm_f: NormActs,
    /// A chunk of logits.
    pub(crate) logits: Vec<f32>,
    /// Gradient of the residual stream, `[N, C]`.
    pub(crate) dstream: Vec<f32>,
    /// See [`Scratch`].
    pub(crate) scratch: Scratch,
}

impl Workspace {
    /// Makes room for the chunk of logits that the loss works on.
    pub(crate) fn fit_logits(&mut self, d: &Dims) {
        self.logits.resize(tinygpt_kernels::head::scratch_len(d.rows(), d.v), 0.0);
    }

    /// Makes every buffer but the logits fit a pass of `n_layer` blocks; with `gradients`, all that the backward
    /// pass needs is kept. Buffers that fit are left as they are.
    pub(crate) fn fit(&mut self, d: &Dims, n_layer: usize, gradients: bool) {
        let n = d.rows();
        let kept = if gradients { n_layer } else { 1 };
        if self.blocks.len() < kept {
            self.blocks.resize_with(kept, BlockActs::default);
            self.stream.resize_with(kept + 1, Vec::new);
        }
        self.blocks.iter_mut().for_each(|block| block.fit(d));
        self.stream.iter_mut().for_each(|x| x.resize(n * d.c, 0.0));
        self.norm_f.fit(d);
        self.scratch.wide.resize(n * 4 * d.c, 0.0);
        self.scratch.branch.resize(n * d.c, 0.0);
        self.scratch.no_bias.resize(4 * d.c, 0.0);
        self.scratch.no_bias_grad.resize(4 * d.c, 0.0);
        if gradients {
            self.dstream.resize(n * d.c, 0.0);
            self.scratch.dnormed.resize(n * d.c, 0.0);
        }
    }
}
