//! A whole step on the CPU: forward, loss and backward by hand over the kernels, no graph.
//!
//! The forward pass fills a [`Workspace`], the head turns logits into loss and gradient at once,
//! and the blocks are walked back, each adding its gradients in place to the slices it was given.
//! How a batch is divided among workers is in `data_parallel.rs`; this file is one worker's work.

use tinygpt_kernels::profile::{Op, timed};
use tinygpt_kernels::{Store, embedding, head, n_learned};

use crate::cpu::workspace::Workspace;
use crate::layers::block;
use crate::layers::dropout::{Dropout, Site};
use crate::layers::pass::{BlockMasks, BlockPass, Dims};
use crate::layers::{head as layers_head, layer_norm};
use crate::parts::{Affine, BlockParts, ModelParts};

/// The weights of a model, as slices.
pub(crate) type Weights<'a> = ModelParts<&'a [f32]>;
/// The gradients of a model, as slices.
pub(crate) type WeightGrads<'a> = ModelParts<&'a mut [f32]>;

/// The sequences that one pass handles.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    /// `[B, T]`, each below V.
    pub(crate) inputs: &'a [u32],
    /// Where the document of each position starts, `[B, T]`; without, a sequence is one document.
    pub(crate) starts: Option<&'a [u32]>,
    pub(crate) dims: Dims,
    pub(crate) dropout: Option<Dropout>,
    /// Sequences of the whole batch before these, for the dropout masks.
    pub(crate) first_sequence: usize,
    /// What [`Pass::train`] does to the gradients of matrices; the others are added to.
    pub(crate) store: Store,
}

impl<'p> Pass<'p> {
    /// All of `inputs`, each sequence one document, for a loss or for logits.
    pub(crate) fn without_gradients(inputs: &'p [u32], dims: Dims) -> Self {
        let (first_sequence, store) = (0, Store::Overwrite);
        Self { inputs, starts: None, dims, dropout: None, first_sequence, store }
    }

    /// Rows of the residual stream before these.
    fn first_row(&self) -> usize {
        self.first_sequence * self.dims.t
    }

    fn mask(&self, site: Site, first_row: usize) -> Option<tinygpt_kernels::dropout::Dropout> {
        self.dropout.and_then(|dropout| dropout.mask(site)).map(|mask| mask.skip_rows(first_row))
    }

