//! Dropout: `y = x · m / (1 − p)` where m keeps each element with probability 1 − p (Srivastava et
//! al. 2014, in the inverted form).
//!
//! On the CPU the mask is a function of (seed, step, micro-batch, site, element), so it can be
//! computed again instead of stored and a resumed run drops the same elements. On CUDA and Metal
//! it comes from the device's generator, which is seeded from (seed, step, micro-batch).

use candle_core::{D, Device, Result, Tensor};
use tinygpt_kernels::dropout as kernel;

/// Where in training a mask is drawn; together with the site it determines the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutKey {
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
    /// The micro-batch within the step.
    pub micro_batch: u64,
}

impl DropoutKey {
    /// One number for the three, as a seed for other generators.
    pub(crate) fn mix(&self) -> u64 {
        kernel::key(&[self.seed, self.step, self.micro_batch])
    }
}

/// The places in the model where activations are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// After the sum of token and position embedding, `[B, T, C]`.
    Embedding,
    /// The attention weights of a block, `[B, H, T, T]`.
    Attention(usize),
    /// The attention output of a block before the residual, `[B, T, C]`.
    AttentionOutput(usize),
    /// The MLP output of a block before the residual, `[B, T, C]`.
    MlpOutput(usize),
}

impl Site {
    pub(crate) fn index(self) -> u64 {
        match self {
            Self::Embedding => 0,
            Self::Attention(layer) => 3 * layer as u64 + 1,
            Self::AttentionOutput(layer) => 3 * layer as u64 + 2,
            Self::MlpOutput(layer) => 3 * layer as u64 + 3,
        }
    }
}

/// Dropout in one forward pass; `p` = 0 is written as no `Dropout` at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout {
    /// Probability of dropping an element, in `(0, 1)`.
    pub(crate) p: f32,
    key: u64,
}

impl Dropout {
    /// `None` where nothing is dropped.
    pub(crate) fn new(p: f32, key: Option<DropoutKey>) -> Option<Self> {
        key.filter(|_| p > 0.0).map(|key| Self { p, key: key.mix() })
    }

    /// The mask at `site` as the kernels take it, for the whole batch.
    pub(crate) fn mask(&self, site: Site) -> Option<kernel::Dropout> {
        kernel::Dropout::new(self.p, self.key_of(site.index()))
    }

    /// The key of the masks at the site with this index.
    pub(crate) fn key_of(&self, site_idx: u64) -> u64 {
        kernel::key(&[self.key, site_idx])
    }
}

/// Applies the mask of `site`, if there is dropout.
///
/// # Shapes
/// `x` `[.., C]` → `[.., C]`; the rows of the mask are those of `x` with all other dimensions
/// flattened.
pub(crate) fn autograd(x: Tensor, dropout: Option<&Dropout>, site: Site) -> Result<Tensor> {
    let Some(dropout) = dropout else { return Ok(x) };
    let keep = 1.0 - dropout.p;
    let mask = match x.device() {
        Device::Cpu => {
            let mask = dropout.mask(site);
            let cols = x.dim(D::Minus1)?;
            let kept = (0..x.elem_count()).map(|i| {
                f32::from(mask.is_none_or(|mask| mask.keeps(i / cols, (i % cols) as u32)))
            });
            Tensor::from_iter(kept, x.device())?.reshape(x.shape())?
        }
        _ => device_mask(&x, dropout.p)?,
    };
    x * (mask / f64::from(keep))?
}

/// Ones, and zeros with probability `p`, from the generator of a CUDA or Metal device.
#[expect(clippy::disallowed_methods, reason = "a step has seeded the device's generator")]
fn device_mask(x: &Tensor, p: f32) -> Result<Tensor> {
    Tensor::rand(0f32, 1f32, x.shape(), x.device())?.ge(p)?.to_dtype(x.dtype())
}
