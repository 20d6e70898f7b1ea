//! What a batch brings to the GPU.

use tinygpt_cuda::kernels::DropoutMask;
use tinygpt_cuda::kernels::attention::Documents;
use tinygpt_cuda::kernels::segments::Layout;
use tinygpt_cuda::{Gpu, View};

use crate::batch::TokenBatch;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::layers::dropout::Dropout;

/// Tokens and numbers of a batch, uploaded before a pass.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// `[N]` u32.
    pub(crate) ids: View,
    /// `[N]` u32.
    pub(crate) targets: View,
    /// Where the documents of the sequences lie, if there are several in one.
    pub(crate) documents: Documents,
    /// The positions sorted by token, for the backward pass.
    pub(crate) tables: View,
    /// The masks of all sites: a `DropoutMask` each.
    pub(crate) masks: View,
    /// The factor of the summed losses, f32.
    pub(crate) scale: View,
}

impl Inputs {
    /// Uploads what a pass without gradients reads.
    pub(super) fn upload(&self, gpu: &Gpu, batch: &TokenBatch<'_>) -> Result<()> {
        gpu.upload(self.ids, batch.inputs)?;
        gpu.upload(self.targets, batch.targets)?;
        if let (Some(starts), Some(ends)) = (batch.document_starts, batch.document_ends()) {
            gpu.upload(self.documents.starts, starts)?;
            gpu.upload(self.documents.ends, &ends)?;
        }
        Ok(())
    }

    /// Uploads what a pass with gradients reads; `scale` is the factor of the summed losses.
    pub(super) fn upload_training(
        &self,
        gpu: &Gpu,
        (batch, config): (&TokenBatch<'_>, &ModelConfig),
        dropout: Option<Dropout>,
        scale: f32,
    ) -> Result<()> {
        let layout = Layout::new(batch.inputs.len(), config.vocab_size);
        let mut tables = vec![0; layout.len()];
        layout.fill(batch.inputs, &mut tables);
        self.upload(gpu, batch)?;
        gpu.upload(self.tables, &tables)?;
        gpu.upload(self.scale, &[scale])?;
        if let Some(dropout) = dropout {
            let n_sites = 1 + 3 * config.n_layer as u64;
            let mask = |site| DropoutMask::new(dropout.p, dropout.key_of(site), 0);
            let masks: Vec<_> = (0..n_sites).map(mask).collect();
            gpu.upload(self.masks, &masks)?;
        }
        Ok(())
    }
}
