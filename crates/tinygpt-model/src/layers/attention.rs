//! Causal self-attention (Vaswani et al. 2017, section 3.2; GPT-2's `attn`).
//!
//! `softmax(q kᵀ / √D + mask) v` for each head, mask −∞ above the diagonal, between the packed
//! projection `c_attn` and the output projection `c_proj`. The residual is the block's.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::softmax;
use tinygpt_kernels::profile::{Op, timed};
use tinygpt_kernels::{attention as kernel, bias};

use super::dropout::{self, Dropout, Site};
use super::linear;
use super::pass::{AttentionActs, BlockPass};
use crate::batch::TokenBatch;
use crate::parts::{Affine, BlockParts};

/// The two projections of one attention layer and its number of heads.
pub(crate) struct Attention<'a> {
    pub(crate) c_attn: &'a Affine<Tensor>,
    pub(crate) c_proj: &'a Affine<Tensor>,
    pub(crate) n_head: usize,
    /// Which block this is, for the dropout masks.
    pub(crate) layer: usize,
}

impl Attention<'_> {
    /// Attention over a whole sequence.
    ///
    /// # Shapes
    /// `x` `[B, T, C]`, `mask` `[B, 1, T, T]` or `[T, T]` → `[B, T, C]`.
    pub(crate) fn autograd(
        &self,
        x: &Tensor,
        mask: &Tensor,
        dropout: Option<&Dropout>,
        compute: DType,
    ) -> Result<Tensor> {
        let [q, k, v] = self.heads(x, compute)?;
        self.attend(&q, &k, &v, mask, dropout, compute)
    }

    /// Queries, keys and values of each head, `[B, H, T, D]` each.
    ///
    /// The packed weight is cut, not the packed result: the backward of `narrow` pads and
    /// concatenates, which for `[C, 3C]` is cheap and for `[B, T, 3C]` is not.
    pub(crate) fn heads(&self, x: &Tensor, compute: DType) -> Result<[Tensor; 3]> {
        let (b, t, c) = x.dims3()?;
        let part = |part_idx: usize| {
            let cut = |packed: &Tensor| packed.narrow(D::Minus1, part_idx * c, c)?.contiguous();
            let projection = Affine {
                weight: cut(&self.c_attn.weight)?, // [C, C]
                bias: self.c_attn.bias.as_ref().map(cut).transpose()?,
            };
            linear::autograd(x, &projection, compute)? // [B, T, C]
                .reshape((b, t, self.n_head, c / self.n_head))?
                .transpose(1, 2)? // [B, H, T, D]
                .contiguous()
        };
        Ok([part(0)?, part(1)?, part(2)?])
    }

    /// Weights the values and projects them back.
    ///
    /// # Shapes
    /// `q` `[B, H, T, D]`, `k` and `v` `[B, H, S, D]`, `mask` `[B, 1, T, S]` or `[T, S]` → `[B, T, C]`.
    pub(crate) fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        mask: &Tensor,
        dropout: Option<&Dropout>,
        compute: DType,
    ) -> Result<Tensor> {
        let (b, h, t, d) = q.dims4()?;
        // Scaled before the product: q is smaller than the scores.
        let q = (q / (d as f64).sqrt())?;
        let scores = linear::matmul(&q, &k.t()?, compute)?; // [B, H, T, S]
        // Not `softmax_last_dim`, which has no backward (huggingface/candle#3011).
        let att = softmax(&scores.broadcast_add(mask)?, D::Minus1)?;
        let att = dropout::autograd(att, dropout, Site::Attention(self.layer))?;
        let y = linear::matmul(&att, v, compute)?; // [B, H, T, D]
        let y = y.transpose(1, 2)?.reshape((b, t, h * d))?; // [B, T, C]
        linear::autograd(&y, self.c_proj, compute)
    }
}

