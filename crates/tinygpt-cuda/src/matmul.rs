//! Matrix products by cublasLt, planned once.
//!
//! All matrices here are row-major; cublasLt's are column-major. A row-major `[r, c]` matrix is the
//! column-major `[c, r]` one in the same memory, so `D = A · B` is computed as `Dᵀ = Bᵀ · Aᵀ`: operands
//! and m and n change places, and no element moves.
//!
//! | here | cublasLt |
//! |---|---|
//! | D `[m, n]`, ld | D, n rows, m columns, ld |
//! | B `[k, n]` | A, n rows, k columns, not transposed |
//! | B transposed, stored `[n, k]` | A, k rows, n columns, transposed |
//! | A `[m, k]` | B, k rows, m columns, not transposed |
//! | A transposed, stored `[k, m]` | B, m rows, k columns, transposed |
//! | bias `[n]`, added to each row | bias of length n, added to each column |
//!
//! The algorithm is the first that cublasLt's heuristic returns for the shape, never the fastest of a
//! measurement: the same GPU and library give the same bits. Sums that are split over blocks are added in
//! a second pass over f32 partials; schemes with atomics or with partials in bf16 are excluded.
#![expect(unsafe_code, reason = "calls of cublasLt")]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use crate::blas::{Blas, check};
use crate::spec::{Compute, Epilogue, MatmulSpec, Operand};
use crate::sys::{Handle, Heuristic, blas};
use crate::{CudaError, Gpu, View};

/// Pointers must be multiples of this many bytes.
const ALIGNMENT: u32 = 16;

/// A product whose algorithm is chosen.
#[derive(Debug)]
pub struct Matmul {
    spec: MatmulSpec,
    description: Mutex<Description>,
    algorithm: [u64; 8],
    gpu: Gpu,
}

impl Matmul {
    /// Chooses the algorithm of a product.
    ///
    /// # Errors
    /// [`CudaError::NoAlgorithm`] if cublasLt has none for it.
    ///
    /// # Panics
    /// If the spec contradicts itself.
    #[track_caller]
    pub fn plan(gpu: &Gpu, spec: &MatmulSpec) -> Result<Self, CudaError> {
        spec.assert_valid();
        // cublasLt asks the driver about the current context's GPU.
        gpu.current()?;
        let description = Description::new(gpu, spec)?;
        let algorithm = description.algorithm(spec)?;
        let description = Mutex::new(description);
        Ok(Self { spec: *spec, description, algorithm, gpu: gpu.clone() })
    }

    /// The product.
    #[must_use]
    pub fn spec(&self) -> &MatmulSpec {
        &self.spec
    }

    /// The chosen algorithm as cublasLt describes it to itself. Two runs with the same bytes, GPU and
    /// library add in the same order.
    #[must_use]
    pub fn algorithm(&self) -> [u64; 8] {
        self.algorithm
    }

    /// Launches the product.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If a view is shorter than its matrix or not aligned to 16 bytes, or a bias is missing or too much.
    ///
    /// # Safety
    /// The views point to live memory of this GPU, and D overlaps neither A nor B.
    #[track_caller]
    pub unsafe fn run(
        &self,
        a: View,
        b: View,
        d: View,
        bias: Option<View>,
    ) -> Result<(), CudaError> {
        let spec = &self.spec;
        for (view, bytes) in [a, b, d].into_iter().zip(spec.bytes()) {
            assert!(view.bytes() >= bytes, "{} of {bytes} bytes: {spec}", view.bytes());
            assert!(view.ptr() % u64::from(ALIGNMENT) == 0, "a view is not aligned: {spec}");
        }
        assert_eq!(bias.is_some(), spec.epilogue == Epilogue::Bias, "bias: {spec}");
        self.gpu.current()?;
        // One thread at a time: the bias pointer is part of the description.
        let mut description = self.description.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bias) = bias {
            let bytes = spec.n * spec.d.dtype.bytes();
            assert!(bias.bytes() >= bytes, "a bias of {} bytes: {spec}", bias.bytes());
            description.set_bias(bias.ptr())?;
        }
        self.gpu.measured(
            || spec.label(),
            spec.work(),
            || {
                self.launch(
                    [a.ptr(), b.ptr(), d.ptr()],
                    description.operation,
                    &description.layouts,
                )
            },
        )
    }

    /// Launches the product of A, B and D at these addresses.
    fn launch(
        &self,
        [a, b, d]: [u64; 3],
        operation: Handle,
        layouts: &[Handle; 3],
    ) -> Result<(), CudaError> {
        let lt = &self.gpu.inner.blas;
        let alpha = 1.0f32;
        let beta = f32::from(u8::from(self.spec.accumulate));
        // SAFETY: descriptors and matrices agree, as `plan` made them from the spec and `run` has checked the
        // lengths; the scalars are read before the call returns.
        let status = unsafe {
            (lt.matmul)(
                lt.handle,
                operation,
                (&raw const alpha).cast::<c_void>(),
                b,
                layouts[0],
                a,
                layouts[1],
                (&raw const beta).cast::<c_void>(),
                d,
                layouts[2],
                d,
                layouts[2],
                &raw const self.algorithm,
                lt.workspace,
                lt.workspace_bytes,
                self.gpu.stream(),
            )
        };
        check("cublasLtMatmul", status).map_err(|error| self.gpu.cause_of(error))?;
        self.gpu.launched("a matrix product")
    }
}

/// cublasLt's descriptors of a product, destroyed on drop.
#[derive(Debug)]
struct Description {
    operation: Handle,
    /// Of cublasLt's A, B and D, which are our B, A and D.
    layouts: [Handle; 3],
    bias: u64,
    gpu: Gpu,
}

