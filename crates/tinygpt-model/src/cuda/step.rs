//! A whole step on the GPU: the launches of forward, loss and backward, in the order of `cpu/step.rs`.
//!
//! The end of each branch of the residual stream is one kernel with the layer norm that follows it, so the
//! forward pass of a block starts after its first layer norm and ends with that of the next block. The
//! backward pass has the same seams: a layer norm's gradient comes with the gradient of the branch before it.
//! Nothing here waits for the GPU, allocates, or depends on a number that changes from step to step, so the
//! launches can be captured in a CUDA graph.

use tinygpt_cuda::View;
use tinygpt_cuda::kernels::DropoutMask;
use tinygpt_cuda::kernels::Kernels;
use tinygpt_cuda::kernels::attention::{Attention, AttentionBackward, AttentionForward, Documents};
use tinygpt_cuda::kernels::classifier::Logits;
use tinygpt_cuda::kernels::embedding::{EmbeddingBackward, EmbeddingForward};
use tinygpt_cuda::kernels::gelu::GeluBackward;
use tinygpt_cuda::kernels::norm::{Norm, NormBackward, ResidualNorm};
use tinygpt_cuda::kernels::sums::SumTable;

use super::products::{Products, Sizes};
use super::workspace::{BlockActs, Dims, Gradients, NormActs, Workspace};
use crate::error::{ModelError, Result};
use crate::layers::dropout::Site;
use crate::parts::{Affine, ModelParts};
use crate::recompute::Recompute;

/// What a pass runs on.
pub(crate) struct Step<'a> {
    pub(crate) kernels: &'a Kernels,
    pub(crate) attention: &'a Attention,
    pub(crate) products: &'a mut Products,
    /// Weights as kernels read them: f32.
    pub(crate) weights: &'a ModelParts<View>,
    /// Weights as products read them: act.
    pub(crate) operands: &'a ModelParts<View>,
    pub(crate) workspace: &'a Workspace,
    /// Whether elements are dropped.
    pub(crate) dropout: bool,
    /// Whether attention stays inside the documents of a sequence.
    pub(crate) documents: bool,
}

/// What a backward pass does with its gradients.
#[derive(Clone, Copy)]
pub(crate) struct Into<'a> {
    pub(crate) grads: &'a ModelParts<View>,
    /// The sums over rows that end in `grads`.
    pub(crate) sums: &'a SumTable,
    /// Add to what is there.
    pub(crate) accumulate: bool,
    /// Receives the sum of the losses, or it is added, `[1]` f64.
    pub(crate) total_loss: View,
}

impl<'a> Step<'a> {
    /// Forward, loss and backward: writes or adds the gradient of the summed losses times the scale of
    /// the inputs to the gradients, and the sum of the losses to their total.
    pub(crate) fn train(&mut self, into: Into<'_>) -> Result<()> {
        let gradients = gradients(self.workspace)?;
        self.forward()?;
        self.head(into, gradients)?;
        let losses = self.workspace.losses;
        self.kernels.classifier.sum_losses(losses, into.total_loss, into.accumulate)?;
        let ws = self.workspace;
        let last = ws.dims.n_layer;
        let branch = last.checked_sub(1).map(Site::MlpOutput);
        self.norm_backward(&ws.norm_f, last, &self.weights.ln_f, false, branch)?;
        for layer in (0..last).rev() {
            self.mlp_backward(layer, into, gradients)?;
            self.attention_backward(layer, into, gradients)?;
        }
        self.embedding_backward(into, gradients)?;
        Ok(self.kernels.sums.run(into.sums, into.accumulate)?)
    }

    /// Forward and the sum of the losses, into `total_loss` `[1]` f64.
    pub(crate) fn loss(&mut self, total_loss: View) -> Result<()> {
        self.forward()?;
        let ws = self.workspace;
        for chunk in self.chunks() {
            self.logits_of(&chunk)?;
            self.kernels.classifier.loss(chunk.logits, chunk.rows)?;
        }
        Ok(self.kernels.classifier.sum_losses(ws.losses, total_loss, false)?)
    }

    /// Forward, then shows `read` each chunk of logits with its number of rows.
    pub(crate) fn logits(&mut self, mut read: impl FnMut(View, usize) -> Result<()>) -> Result<()> {
        self.forward()?;
        for chunk in self.chunks() {
            self.logits_of(&chunk)?;
            read(chunk.logits.logits, chunk.rows)?;
        }
        Ok(())
    }

