//! Which variant of the kernels a model needs.

use crate::{Dtype, KernelSource};

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
pub(crate) type File = (KernelSource, Vec<(&'static str, u32)>);
