//! What a matrix product is: shapes, types, precision.

use std::ffi::c_int;
use std::fmt;

use crate::Work;
use crate::sys::blas;

/// The type of a matrix's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// Bytes of an element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    pub(crate) fn code(self) -> c_int {
        match self {
            Self::F32 => blas::R_32F,
            Self::Bf16 => blas::R_16BF,
        }
    }
}

/// A row-major matrix of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// The type of its elements.
    pub dtype: Dtype,
    /// Whether the product uses its transpose. False for the output.
    pub transpose: bool,
    /// Elements from the start of one stored row to the next.
    pub ld: usize,
}

/// How elements are multiplied and added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compute {
    /// In f32. Products of bf16 operands are exact in it.
    F32,
    /// f32 operands are rounded to TF32, which has 10 bits of mantissa; sums are f32.
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

impl fmt::Display for MatmulSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operand = |operand: Operand| {
            let transposed = if operand.transpose { " transposed" } else { "" };
            format!("{:?}{transposed} ld {}", operand.dtype, operand.ld)
        };
        let Self { m, n, k, a, b, d, accumulate, compute, epilogue } = self;
        let sign = if *accumulate { "+=" } else { "=" };
        write!(
            f,
            "D [{m}, {n}] ({}) {sign} A [{m}, {k}] ({}) x B [{k}, {n}] ({}), {compute:?}, {epilogue:?}",
            operand(*d),
            operand(*a),
            operand(*b)
        )
    }
}

impl MatmulSpec {
    /// Rows and columns of the three matrices as they are stored.
    pub(crate) fn stored(&self) -> [(usize, usize, Operand); 3] {
        let shape = |rows, columns, operand: Operand| {
            if operand.transpose { (columns, rows, operand) } else { (rows, columns, operand) }
        };
        let Self { m, n, k, .. } = *self;
        [shape(m, k, self.a), shape(k, n, self.b), shape(m, n, self.d)]
    }

    /// The bytes that A, B and D span.
    #[must_use]
    pub fn bytes(&self) -> [usize; 3] {
        self.stored().map(|(rows, columns, operand)| {
            (rows.saturating_sub(1) * operand.ld + columns) * operand.dtype.bytes()
        })
    }

    /// Multiplications and additions, for a table of TFLOP/s.
    #[must_use]
    pub fn flops(&self) -> u64 {
        2 * self.m as u64 * self.n as u64 * self.k as u64
    }

    /// What a launch of it moves and computes.
    pub(crate) fn work(&self) -> Work {
        let [a, b, d] = self.bytes();
        let read_again = if self.accumulate { d } else { 0 };
        Work { bytes: (a + b + d + read_again) as u64, flops: self.flops() }
    }

    /// A line of a profile: transposes as BLAS writes them, and m, n, k.
    pub(crate) fn label(&self) -> String {
        let op = |operand: Operand| if operand.transpose { 'T' } else { 'N' };
        let Self { m, n, k, a, b, .. } = self;
        format!("product {}{} {m} x {n} x {k}", op(*a), op(*b))
    }

    #[track_caller]
    pub(crate) fn assert_valid(&self) {
        assert!(self.m > 0 && self.n > 0 && self.k > 0, "an empty product: {self}");
        assert!(!self.d.transpose, "the output cannot be transposed: {self}");
        for (_, columns, operand) in self.stored() {
            assert!(operand.ld >= columns, "a row is longer than its distance: {self}");
        }
    }
}