    /// Embedding, blocks and last layer norm: leaves the rows that the head sees in `norm_f`.
    fn forward(&mut self) -> Result<()> {
        let ws = self.workspace;
        let d = ws.dims;
        let given = EmbeddingForward {
            ids: ws.inputs.ids,
            wte: self.weights.wte,
            wpe: self.weights.wpe,
            mask: self.mask(Site::Embedding),
            stream: ws.stream[0],
            norm: self.norm_before(0),
        };
        self.kernels.embedding.forward(given, (d.b, d.t))?;
        for layer in 0..d.n_layer {
            self.attention_forward(layer, ws.branch)?;
            self.mlp_forward(layer)?;
        }
        Ok(())
    }

    /// The layer norm that reads the stream before block `layer`; after the last block that is ln_f.
    fn norm_before(&self, layer: usize) -> Norm {
        match self.weights.blocks.get(layer) {
            Some(weights) => norm(&weights.ln_1, &self.block(layer).norm_1),
            None => norm(&self.weights.ln_f, &self.workspace.norm_f),
        }
    }

    /// From the first layer norm of a block to the second; `branch` is scratch `[N, C]` act.
    pub(super) fn attention_forward(&mut self, layer: usize, branch: View) -> Result<()> {
        let (d, acts) = (self.workspace.dims, self.block(layer));
        let (weights, operands) = (&self.weights.blocks[layer], &self.operands.blocks[layer]);
        let (x, qkv, att) = (acts.norm_1.out, acts.qkv, acts.att);
        let Affine { weight, bias } = operands.c_attn;
        self.products.forward(x, weight, bias, qkv, sizes(&d, d.c, 3 * d.c))?;
        let mask = self.mask(Site::Attention(layer));
        let documents = self.documents();
        let given = AttentionForward { qkv, out: att, lse: acts.lse, mask, documents };
        self.attention.forward(given, (d.b, d.t, d.h))?;
        let square = sizes(&d, d.c, d.c);
        self.products.forward(att, operands.attn_c_proj.weight, None, branch, square)?;
        let given = ResidualNorm {
            stream: self.stream(layer),
            branch,
            bias: weights.attn_c_proj.bias,
            mask: self.mask(Site::AttentionOutput(layer)),
            stream_out: acts.middle,
            norm: norm(&weights.ln_2, &acts.norm_2),
        };
        Ok(self.kernels.norms.residual_forward(given, d.rows())?)
    }

    fn mlp_forward(&mut self, layer: usize) -> Result<()> {
        self.activate(layer)?;
        let (ws, d, acts) = (self.workspace, self.workspace.dims, self.block(layer));
        let (branch, down) = (ws.branch, sizes(&d, 4 * d.c, d.c));
        let weight = self.operands.blocks[layer].mlp_c_proj.weight;
        self.products.forward(acts.activated, weight, None, branch, down)?;
        let given = ResidualNorm {
            stream: acts.middle,
            branch,
            bias: self.weights.blocks[layer].mlp_c_proj.bias,
            mask: self.mask(Site::MlpOutput(layer)),
            stream_out: self.stream(layer + 1),
            norm: self.norm_before(layer + 1),
        };
        Ok(self.kernels.norms.residual_forward(given, d.rows())?)
    }

    /// From the second layer norm of a block to the MLP's activation.
    pub(super) fn activate(&mut self, layer: usize) -> Result<()> {
        let (d, acts) = (self.workspace.dims, self.block(layer));
        let Affine { weight, bias } = self.operands.blocks[layer].c_fc;
        let up = sizes(&d, d.c, 4 * d.c);
        self.products.forward(acts.norm_2.out, weight, bias, acts.hidden, up)?;
        let shape = (d.rows(), 4 * d.c);
        Ok(self.kernels.gelu.forward(acts.hidden, None, acts.activated, shape)?)
    }

    /// Logits, loss and their gradients, a chunk of rows at a time.
    fn head(&mut self, into: Into<'_>, gradients: &Gradients) -> Result<()> {
        let d = self.workspace.dims;
        let v = d.variant.padded_vocab_size();
        let bytes = d.c * d.variant.act.bytes();
        for chunk in self.chunks() {
            self.logits_of(&chunk)?;
            let Chunk { first, rows, x, logits } = chunk;
            let scale = self.workspace.inputs.scale;
            self.kernels.classifier.loss_and_gradient(logits, scale, rows)?;
            // The table is [V, C], so the gradient of the rows is a forward product with it.
            let dx = gradients.dnormed.slice(first * bytes..(first + rows) * bytes);
            let (dlogits, head) = (logits.logits, Sizes { rows, n_in: v, n_out: d.c });
            self.products.forward(dlogits, self.operands.wte, None, dx, head)?;
            let accumulate = into.accumulate || first > 0;
            self.products.weight_gradient(dlogits, x, into.grads.wte, accumulate, head)?;
        }
        Ok(())
    }

