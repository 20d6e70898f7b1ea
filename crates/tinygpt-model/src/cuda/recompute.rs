//! What the backward pass reads and the forward pass has not kept, computed again.

use super::step::{Step, norm};
use super::workspace::Gradients;
use crate::error::Result;
use crate::recompute::Recompute;

impl Step<'_> {
    /// What the backward pass of the MLP reads and the forward pass has not kept.
    pub(super) fn recompute_for_mlp(&mut self, layer: usize, gradients: &Gradients) -> Result<()> {
        let (ws, acts, rows) = (self.workspace, self.block(layer), self.workspace.dims.rows());
        let (kernels, weights) = (self.kernels, &self.weights.blocks[layer]);
        match ws.recompute() {
            Recompute::None => Ok(()),
            Recompute::Cheap => {
                Ok(kernels.norms.forward(acts.middle, norm(&weights.ln_2, &acts.norm_2), rows)?)
            }
            Recompute::Block => {
                kernels.norms.forward(ws.stream[layer], norm(&weights.ln_1, &acts.norm_1), rows)?;
                // `branch` holds the gradient of the MLP's.
                self.attention_forward(layer, gradients.dnormed)?;
                self.activate(layer)
            }
        }
    }

    /// What the backward pass of attention reads and neither the forward pass nor that of the MLP has kept.
    pub(super) fn recompute_for_attention(&self, layer: usize) -> Result<()> {
        let (ws, acts) = (self.workspace, self.block(layer));
        if ws.recompute() != Recompute::Cheap {
            return Ok(());
        }
        let norm = norm(&self.weights.blocks[layer].ln_1, &acts.norm_1);
        Ok(self.kernels.norms.forward(ws.stream[layer], norm, ws.dims.rows())?)
    }
}
