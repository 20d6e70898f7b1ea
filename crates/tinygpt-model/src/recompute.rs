//! What a step on a GPU computes twice to need less memory.

use serde::{Deserialize, Serialize};

/// Which activations of the forward pass are not kept for the backward pass, which computes them again.
///
/// The same kernels compute them from the same numbers, so gradients have the same bits with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// All are kept: 16 values for each channel of a token and layer.
    None,
    /// The outputs of layer norms and GELU: two more passes over memory, and 10 values are kept.
    Cheap,
    /// All of a block but its input: its forward pass runs a second time, and 1 value is kept.
    Block,
}

impl Recompute {
    /// From the fastest to the one with the least memory.
    pub const ALL: [Self; 3] = [Self::None, Self::Cheap, Self::Block];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cheap => "cheap",
            Self::Block => "block",
        }
    }
}
