//! The matrix products of a step: three kinds, in which GPT-2's layout needs no transposed copy.
//!
//! Weights are `[in, out]`, so `y = x W`, `dx = dy Wᵀ` and `dW = xᵀ dy`. The head is the same three with the
//! token table `[V, C]` as its weights the other way round: logits are a `dx`, their gradient a `y`.
//! An algorithm is chosen when a product is first used and kept for the run.
#![expect(unsafe_code, reason = "products read and write the views that they are given")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tinygpt_cuda::{Compute, Dtype, Epilogue, Gpu, Matmul, MatmulSpec, Operand, View};

use crate::error::Result;

/// The products of a model.
#[derive(Debug)]
pub(crate) struct Products {
    gpu: Gpu,
    /// The type of activations and weights; gradients of weights are f32.
    act: Dtype,
    compute: Compute,
    plans: HashMap<MatmulSpec, Matmul>,
}

/// The sizes of a layer `[N, in] → [N, out]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) n_in: usize,
    pub(crate) n_out: usize,
}

impl Products {
    pub(crate) fn new(gpu: &Gpu, act: Dtype, compute: Compute) -> Self {
        Self { gpu: gpu.clone(), act, compute, plans: HashMap::new() }
    }

    /// `y ← x W + b`.
    ///
    /// # Shapes
    /// `x` `[N, in]`, `weight` `[in, out]`, `bias` `[out]` → `y` `[N, out]`, all act.
    pub(crate) fn forward(
        &mut self,
        x: View,
        weight: View,
        bias: Option<View>,
        y: View,
        sizes: Sizes,
    ) -> Result<()> {
        let Sizes { rows, n_in, n_out } = sizes;
        let spec = MatmulSpec {
            a: self.operand(n_in),
            b: self.operand(n_out),
            d: self.operand(n_out),
            epilogue: if bias.is_some() { Epilogue::Bias } else { Epilogue::None },
            ..self.spec(rows, n_out, n_in)
        };
        self.run(spec, x, weight, y, bias)
    }

    /// `dx ← dy Wᵀ`.
    ///
    /// # Shapes
    /// `dy` `[N, out]`, `weight` `[in, out]` → `dx` `[N, in]`, all act.
    pub(crate) fn input_gradient(
        &mut self,
        dy: View,
        weight: View,
        dx: View,
        sizes: Sizes,
    ) -> Result<()> {
        let Sizes { rows, n_in, n_out } = sizes;
        let spec = MatmulSpec {
            a: self.operand(n_out),
            b: Operand { transpose: true, ..self.operand(n_out) },
            d: self.operand(n_in),
            ..self.spec(rows, n_in, n_out)
        };
        self.run(spec, dy, weight, dx, None)
    }

    /// `dW ← xᵀ dy` or, with `accumulate`, `dW += xᵀ dy`.
    ///
    /// # Shapes
    /// `x` `[N, in]`, `dy` `[N, out]` act → `dweight` `[in, out]` f32.
    pub(crate) fn weight_gradient(
        &mut self,
        x: View,
        dy: View,
        dweight: View,
        accumulate: bool,
        sizes: Sizes,
    ) -> Result<()> {
        let Sizes { rows, n_in, n_out } = sizes;
        let spec = MatmulSpec {
            a: Operand { transpose: true, ..self.operand(n_in) },
            b: self.operand(n_out),
            d: Operand { dtype: Dtype::F32, ..self.operand(n_out) },
            accumulate,
            ..self.spec(n_in, n_out, rows)
        };
        self.run(spec, x, dy, dweight, None)
    }

    fn operand(&self, ld: usize) -> Operand {
        Operand { dtype: self.act, transpose: false, ld }
    }

    fn spec(&self, m: usize, n: usize, k: usize) -> MatmulSpec {
        let (compute, epilogue) = (self.compute, Epilogue::None);
        let [a, b, d] = [self.operand(k), self.operand(n), self.operand(n)];
        MatmulSpec { m, n, k, a, b, d, accumulate: false, compute, epilogue }
    }

    fn run(
        &mut self,
        spec: MatmulSpec,
        a: View,
        b: View,
        d: View,
        bias: Option<View>,
    ) -> Result<()> {
        let plan = match self.plans.entry(spec) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Matmul::plan(&self.gpu, &spec)?),
        };
        // SAFETY: all views are of live allocations of this GPU, and no output is an input.
        Ok(unsafe { plan.run(a, b, d, bias) }?)
    }
}