impl Description {
    fn new(gpu: &Gpu, spec: &MatmulSpec) -> Result<Self, CudaError> {
        let lt: &Blas = &gpu.inner.blas;
        // Filled step by step, so that an error on the way destroys what exists.
        let mut description =
            Self { operation: Handle::NULL, layouts: [Handle::NULL; 3], bias: 0, gpu: gpu.clone() };
        let compute = match spec.compute {
            Compute::F32 => blas::COMPUTE_32F,
            Compute::Tf32 => blas::COMPUTE_32F_FAST_TF32,
        };
        // SAFETY: a handle to write to.
        let status =
            unsafe { (lt.desc_create)(&raw mut description.operation, compute, blas::R_32F) };
        check("cublasLtMatmulDescCreate", status)?;
        let transpose = |operand: Operand| if operand.transpose { blas::OP_T } else { blas::OP_N };
        description.set(blas::DESC_TRANSA, &transpose(spec.b))?;
        description.set(blas::DESC_TRANSB, &transpose(spec.a))?;
        if spec.epilogue == Epilogue::Bias {
            description.set(blas::DESC_EPILOGUE, &blas::EPILOGUE_BIAS)?;
            description.set(blas::DESC_BIAS_TYPE, &spec.d.dtype.code())?;
        }
        let [a, b, d] = spec.stored();
        for (handle, (rows, columns, operand)) in description.layouts.iter_mut().zip([b, a, d]) {
            let ld = i64::try_from(operand.ld).unwrap_or(i64::MAX);
            // SAFETY: a handle to write to. Columns of ours are rows of cublasLt.
            let status = unsafe {
                let code = operand.dtype.code();
                (lt.layout_create)(&raw mut *handle, code, columns as u64, rows as u64, ld)
            };
            check("cublasLtMatrixLayoutCreate", status)?;
        }
        Ok(description)
    }

    /// Sets an attribute of the operation.
    fn set<T>(&self, attribute: c_int, value: &T) -> Result<(), CudaError> {
        let lt = &self.gpu.inner.blas;
        // SAFETY: a value of the attribute's type, which is copied.
        let status = unsafe {
            (lt.desc_set)(self.operation, attribute, ptr::from_ref(value).cast(), size_of::<T>())
        };
        check("cublasLtMatmulDescSetAttribute", status)
    }

    fn set_bias(&mut self, bias: u64) -> Result<(), CudaError> {
        if self.bias != bias {
            self.set(blas::DESC_BIAS_POINTER, &bias)?;
            self.bias = bias;
        }
        Ok(())
    }

    /// The first algorithm of cublasLt's heuristic.
    fn algorithm(&self, spec: &MatmulSpec) -> Result<[u64; 8], CudaError> {
        let lt = &self.gpu.inner.blas;
        let preference = Preference::new(&self.gpu)?;
        let mut found = [Heuristic::default(); 4];
        let mut count: c_int = 0;
        let [a, b, d] = self.layouts;
        // SAFETY: live descriptors, and room for the four results that are asked for.
        let status = unsafe {
            (lt.heuristic)(
                lt.handle,
                self.operation,
                a,
                b,
                d,
                d,
                preference.handle,
                4,
                found.as_mut_ptr(),
                &raw mut count,
            )
        };
        let count = usize::try_from(count).unwrap_or(0).min(found.len());
        let usable =
            |found: &&Heuristic| found.state == 0 && found.workspace_bytes <= lt.workspace_bytes;
        let first = found[..count].iter().find(usable).filter(|_| status == 0);
        let first = first.ok_or_else(|| CudaError::NoAlgorithm { product: spec.to_string() })?;
        Ok(first.algorithm)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        let lt = &self.gpu.inner.blas;
        // SAFETY: created in `new` and destroyed once.
        unsafe {
            for layout in self.layouts.into_iter().filter(|&layout| layout != Handle::NULL) {
                let _ = (lt.layout_destroy)(layout);
            }
            if self.operation != Handle::NULL {
                let _ = (lt.desc_destroy)(self.operation);
            }
        }
    }
}

/// What an algorithm may use, destroyed on drop.
struct Preference<'a> {
    handle: Handle,
    gpu: &'a Gpu,
}

impl<'a> Preference<'a> {
    fn new(gpu: &'a Gpu) -> Result<Self, CudaError> {
        let lt = &gpu.inner.blas;
        let mut handle = Handle::NULL;
        // SAFETY: a handle to write to.
        let status = unsafe { (lt.preference_create)(&raw mut handle) };
        check("cublasLtMatmulPreferenceCreate", status)?;
        let preference = Self { handle, gpu };
        preference.set(blas::PREFERENCE_WORKSPACE, &(lt.workspace_bytes as u64))?;
        preference.set(blas::PREFERENCE_REDUCTIONS, &blas::REDUCTION_COMPUTE_TYPE)?;
        for matrix in 0..4 {
            // Without this it assumes 256, which parts of an arena need not have.
            preference.set(blas::PREFERENCE_ALIGNMENT_A + matrix, &ALIGNMENT)?;
        }
        Ok(preference)
    }

    fn set<T>(&self, attribute: c_int, value: &T) -> Result<(), CudaError> {
        let lt = &self.gpu.inner.blas;
        // SAFETY: a value of the attribute's type, which is copied.
        let status = unsafe {
            (lt.preference_set)(self.handle, attribute, ptr::from_ref(value).cast(), size_of::<T>())
        };
        check("cublasLtMatmulPreferenceSetAttribute", status)
    }
}

impl Drop for Preference<'_> {
    fn drop(&mut self) {
        // SAFETY: created in `new` and destroyed once.
        let _ = unsafe { (self.gpu.inner.blas.preference_destroy)(self.handle) };
    }
}
