//! Which partial sums of a backward pass end in which gradient: those of biases and layer norms.

use tinygpt_cuda::View;
use tinygpt_cuda::kernels::Kernels;
use tinygpt_cuda::kernels::gelu::Gelu;
use tinygpt_cuda::kernels::norm::NormGradients;
use tinygpt_cuda::kernels::sums::Sum;

use super::step::{no_gradients, partials};
use super::workspace::{NormActs, Workspace};
use crate::error::{ModelError, Result};
use crate::parts::{Affine, ModelParts};

/// What turns the partial sums of a backward pass into the gradients of biases and layer norms.
pub(crate) fn sums(
    kernels: &Kernels,
    workspace: &Workspace,
    grads: &ModelParts<View>,
) -> Result<Vec<Sum>> {
    let rows = workspace.dims.rows();
    let mut sums = Vec::new();
    let mut norm = |acts: &NormActs, norm: &Affine<View>, branch_bias: Option<View>| {
        let gradients = NormGradients { weight: norm.weight, bias: norm.bias, branch_bias };
        let partials = acts.partials.ok_or_else(no_gradients)?;
        sums.extend(kernels.norms.sums(partials, rows, gradients));
        Ok::<_, ModelError>(())
    };
    // The bias of the branch before a layer norm is summed with it.
    let mut before = None;
    for (acts, grads) in workspace.blocks.iter().zip(&grads.blocks) {
        norm(&acts.norm_1, &grads.ln_1, before)?;
        norm(&acts.norm_2, &grads.ln_2, grads.attn_c_proj.bias)?;
        before = grads.mlp_c_proj.bias;
    }
    norm(&workspace.norm_f, &grads.ln_f, before)?;
    for (acts, grads) in workspace.blocks.iter().zip(&grads.blocks) {
        let [qkv, hidden] = partials(acts)?;
        let biases = [(qkv, grads.c_attn.bias), (hidden, grads.c_fc.bias)];
        sums.extend(
            biases
                .into_iter()
                .filter_map(|(partials, bias)| Some(Gelu::sum(partials, rows, bias?))),
        );
    }
    Ok(sums)
}
