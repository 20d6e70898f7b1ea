//! Dropout: `y = x · m / (1 − p)` where m keeps each element with probability 1 − p (Srivastava et
//! al. 2014, in the inverted form).
//!
//! On the CPU the mask is a function of (seed, step, micro-batch, site, element), so it can be
//! computed again instead of stored and a resumed run drops the same elements. On CUDA and Metal
//! it comes from the device's generator, which is seeded from (seed, step, micro-batch).

use candle_core::{Device, Result, Tensor};

/// Where in training a mask is drawn; together with the site it determines the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutKey {
    /// The run's seed.
    pub seed: u64,
    /// The optimiser step.
    pub step: u64,
    /// The micro-batch within the step.
    pub micro_batch: u64,
}

impl DropoutKey {
    /// One number for the three, as a seed for other generators.
    pub(crate) fn mix(&self) -> u64 {
        mix(mix(mix(self.seed) ^ self.step) ^ self.micro_batch)
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
    fn index(self) -> u64 {
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

    /// The 64-bit key of the mask at `site`.
    pub(crate) fn mask_key(&self, site: Site) -> u64 {
        mix(self.key ^ site.index())
    }
}

/// Applies the mask of `site`, if there is dropout.
///
/// # Shapes
/// Any; element `i` of the mask belongs to element `i` of `x` in row-major order.
pub(crate) fn composed(x: Tensor, dropout: Option<&Dropout>, site: Site) -> Result<Tensor> {
    let Some(dropout) = dropout else { return Ok(x) };
    let keep = 1.0 - dropout.p;
    let mask = match x.device() {
        Device::Cpu => {
            let key = dropout.mask_key(site);
            let kept = (0..x.elem_count() as u64).map(|i| f32::from(is_kept(key, i, dropout.p)));
            Tensor::from_iter(kept, x.device())?.reshape(x.shape())?
        }
        device => {
            Tensor::rand(0f32, 1f32, x.shape(), device)?.ge(dropout.p)?.to_dtype(x.dtype())?
        }
    };
    x * (mask / f64::from(keep))?
}

fn is_kept(key: u64, element: u64, p: f32) -> bool {
    let uniform = (mix(key ^ element) >> 40) as f32 / (1u32 << 24) as f32;
    uniform >= p
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): every input bit reaches every output bit.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
