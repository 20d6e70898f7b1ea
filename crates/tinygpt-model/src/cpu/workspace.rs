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
    /// The residual stream before each block and after the last, `[N, C]` each.
    pub(crate) stream: Vec<Vec<f32>>,
    /// One for each block.
    pub(crate) blocks: Vec<BlockActs>,
    /// How many of `blocks` a pass uses: layer i uses index i modulo this number. It is 1 without gradients. Of
    /// `stream` it uses one more.
    pub(crate) n_kept: usize,
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
    /// pass needs is kept. Buffers that fit are left as they are. So are those that the pass does not use: an
    /// evaluation has more rows than one of several workers, and would let all of its blocks grow.
    pub(crate) fn fit(&mut self, d: &Dims, n_layer: usize, gradients: bool) {
        let n = d.rows();
        let kept = if gradients { n_layer } else { 1 };
        self.n_kept = kept;
        if self.blocks.len() < kept {
            self.blocks.resize_with(kept, BlockActs::default);
            self.stream.resize_with(kept + 1, Vec::new);
        }
        self.blocks[..kept].iter_mut().for_each(|block| block.fit(d));
        self.stream[..=kept].iter_mut().for_each(|x| x.resize(n * d.c, 0.0));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evaluation_of_more_rows_uses_one_block() {
        let small = Dims { b: 2, t: 3, c: 4, h: 2, v: 5, threads: 1 };
        let large = Dims { b: 8, ..small };
        let mut workspace = Workspace::default();
        workspace.fit(&small, 3, true);
        workspace.fit(&large, 3, false);
        let rows = |block: &BlockActs| block.hidden.len() / (4 * small.c);
        assert_eq!(workspace.blocks.iter().map(rows).collect::<Vec<_>>(), [24, 6, 6]);
        let streams: Vec<_> = workspace.stream.iter().map(|it| it.len() / small.c).collect();
        assert_eq!((streams, workspace.n_kept), (vec![24, 24, 6, 6], 1));
        workspace.fit(&small, 3, true);
        assert_eq!(workspace.blocks.iter().map(rows).collect::<Vec<_>>(), [6; 3]);
        assert_eq!(workspace.n_kept, 3);
    }
}