    fn block<'a>(&'a self, weights: &'a Weights<'a>, layer: usize) -> BlockPass<'a> {
        let first = self.first_row();
        let masks = BlockMasks {
            attention: self.mask(Site::Attention(layer), first * self.dims.h),
            attention_output: self.mask(Site::AttentionOutput(layer), first),
            mlp_output: self.mask(Site::MlpOutput(layer), first),
        };
        let (weights, starts) = (&weights.blocks[layer], self.starts);
        BlockPass { dims: self.dims, weights, starts, masks, store: self.store }
    }

    /// Embedding, blocks and last layer norm: leaves the rows that the head sees in
    /// `workspace.norm_f.out` `[N, C]`.
    ///
    /// `after_block` is shown the packed queries, keys and values `[N, 3C]` of each block.
    pub(crate) fn forward(
        &self,
        weights: &Weights<'_>,
        workspace: &mut Workspace,
        mut after_block: impl FnMut(usize, &[f32]),
    ) {
        let (d, ws) = (self.dims, workspace);
        let mask = self.mask(Site::Embedding, self.first_row());
        let tables = (weights.wte, weights.wpe);
        timed(Op::Embedding, 1, 0, || {
            embedding::forward(self.inputs, tables, (d.t, d.c), mask, &mut ws.stream[0]);
        });
        let (n_streams, n_blocks) = (ws.n_kept + 1, ws.n_kept);
        for layer in 0..weights.blocks.len() {
            let mut out = std::mem::take(&mut ws.stream[(layer + 1) % n_streams]);
            let acts = &mut ws.blocks[layer % n_blocks];
            let x = &ws.stream[layer % n_streams];
            block::forward(&self.block(weights, layer), x, acts, &mut out, &mut ws.scratch);
            after_block(layer, &acts.attention.qkv);
            ws.stream[(layer + 1) % n_streams] = out;
        }
        let x = &ws.stream[weights.blocks.len() % n_streams];
        layer_norm::forward(x, &weights.ln_f, &mut ws.norm_f, d.threads);
    }

    /// Forward, loss and backward: writes or adds `scale` times the gradient of the summed losses to
    /// `grads` and returns the sum, in nats.
    pub(crate) fn train(
        &self,
        weights: &Weights<'_>,
        targets: &[u32],
        scale: f32,
        workspace: &mut Workspace,
        grads: &mut WeightGrads<'_>,
    ) -> f64 {
        let ModelParts { wte, wpe, blocks, ln_f } = grads;
        let loss = self.train_head(weights, (targets, scale), workspace, (wte, ln_f));
        for (layer, grads) in blocks.iter_mut().enumerate().rev() {
            self.block_backward(weights, layer, workspace, grads);
        }
        self.embedding_backward(workspace, (wte, wpe));
        loss
    }

    /// The beginning of [`Pass::train`]: forward, loss, and the gradients of the head and of the last layer norm. After
    /// it, those of the layer norm are complete.
    pub(crate) fn train_head(
        &self,
        weights: &Weights<'_>,
        (targets, scale): (&[u32], f32),
        workspace: &mut Workspace,
        (dwte, dln_f): (&mut [f32], &mut Affine<&mut [f32]>),
    ) -> f64 {
        let d = self.dims;
        workspace.fit(&d, weights.blocks.len(), true);
        workspace.fit_logits(&d);
        self.forward(weights, workspace, |_, _| ());
        let Workspace { stream, norm_f, logits, dstream, scratch, .. } = workspace;
        let given = head::Head { x: &norm_f.out, wte: weights.wte, targets, n_embd: d.c };
        let dnormed = &mut scratch.dnormed;
        let loss = timed(Op::Head, d.threads, 6 * n_learned(targets) * d.c * d.v, || {
            head::backward(given, scale, logits, dnormed, (dwte, self.store), d.threads)
        });
        dstream.fill(0.0);
        let last = &stream[weights.blocks.len()];
        layer_norm::backward(dnormed, last, &weights.ln_f, norm_f, dstream, dln_f, d.threads);
        loss
    }

    /// The backward pass of one block, after that of the block behind it. It completes the block's gradients.
    pub(crate) fn block_backward(
        &self,
        weights: &Weights<'_>,
        layer: usize,
        workspace: &mut Workspace,
        grads: &mut BlockParts<&mut [f32]>,
    ) {
        let Workspace { stream, blocks, dstream, scratch, .. } = workspace;
        let (pass, acts) = (self.block(weights, layer), &mut blocks[layer]);
        block::backward(&pass, &stream[layer], acts, dstream, grads, scratch);
    }

    /// The end of [`Pass::train`]: adds the gradients of the embedding.
    pub(crate) fn embedding_backward(
        &self,
        workspace: &Workspace,
        (dwte, dwpe): (&mut [f32], &mut [f32]),
    ) {
        let d = self.dims;
        let mask = self.mask(Site::Embedding, self.first_row());
        timed(Op::EmbeddingBackward, 1, 0, || {
            let tables = (dwte, dwpe);
            embedding::backward(self.inputs, &workspace.dstream, (d.t, d.c), mask, tables);
        });
    }

    /// The sum of the losses in nats; nothing is kept for a backward pass.
    pub(crate) fn loss(
        &self,
        weights: &Weights<'_>,
        targets: &[u32],
        workspace: &mut Workspace,
    ) -> f64 {
        workspace.fit(&self.dims, weights.blocks.len(), false);
        workspace.fit_logits(&self.dims);
        self.forward(weights, workspace, |_, _| ());
        let (x, n_embd) = (&workspace.norm_f.out[..], self.dims.c);
        let given = head::Head { x, wte: weights.wte, targets, n_embd };
        head::loss(given, &mut workspace.logits, self.dims.threads)
    }

    /// All logits, `[B, T, V]`.
    pub(crate) fn logits(&self, weights: &Weights<'_>, workspace: &mut Workspace) -> Vec<f32> {
        let d = self.dims;
        workspace.fit(&d, weights.blocks.len(), false);
        self.forward(weights, workspace, |_, _| ());
        let mut logits = vec![0.0; d.rows() * d.v];
        layers_head::logits(&workspace.norm_f.out, weights.wte, &mut logits, d.c, d.threads);
        logits
    }
}
