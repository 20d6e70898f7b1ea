//! How fast a GPU copies and multiplies at best, measured: what the speed of a kernel is compared with.
#![expect(unsafe_code, reason = "a product of views that live here")]

use crate::{
    Buffer, Compute, CudaError, Dtype, Epilogue, Gpu, GpuEvent, Matmul, MatmulSpec, Operand,
};

/// A time is long enough to be compared with the overhead of a launch.
const LONG_MS: f32 = 0.5;
/// Of the repetitions, the fastest counts: others may have been disturbed.
const REPETITIONS: usize = 4;
/// Rows, columns and depth of the first and the largest product.
const PRODUCTS: [usize; 2] = [128, 8192];
/// Bytes of the first and the largest copy.
const COPIES: [usize; 2] = [1 << 20, 1 << 30];

impl Gpu {
    /// Measures the speed of products of `dtype` matrices, in floating-point operations per second.
    ///
    /// Sizes are doubled until an operation takes half a millisecond or a quarter of the free memory, all
    /// of which is freed again.
    ///
    /// # Errors
    /// [`CudaError`] if the driver or cublasLt fails.
    pub fn product_ceiling(&self, dtype: Dtype, compute: Compute) -> Result<f64, CudaError> {
        let (free, _) = self.memory()?;
        let (mut n, mut best) = (PRODUCTS[0], 0.0_f64);
        loop {
            let operand = Operand { dtype, transpose: false, ld: n };
            let (accumulate, epilogue) = (false, Epilogue::None);
            let [a, b, d] = [operand; 3];
            let spec = MatmulSpec { m: n, n, k: n, a, b, d, accumulate, compute, epilogue };
            let plan = Matmul::plan(self, &spec)?;
            let bytes = spec.bytes()[0];
            let [a, b, d] = [self.noise(bytes)?, self.noise(bytes)?, self.alloc(bytes)?];
            let ms = self.fastest(|| {
                // SAFETY: three buffers of this GPU, as long as the matrices.
                unsafe { plan.run(a.view(), b.view(), d.view(), None) }
            })?;
            best = best.max(spec.flops() as f64 / f64::from(ms) * 1e3);
            n *= 2;
            if ms >= LONG_MS || n > PRODUCTS[1] || 12 * bytes > free / 4 {
                return Ok(best);
            }
        }
    }

    /// Measures the speed of copies, in bytes read and written per second, in the same way.
    ///
    /// # Errors
    /// [`CudaError`] if the driver fails.
    pub fn copy_ceiling(&self) -> Result<f64, CudaError> {
        let (free, _) = self.memory()?;
        let (mut bytes, mut best) = (COPIES[0], 0.0_f64);
        loop {
            let [from, to] = [self.noise(bytes)?, self.alloc(bytes)?];
            let ms = self.fastest(|| self.copy(to.view(), from.view()))?;
            best = best.max(2.0 * bytes as f64 / f64::from(ms) * 1e3);
            bytes *= 2;
            if ms >= LONG_MS || bytes > COPIES[1] || 2 * bytes > free / 4 {
                return Ok(best);
            }
        }
    }

    /// Milliseconds of the fastest repetition.
    fn fastest(&self, mut launch: impl FnMut() -> Result<(), CudaError>) -> Result<f32, CudaError> {
        let [before, after] = [GpuEvent::new(self)?, GpuEvent::new(self)?];
        let mut fastest = f32::INFINITY;
        for _ in 0..REPETITIONS {
            before.record()?;
            launch()?;
            after.record()?;
            fastest = fastest.min(before.elapsed_ms(&after)?);
        }
        // The clock of the events has a resolution of half a microsecond.
        Ok(fastest.max(5e-4))
    }

    /// Numbers around ±1 of either type: a GPU multiplies zeros faster, because it needs less power.
    fn noise(&self, bytes: usize) -> Result<Buffer, CudaError> {
        let buffer = self.alloc(bytes)?;
        let mut state = 1_u32;
        let pattern: Vec<u16> = (0..(1_usize << 20).min(bytes / 2))
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Sign and mantissa at random, the exponent of 1: as bf16, and as the upper half of an f32.
                (state >> 16) as u16 & 0x807f | 0x3f80
            })
            .collect();
        let mut filled = 2 * pattern.len();
        self.upload(buffer.view().slice(0..filled), &pattern)?;
        // The rest is copied on the GPU, which is faster than the host.
        while filled < bytes {
            let next = filled.min(bytes - filled);
            let (from, to) = (buffer.view().slice(0..next), filled..filled + next);
            self.copy(buffer.view().slice(to), from)?;
            filled += next;
        }
        Ok(buffer)
    }
}
