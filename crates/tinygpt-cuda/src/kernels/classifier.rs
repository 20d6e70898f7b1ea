//! Cross entropy and its gradient: `kernels/classifier.cu`.
#![expect(unsafe_code, reason = "launches")]

use super::arguments::{address, count, values};
use super::variant::{File, Variant};
use crate::{CudaError, Gpu, Kernel, View, Work};

/// 16-byte vectors that a thread keeps in registers, as in the kernel.
const MAX_VECTORS: usize = 9;

/// A chunk of logits.
#[derive(Clone, Copy, Debug)]
pub struct Logits {
    /// `[rows, Vp]` act. Columns from V on count as −∞, whatever they hold.
    pub logits: View,
    /// Target ids `[rows]` u32, each below V or `u32::MAX`, which is not learned: the caller has checked that.
    pub targets: View,
    /// Receives the losses in nats, `[rows]` f32.
    pub losses: View,
}

/// The kernels of the loss.
#[derive(Clone, Debug)]
pub struct Classifier {
    variant: Variant,
    gradient: Kernel,
    loss: Kernel,
    sum: Kernel,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Args {
    logits: u64,
    targets: u64,
    losses: u64,
    scale: u64,
    vocab_size: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct SumArgs {
    losses: u64,
    total: u64,
    rows: u32,
    accumulate: u32,
}

/// The threads of a block: as few as hold a row of `vectors` vectors.
fn threads(vectors: usize) -> u32 {
    let fits = |threads: &u32| vectors <= *threads as usize * MAX_VECTORS;
    [64, 128, 256, 512].into_iter().find(fits).unwrap_or(1024)
}

impl Classifier {
    pub(crate) fn file(variant: Variant) -> File {
        let padded = ("VOCAB_PADDED", count(variant.padded_vocab_size(), "V"));
        (
            source!("classifier.cu", "device.cuh", "math.cuh"),
            [variant.types(), vec![padded]].concat(),
        )
    }

    /// Compiles the kernels, or takes them from the cache.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output; other errors of the driver.
    pub fn load(gpu: &Gpu, variant: Variant) -> Result<Self, CudaError> {
        let (source, defines) = Self::file(variant);
        let module = gpu.module(&source, &defines)?;
        let threads = threads(variant.padded_vocab_size() * variant.act.bytes() / 16);
        Ok(Self {
            variant,
            gradient: module.kernel("classifier", threads, 0)?,
            loss: module.kernel("classifier_loss", threads, 0)?,
            sum: module.kernel("sum_losses", 256, 0)?,
        })
    }

    #[track_caller]
    fn args(&self, given: Logits, scale: u64, rows: usize) -> Args {
        let bytes = rows * self.variant.padded_vocab_size() * self.variant.act.bytes();
        Args {
            logits: address(given.logits, bytes, "the logits"),
            targets: values::<u32>(given.targets, rows, "the targets"),
            losses: values::<f32>(given.losses, rows, "the losses"),
            scale,
            vocab_size: count(self.variant.vocab_size, "V"),
        }
    }

    /// The loss of each row, and `logits ← scale · (softmax − one-hot)`, with zeros from column V on. Both are 0
    /// for a row that is not learned.
    ///
    /// `scale` `[1]` f32 is the factor of the sum of the losses.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn loss_and_gradient(
        &self,
        given: Logits,
        scale: View,
        rows: usize,
    ) -> Result<(), CudaError> {
        let args = self.args(given, values::<f32>(scale, 1, "the scale"), rows);
        // SAFETY: the kernel's struct, and every view has the length that it reads or writes.
        unsafe {
            self.gradient.launch(
                [count(rows, "rows"), 1, 1],
                &args,
                Work::bytes(2 * given.logits.bytes()),
            )
        }
    }

    /// The loss of each row; the logits stay.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn loss(&self, given: Logits, rows: usize) -> Result<(), CudaError> {
        let args = self.args(given, 0, rows);
        // SAFETY: as in `loss_and_gradient`; the kernel does not read the scale.
        unsafe {
            self.loss.launch([count(rows, "rows"), 1, 1], &args, Work::bytes(given.logits.bytes()))
        }
    }

    /// Writes the sum of `losses` `[rows]` f32 to `total` `[1]` f64, or adds it with `accumulate`.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn sum_losses(&self, losses: View, total: View, accumulate: bool) -> Result<(), CudaError> {
        let rows = losses.len_of::<f32>();
        let args = SumArgs {
            losses: values::<f32>(losses, rows, "the losses"),
            total: values::<f64>(total, 1, "the sum of the losses"),
            rows: count(rows, "rows"),
            accumulate: u32::from(accumulate),
        };
        // SAFETY: as in `loss_and_gradient`.
        unsafe { self.sum.launch([1, 1, 1], &args, Work::bytes(losses.bytes())) }
    }
}