    fn mlp_backward(&mut self, layer: usize, into: Into<'_>, gradients: &Gradients) -> Result<()> {
        self.recompute_for_mlp(layer, gradients)?;
        let (ws, d, acts) = (self.workspace, self.workspace.dims, &self.workspace.blocks[layer]);
        let (operands, grads) = (&self.operands.blocks[layer], &into.grads.blocks[layer]);
        let (dbranch, dhidden) = (ws.branch, gradients.wide);
        let (activated, dnormed) = (acts.activated, gradients.dnormed);
        let (up, down) = (sizes(&d, d.c, 4 * d.c), sizes(&d, 4 * d.c, d.c));
        let weight = operands.mlp_c_proj.weight;
        self.products.input_gradient(dbranch, weight, dhidden, down)?;
        let [_, partials] = partials(acts)?;
        // The gradient of an activation is computed from it, so it costs one write to have it again.
        let out = (ws.recompute() == Recompute::Cheap).then_some(activated);
        let given = GeluBackward { pre: acts.hidden, d: dhidden, out, partials };
        self.kernels.gelu.backward(given, (d.rows(), 4 * d.c))?;
        let dweight = grads.mlp_c_proj.weight;
        self.products.weight_gradient(activated, dbranch, dweight, into.accumulate, down)?;
        self.products.input_gradient(dhidden, operands.c_fc.weight, dnormed, up)?;
        let (x, dweight) = (acts.norm_2.out, grads.c_fc.weight);
        self.products.weight_gradient(x, dhidden, dweight, into.accumulate, up)?;
        let (norm, site) = (&self.weights.blocks[layer].ln_2, Site::AttentionOutput(layer));
        self.norm_backward_of(&acts.norm_2, acts.middle, norm, true, Some(site))
    }

    fn attention_backward(
        &mut self,
        layer: usize,
        into: Into<'_>,
        gradients: &Gradients,
    ) -> Result<()> {
        self.recompute_for_attention(layer)?;
        let (ws, d, acts) = (self.workspace, self.workspace.dims, &self.workspace.blocks[layer]);
        let (operands, grads) = (&self.operands.blocks[layer], &into.grads.blocks[layer]);
        let (dbranch, datt) = (ws.branch, gradients.dnormed);
        let dqkv = gradients.wide.slice(0..acts.qkv.bytes());
        let (packed, square) = (sizes(&d, d.c, 3 * d.c), sizes(&d, d.c, d.c));
        self.products.input_gradient(dbranch, operands.attn_c_proj.weight, datt, square)?;
        let (att, dweight) = (acts.att, grads.attn_c_proj.weight);
        self.products.weight_gradient(att, dbranch, dweight, into.accumulate, square)?;
        let given = AttentionBackward {
            qkv: acts.qkv,
            out: att,
            lse: acts.lse,
            dout: datt,
            dqkv,
            delta: gradients.delta,
            mask: self.mask(Site::Attention(layer)),
            documents: self.documents(),
        };
        self.attention.backward(given, (d.b, d.t, d.h))?;
        if grads.c_attn.bias.is_some() {
            let [partials, _] = partials(acts)?;
            self.kernels.gelu.bias_backward(dqkv, partials, (d.rows(), 3 * d.c))?;
        }
        // The gradient of attention's output has been read.
        self.products.input_gradient(dqkv, operands.c_attn.weight, datt, packed)?;
        let (x, dweight) = (acts.norm_1.out, grads.c_attn.weight);
        self.products.weight_gradient(x, dqkv, dweight, into.accumulate, packed)?;
        let branch = layer.checked_sub(1).map(Site::MlpOutput);
        let norm = &self.weights.blocks[layer].ln_1;
        self.norm_backward(&acts.norm_1, layer, norm, true, branch)
    }

    /// The backward pass of the layer norm that reads the stream before block `layer`.
    fn norm_backward(
        &self,
        acts: &NormActs,
        layer: usize,
        norm: &Affine<View>,
        accumulate: bool,
        branch: Option<Site>,
    ) -> Result<()> {
        self.norm_backward_of(acts, self.workspace.stream[layer], norm, accumulate, branch)
    }

