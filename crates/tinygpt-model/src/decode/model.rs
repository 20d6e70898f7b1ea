//! [`Model`]: anything that decodes, whatever the form of its weights.

use std::fmt::Debug;

use crate::config::ModelConfig;
use crate::decode::decoder::Decoder;
use crate::error::Result;

/// A model that decodes: [`crate::Gpt`], or [`crate::QuantizedGpt`], which can do nothing else.
pub trait Model: Debug + Send {
    /// Its shape.
    fn config(&self) -> &ModelConfig;

    /// A decoder with slots for `n_slots` sequences of `block_size` tokens each.
    ///
    /// # Errors
    /// [`crate::ModelError::Request`] if `n_slots` is 0, [`crate::ModelError::Tensor`] if the device
    /// refuses.
    fn decoder(&self, n_slots: usize) -> Result<Decoder<'_>>;

    /// How many CPU threads a decoder uses.
    fn decode_threads(&self) -> usize;
}