/// 0 where query `i` of the last `t` positions may look at key `j` of all `s`, −∞ elsewhere, `[T, S]`.
pub(crate) fn causal_mask(t: usize, s: usize, device: &Device) -> Result<Tensor> {
    let n_past = s - t;
    let mask: Vec<f32> = (0..t)
        .flat_map(|i| (0..s).map(move |j| if j <= n_past + i { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    Tensor::from_vec(mask, (t, s), device)
}

/// The mask of a batch: `[T, T]` if it is causal and no more, `[B, 1, T, T]` if sequences hold several
/// documents.
pub(crate) fn mask(batch: &TokenBatch<'_>, device: &Device) -> Result<Tensor> {
    let (b, t) = (batch.batch_size, batch.seq_len);
    let Some(starts) = batch.document_starts else { return causal_mask(t, t, device) };
    let mut mask = vec![f32::NEG_INFINITY; b * t * t];
    for ((i, start), row) in (0..t).cycle().zip(starts).zip(mask.chunks_mut(t)) {
        row[*start as usize..=i].fill(0.0);
    }
    Tensor::from_vec(mask, (b, 1, t, t), device)
}

/// `y ← attention(x)` without the bias of the output projection, which comes with the residual.
///
/// # Shapes
/// `x`, `y` `[N, C]`; `acts.qkv` `[N, 3C]`, `acts.att` `[N, C]` and `acts.lse` `[B, H, T]` are kept
/// for [`backward`].
pub(crate) fn forward(pass: &BlockPass<'_>, x: &[f32], acts: &mut AttentionActs, y: &mut [f32]) {
    let (weights, d) = (pass.weights, pass.dims);
    linear::forward(x, weights.c_attn.weight, &mut acts.qkv, d.c, d.threads);
    if let Some(bias) = weights.c_attn.bias {
        timed(Op::Bias, d.threads, 0, || bias::forward(&mut acts.qkv, bias, d.threads));
    }
    let (shape, starts, mask) = (d.attention(), pass.starts, pass.masks.attention);
    timed(Op::Attention, d.threads, shape.flops(starts), || {
        kernel::forward(&acts.qkv, shape, starts, mask, &mut acts.att, &mut acts.lse, d.threads);
    });
    linear::forward(&acts.att, weights.attn_c_proj.weight, y, d.c, d.threads);
}

/// `dx ←` the gradient of the input, given that of the output; adds to the gradients of both
/// projections but the output's bias. The probabilities are recomputed from the log-sum-exps.
///
/// # Shapes
/// `dy`, `x`, `dx` `[N, C]`; `wide` `[N, 4C]` is scratch.
pub(crate) fn backward(
    pass: &BlockPass<'_>,
    dy: &[f32],
    x: &[f32],
    acts: &AttentionActs,
    dx: &mut [f32],
    grads: &mut BlockParts<&mut [f32]>,
    wide: &mut [f32],
) {
    let (weights, d) = (pass.weights, pass.dims);
    let (dqkv, datt) = wide.split_at_mut(d.rows() * 3 * d.c);
    linear::backward_input(dy, weights.attn_c_proj.weight, datt, d.c, d.threads);
    linear::backward_weight(&acts.att, dy, grads.attn_c_proj.weight, (d.c, pass.store), d.threads);
    let given = kernel::Gradient { qkv: &acts.qkv, out: &acts.att, lse: &acts.lse, dout: datt };
    let (shape, starts, mask) = (d.attention(), pass.starts, pass.masks.attention);
    timed(Op::AttentionBackward, d.threads, shape.flops(starts) * 5 / 2, || {
        kernel::backward(given, shape, starts, mask, dqkv, d.threads);
    });
    if let Some(dbias) = grads.c_attn.bias.as_deref_mut() {
        timed(Op::BiasBackward, d.threads, 0, || bias::backward(dqkv, dbias, d.threads));
    }
    linear::backward_input(dqkv, weights.c_attn.weight, dx, d.c, d.threads);
    linear::backward_weight(x, dqkv, grads.c_attn.weight, (d.c, pass.store), d.threads);
}
