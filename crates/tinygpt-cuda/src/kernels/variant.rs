//! Which variant of the kernels a model needs, and all of them compiled for it.

use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

use super::classifier::Classifier;
use super::embedding::Embedding;
use super::gelu::Gelu;
use super::norm::Norms;
use super::optimizer::Optimizer;
use super::sums::Sums;
use crate::{CudaError, Dtype, Gpu, Source};

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

    /// The `-D` options of a file that knows the types only.
    pub(crate) fn types(&self) -> Vec<(&'static str, u32)> {
        let bf16 = |dtype| u32::from(dtype == Dtype::Bf16);
        vec![
            ("ACT_BF16", bf16(self.act)),
            ("STREAM_BF16", bf16(self.stream)),
            ("FAST_MATH", bf16(self.act)),
        ]
    }

    /// The `-D` options of a file that is compiled for one C.
    ///
    /// # Panics
    /// If the variant [is not supported](Self::is_supported).
    pub(crate) fn types_and_width(&self) -> Vec<(&'static str, u32)> {
        assert!(self.is_supported(), "n_embd {} is not supported", self.n_embd);
        [self.types(), vec![("C", self.n_embd as u32)]].concat()
    }
}

/// A kernel file and its `-D` options.
pub(crate) type File = (Source, Vec<(&'static str, u32)>);

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
    /// The files of these kernels with their `-D` options, for a check of what the compiler makes of them.
    ///
    /// # Panics
    /// If the variant [is not supported](Variant::is_supported).
    #[must_use]
    pub fn files(variant: Variant) -> Vec<(Source, Vec<(&'static str, u32)>)> {
        let [norm, norm_backward] = Norms::files(variant);
        vec![
            norm,
            norm_backward,
            Embedding::file(variant),
            Gelu::file(variant),
            Classifier::file(variant),
            Sums::file(),
            Optimizer::file(),
        ]
    }

    /// Compiles the kernels for `variant`, the files at the same time, or takes them from the cache.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output; other errors of the driver.
    ///
    /// # Panics
    /// If the variant [is not supported](Variant::is_supported).
    pub fn load(gpu: &Gpu, variant: Variant) -> Result<Self, CudaError> {
        thread::scope(|scope| {
            let norms = scope.spawn(|| Norms::load(gpu, variant));
            let embedding = scope.spawn(|| Embedding::load(gpu, variant));
            let gelu = scope.spawn(|| Gelu::load(gpu, variant));
            let classifier = scope.spawn(|| Classifier::load(gpu, variant));
            let sums = scope.spawn(|| Sums::load(gpu));
            let optimizer = scope.spawn(|| Optimizer::load(gpu));
            Ok(Self {
                norms: joined(norms)?,
                embedding: joined(embedding)?,
                gelu: joined(gelu)?,
                classifier: joined(classifier)?,
                sums: joined(sums)?,
                optimizer: joined(optimizer)?,
            })
        })
    }
}

/// The value of a thread, or its panic.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
