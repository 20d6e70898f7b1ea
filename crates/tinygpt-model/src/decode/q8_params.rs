//! The parameters of an 8-bit model: matrices and the token table rounded, everything else f32.

use tinygpt_kernels::q8::Q8Matrix;

use crate::error::Result;
use crate::parts::{ModelParts, ParamKind, ParamSpec};

/// A parameter of an 8-bit model.
#[derive(Debug, PartialEq)]
pub(crate) enum Q8Param {
    /// A vector or the position table, unchanged.
    Full(Vec<f32>),
    /// A matrix or the token table.
    Q8(Q8Matrix),
}

impl Q8Param {
    /// Rounds a parameter if products read it; `next` fills in its values, chunk by chunk.
    pub(crate) fn read(
        spec: &ParamSpec,
        mut next: impl FnMut(&mut [f32]) -> Result<()>,
    ) -> Result<Self> {
        match spec.shape[..] {
            [rows, columns] if spec.kind.is_multiplied() => {
                let is_table = spec.kind == ParamKind::Table;
                Ok(Self::Q8(Q8Matrix::read((rows, columns), is_table, next)?))
            }
            _ => {
                let mut values = vec![0.0; spec.len()];
                next(&mut values)?;
                Ok(Self::Full(values))
            }
        }
    }

    /// The values as f32.
    pub(super) fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::Full(values) => values.clone(),
            Self::Q8(matrix) => matrix.values(),
        }
    }
}

/// All parameters of an 8-bit model.
pub(crate) type QuantizedParts = ModelParts<Q8Param>;
