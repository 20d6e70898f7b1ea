//! All kernels of a step but attention, compiled at the same time.

use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

use super::classifier::Classifier;
use super::embedding::Embedding;
use super::gelu::Gelu;
use super::norm::Norms;
use super::optimizer::Optimizer;
use super::sums::Sums;
use super::variant::{File, Variant};
use crate::{CudaError, Gpu};

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
    pub fn files(variant: Variant) -> Vec<File> {
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
