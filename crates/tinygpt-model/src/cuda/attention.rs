//! The attention kernels of a model: those of whole sequences, and those of sequences that hold several
//! documents, which are compiled when the first one comes.

use tinygpt_cuda::Gpu;
use tinygpt_cuda::kernels::Variant;
use tinygpt_cuda::kernels::attention::Attention;

use crate::batch::TokenBatch;
use crate::error::Result;

#[derive(Debug)]
pub(crate) struct AttentionKernels {
    variant: Variant,
    head_dim: usize,
    tf32: bool,
    whole: Attention,
    documents: Option<Attention>,
}

impl AttentionKernels {
    pub(super) fn load(gpu: &Gpu, variant: Variant, head_dim: usize, tf32: bool) -> Result<Self> {
        let whole = Attention::load(gpu, variant, head_dim, tf32, false)?;
        Ok(Self { variant, head_dim, tf32, whole, documents: None })
    }

    /// Compiles what `batch` needs.
    pub(super) fn compile_for(&mut self, gpu: &Gpu, batch: &TokenBatch<'_>) -> Result<()> {
        if batch.document_starts.is_some() && self.documents.is_none() {
            let (variant, head_dim, tf32) = (self.variant, self.head_dim, self.tf32);
            self.documents = Some(Attention::load(gpu, variant, head_dim, tf32, true)?);
        }
        Ok(())
    }

    /// Those of whole sequences, or those of `documents`.
    pub(super) fn of(&self, documents: bool) -> &Attention {
        self.documents.as_ref().filter(|_| documents).unwrap_or(&self.whole)
    }
}