    /// `dstream +=` the gradient of the layer norm's input, and the gradient of the branch that ends at
    /// `branch`, with the mask of that site.
    fn norm_backward_of(
        &self,
        acts: &NormActs,
        x: View,
        norm: &Affine<View>,
        accumulate: bool,
        branch: Option<Site>,
    ) -> Result<()> {
        let (ws, gradients) = (self.workspace, gradients(self.workspace)?);
        let given = NormBackward {
            dnormed: gradients.dnormed,
            x,
            weight: norm.weight,
            stats: acts.stats,
            dstream: gradients.dstream,
            accumulate,
            dbranch: branch.map(|_| ws.branch),
            mask: branch.and_then(|site| self.mask(site)),
            partials: acts.partials.ok_or_else(no_gradients)?,
        };
        Ok(self.kernels.norms.backward(given, ws.dims.rows())?)
    }

    fn embedding_backward(&self, into: Into<'_>, gradients: &Gradients) -> Result<()> {
        let ws = self.workspace;
        let given = EmbeddingBackward {
            dstream: gradients.dstream,
            mask: self.mask(Site::Embedding),
            tables: ws.inputs.tables,
            partials: gradients.table_partials,
            dwte: into.grads.wte,
            dwpe: into.grads.wpe,
            accumulate: into.accumulate,
        };
        Ok(self.kernels.embedding.backward(given, (ws.dims.b, ws.dims.t))?)
    }

    pub(super) fn block(&self, layer: usize) -> &'a BlockActs {
        let blocks = &self.workspace.blocks;
        &blocks[layer % blocks.len()]
    }

    fn stream(&self, layer: usize) -> View {
        let stream = &self.workspace.stream;
        stream[layer % stream.len()]
    }

    fn mask(&self, site: Site) -> Option<View> {
        let masks = self.workspace.inputs.masks;
        let index = site.index() as usize;
        self.dropout.then(|| masks.slice_of::<DropoutMask>(index..index + 1))
    }

    fn documents(&self) -> Option<Documents> {
        self.documents.then_some(self.workspace.inputs.documents)
    }

    /// The rows of the head in chunks.
    fn chunks(&self) -> impl Iterator<Item = Chunk> + use<> {
        let (ws, d) = (self.workspace, self.workspace.dims);
        let (n, each) = (d.rows(), d.chunk_rows());
        let act = d.variant.act.bytes();
        let (x_bytes, v_bytes) = (d.c * act, d.variant.padded_vocab_size() * act);
        let (x, logits, targets, losses) = (ws.norm_f.out, ws.logits, ws.inputs.targets, ws.losses);
        (0..n).step_by(each).map(move |first| {
            let rows = each.min(n - first);
            let range = first..first + rows;
            Chunk {
                first,
                rows,
                x: x.slice(first * x_bytes..range.end * x_bytes),
                logits: Logits {
                    logits: logits.slice(0..rows * v_bytes),
                    targets: targets.slice_of::<u32>(range.clone()),
                    losses: losses.slice_of::<f32>(range),
                },
            }
        })
    }

    /// `logits ← x wteᵀ`.
    fn logits_of(&mut self, chunk: &Chunk) -> Result<()> {
        let d = self.workspace.dims;
        let v = d.variant.padded_vocab_size();
        let head = Sizes { rows: chunk.rows, n_in: v, n_out: d.c };
        self.products.input_gradient(chunk.x, self.operands.wte, chunk.logits.logits, head)
    }
}

/// Some rows of the head.
struct Chunk {
    first: usize,
    rows: usize,
    /// Their input, `[rows, C]` act.
    x: View,
    logits: Logits,
}

fn sizes(dims: &Dims, n_in: usize, n_out: usize) -> Sizes {
    Sizes { rows: dims.rows(), n_in, n_out }
}

pub(super) fn norm(weights: &Affine<View>, acts: &NormActs) -> Norm {
    let Affine { weight, bias } = *weights;
    Norm { weight, bias, out: acts.out, stats: Some(acts.stats) }
}

fn gradients(workspace: &Workspace) -> Result<&Gradients> {
    workspace.gradients.as_ref().ok_or_else(no_gradients)
}

pub(super) fn partials(acts: &BlockActs) -> Result<[View; 2]> {
    acts.bias_partials.ok_or_else(no_gradients)
}

pub(super) fn no_gradients() -> ModelError {
    ModelError::request("the workspace was made for a pass without gradients")
}
