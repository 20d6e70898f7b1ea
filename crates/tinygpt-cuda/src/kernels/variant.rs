//! Which variant of the kernels a model needs, and all of them compiled for it.

use super::classifier::Classifier;
use super::embedding::Embedding;
use super::gelu::Gelu;
use super::norm::Norms;
use super::optimizer::Optimizer;
use super::sums::Sums;
use crate::{CudaError, Dtype, Gpu};

/// What the kernels of a model are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Activations, and the weights that products read.
    pub act: Dtype,
    /// The residual stream and its gradient.
    pub stream: Dtype,
    /// C, a multiple of 8, at most [`Variant::MAX_N_EMBD`].
    pub n_embd: usize,
    /// V.
    pub vocab_size: usize,
}

impl Variant {
    /// The largest C: a block of layer norm backward holds a row, 8 columns a thread.
    pub const MAX_N_EMBD: usize = 8192;

    /// Vp: the rows of the token embedding on the GPU, and the columns of logits.
    #[must_use]
    pub fn padded_vocab_size(&self) -> usize {
        self.vocab_size.next_multiple_of(128)
    }

    /// Whether the kernels can run a model with this C.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        self.n_embd > 0 && self.n_embd.is_multiple_of(8) && self.n_embd <= Self::MAX_N_EMBD
    }

    /// The `-D` options that all kernel files take.
    pub(crate) fn defines(&self) -> Vec<(&'static str, u32)> {
        let bf16 = |dtype| u32::from(dtype == Dtype::Bf16);
        vec![
            ("ACT_BF16", bf16(self.act)),
            ("STREAM_BF16", bf16(self.stream)),
            ("FAST_MATH", bf16(self.act)),
            ("C", self.n_embd as u32),
            ("VOCAB_PADDED", self.padded_vocab_size() as u32),
        ]
    }
}

/// All kernels of a step but attention.
#[derive(Clone, Debug)]
pub struct Kernels {
    /// Layer norm, with the residual around it.
    pub norms: Norms,
    /// Token and position embedding.
    pub embedding: Embedding,
    /// GELU and the sums for bias gradients.
    pub gelu: Gelu,
    /// Cross entropy.
    pub classifier: Classifier,
    /// The second pass of sums over rows.
    pub sums: Sums,
    /// Global norm, clipping, AdamW.
    pub optimizer: Optimizer,
}

impl Kernels {
    /// Compiles the kernels for `variant` on all cores, or takes them from the cache.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output; other errors of the driver.
    ///
    /// # Panics
    /// If the variant [is not supported](Variant::is_supported).
    pub fn load(gpu: &Gpu, variant: Variant) -> Result<Self, CudaError> {
        assert!(variant.is_supported(), "n_embd {} is not supported", variant.n_embd);
        let sources = [
            Norms::SOURCES[0],
            Norms::SOURCES[1],
            Embedding::SOURCE,
            Gelu::SOURCE,
            Classifier::SOURCE,
            Sums::SOURCE,
            Optimizer::SOURCE,
        ];
        let files: Vec<_> =
            sources.iter().map(|source| (*source, variant.defines())).collect();
        let modules = gpu.modules(&files)?;
        let [norm, norm_backward, embedding, gelu, classifier, sums, optimizer] = &modules[..]
        else {
            unreachable!("one module for each file");
        };
        Ok(Self {
            norms: Norms::new([norm, norm_backward], variant)?,
            embedding: Embedding::new(embedding, variant)?,
            gelu: Gelu::new(gelu, variant)?,
            classifier: Classifier::new(classifier, variant)?,
            sums: Sums::new(sums)?,
            optimizer: Optimizer::new(optimizer)?,
        })
    }
}
