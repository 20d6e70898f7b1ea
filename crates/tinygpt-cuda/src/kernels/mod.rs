//! The kernels: an argument struct and a safe launch for each.
//!
//! A family of kernels is one file in `kernels/` and one file here. Its launches check the length of every
//! view, so that a wrong size is a panic with a name and not a fault on the GPU, and return before the
//! kernel has run.
//!
//! # Conventions
//!
//! - B batch, T time, N = B·T rows, C `n_embd`, V vocabulary, Vp = V rounded up to a multiple of 128.
//!   Matrices are row-major.
//! - *act* is the type of activations and *stream* that of the residual stream, see [`Variant`]. Weights,
//!   biases, statistics and gradients of parameters are f32 in all kernels here.
//! - Results do not depend on the GPU: the order of every sum depends on the shape alone.

/// A kernel file and the headers it includes, as part of the binary.
macro_rules! source {
    ($name:literal $(, $header:literal)*) => {
        $crate::KernelSource {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/", $name)),
            headers: &[$((
                $header,
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/", $header)),
            )),*],
        }
    };
}

mod arguments;
pub mod attention;
mod attention_tiles;
pub mod classifier;
pub mod decode;
pub mod embedding;
pub mod gelu;
pub mod norm;
pub mod optimizer;
pub mod segments;
mod step;
pub mod sums;
mod variant;

pub use arguments::DropoutMask;
pub use step::Kernels;
pub use variant::Variant;
