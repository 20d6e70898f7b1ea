//! Global norm and AdamWArenas over arenas: `kernels/optimizer.cu`.
#![expect(unsafe_code, reason = "launches, and the promise of `Plain`")]

use super::arguments::{address, count, values};
use super::variant::File;
use crate::{Buffer, CudaError, Gpu, Kernel, Plain, View, Work};

/// Elements of a piece of an arena: what one block takes.
const PIECE: usize = 8192;
const THREADS: usize = 256;

/// One tensor of an arena.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tensor {
    /// First element, a multiple of 64.
    pub start: usize,
    /// Elements with padding, a multiple of 64. The padding of all arenas is 0, and stays 0.
    pub len: usize,
    /// Weight decay λ: 0 for biases and layer norms.
    pub weight_decay: f32,
}

/// The tensors of the arenas as tables in GPU memory, with scratch for the norm; made once for a run.
#[derive(Debug)]
pub struct ArenaTables {
    n_elements: usize,
    n_pieces: usize,
    n_tensors: usize,
    pieces: Buffer,
    first_piece: Buffer,
    decay: Buffer,
    squares: Buffer,
    tensor_squares: Buffer,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Piece {
    start: u64,
    len: u32,
    tensor: u32,
}

// SAFETY: a u64 and two u32: no padding, and every bit pattern is a value.
unsafe impl Plain for Piece {}

/// What the host reads once in a step. The default is a place to download into.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepResult {
    /// L2 norm of the gradient; NaN or infinite if a part of it is.
    pub norm: f64,
    /// The sum of the losses, if one was given.
    pub loss: f64,
    bad_tensor: u32,
    unused: u32,
}

// SAFETY: two f64 and two u32: no padding, and every bit pattern is a value.
unsafe impl Plain for StepResult {}

impl StepResult {
    /// The first tensor whose gradient is not finite.
    #[must_use]
    pub fn bad_tensor(&self) -> Option<usize> {
        (self.bad_tensor != u32::MAX).then_some(self.bad_tensor as usize)
    }
}

/// The numbers of one AdamWArenas step, in GPU memory when the kernel runs. See
/// `tinygpt_kernels::adamw::AdamWStep`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWNumbers {
    /// Learning rate η of this step.
    pub learning_rate: f32,
    /// Decay β₁ of the first moment.
    pub beta1: f32,
    /// Decay β₂ of the second moment.
    pub beta2: f32,
    /// ε.
    pub eps: f32,
    /// `1 − β₁ᵗ`, t counted from 1.
    pub bias_correction1: f32,
    /// `1 − β₂ᵗ`.
    pub bias_correction2: f32,
    /// The factor of every gradient: `min(1, clip / norm)`, or 1 without clipping.
    pub grad_scale: f32,
}

// SAFETY: seven f32: no padding, and every bit pattern is a value.
unsafe impl Plain for AdamWNumbers {}

/// The arenas of a step, f32 and all of one length.
#[derive(Clone, Copy, Debug)]
pub struct AdamWArenas {
    /// Weights.
    pub weights: View,
    /// Gradients.
    pub grads: View,
    /// First moments.
    pub m: View,
    /// Second moments.
    pub v: View,
    /// Receives the weights in bf16, at the same offsets.
    pub copy: Option<View>,
    /// One [`AdamWNumbers`].
    pub numbers: View,
}

/// The kernels of the optimizer.
#[derive(Clone, Debug)]
pub struct Optimizer {
    squares: Kernel,
    norm: Kernel,
    adamw: Kernel,
    cast: Kernel,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct SquaresArgs {
    grads: u64,
    pieces: u64,
    squares: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct NormArgs {
    squares: u64,
    first_piece: u64,
    tensor_squares: u64,
    loss: u64,
    result: u64,
    tensors: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct AdamWArgs {
    weights: u64,
    grads: u64,
    m: u64,
    v: u64,
    copy: u64,
    pieces: u64,
    decay: u64,
    numbers: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CastArgs {
    from: u64,
    to: u64,
    elements: u64,
}

impl ArenaTables {
    /// Uploads the tables for arenas of `n_elements` elements with these tensors.
    ///
    /// # Errors
    /// [`CudaError`] if the memory is not enough or a copy fails.
    ///
    /// # Panics
    /// If a tensor is not inside the arena or not aligned.
    pub fn new(gpu: &Gpu, tensors: &[Tensor], n_elements: usize) -> Result<Self, CudaError> {
        let (mut pieces, mut first_piece) = (Vec::new(), vec![0]);
        for (i, tensor) in tensors.iter().enumerate() {
            let end = tensor.start + tensor.len;
            let is_aligned = tensor.start.is_multiple_of(64) && tensor.len.is_multiple_of(64);
            assert!(is_aligned && end <= n_elements, "tensor {i} of an arena: {tensor:?}");
            pieces.extend((tensor.start..end).step_by(PIECE).map(|start| Piece {
                start: start as u64,
                len: PIECE.min(end - start) as u32,
                tensor: i as u32,
            }));
            first_piece.push(count(pieces.len(), "pieces"));
        }
        let decay: Vec<f32> = tensors.iter().map(|tensor| tensor.weight_decay).collect();
        let arena = Self {
            n_elements,
            n_pieces: pieces.len(),
            n_tensors: tensors.len(),
            pieces: gpu.alloc(size_of_val(&pieces[..]))?,
            first_piece: gpu.alloc(size_of_val(&first_piece[..]))?,
            decay: gpu.alloc(size_of_val(&decay[..]))?,
            squares: gpu.alloc(4 * pieces.len())?,
            tensor_squares: gpu.alloc(8 * tensors.len())?,
        };
        gpu.upload(arena.pieces.view(), &pieces)?;
        gpu.upload(arena.first_piece.view(), &first_piece)?;
        gpu.upload(arena.decay.view(), &decay)?;
        Ok(arena)
    }
}

impl Optimizer {
    pub(crate) fn file() -> File {
        (source!("optimizer.cu", "device.cuh"), vec![])
    }

    /// Compiles the kernels, or takes them from the cache.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's output; other errors of the driver.
    pub fn load(gpu: &Gpu) -> Result<Self, CudaError> {
        let (source, defines) = Self::file();
        let module = gpu.module(&source, &defines)?;
        let kernel = |name| module.kernel(name, THREADS as u32, 0);
        Ok(Self {
            squares: kernel("grad_squares")?,
            norm: kernel("global_norm")?,
            adamw: kernel("adamw")?,
            cast: kernel("cast_to_bf16")?,
        })
    }

    /// The global norm of the arena `grads` f32 as one [`StepResult`] in `result`, with a copy of `loss`
    /// `[1]` f64.
    ///
    /// # Errors
    /// [`CudaError`] if a launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn global_norm(
        &self,
        arena: &ArenaTables,
        grads: View,
        loss: Option<View>,
        result: View,
    ) -> Result<(), CudaError> {
        let squares = arena.squares.view().ptr();
        let args = SquaresArgs {
            grads: address(grads, 4 * arena.n_elements, "the gradients"),
            pieces: arena.pieces.view().ptr(),
            squares,
        };
        let work = Work::bytes(4 * arena.n_elements);
        // SAFETY: the kernel's struct, and every view has the length that it reads or writes.
        unsafe { self.squares.launch([arena.n_pieces as u32, 1, 1], &args, work)? };
        let args = NormArgs {
            squares,
            first_piece: arena.first_piece.view().ptr(),
            tensor_squares: arena.tensor_squares.view().ptr(),
            loss: loss.map_or(0, |loss| values::<f64>(loss, 1, "the loss")),
            result: values::<StepResult>(result, 1, "the result"),
            tensors: arena.n_tensors as u32,
        };
        // SAFETY: as above.
        unsafe { self.norm.launch([1, 1, 1], &args, Work::bytes(4 * arena.n_pieces)) }
    }

    /// One AdamWArenas step over the arenas.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn adamw(&self, arena: &ArenaTables, given: AdamWArenas) -> Result<(), CudaError> {
        let bytes = 4 * arena.n_elements;
        let args = AdamWArgs {
            weights: address(given.weights, bytes, "the weights"),
            grads: address(given.grads, bytes, "the gradients"),
            m: address(given.m, bytes, "the first moments"),
            v: address(given.v, bytes, "the second moments"),
            copy: given.copy.map_or(0, |copy| address(copy, bytes / 2, "the bf16 weights")),
            pieces: arena.pieces.view().ptr(),
            decay: arena.decay.view().ptr(),
            numbers: values::<AdamWNumbers>(given.numbers, 1, "the numbers of the step"),
        };
        // Reads four arenas and writes three of them, and the copy.
        let work = Work::bytes(7 * bytes + given.copy.map_or(0, View::bytes));
        // SAFETY: as in `global_norm`.
        unsafe { self.adamw.launch([arena.n_pieces as u32, 1, 1], &args, work) }
    }

    /// `to` bf16 ← `from` f32, both with the same number of elements, a multiple of 8.
    ///
    /// # Errors
    /// [`CudaError`] if the launch fails.
    ///
    /// # Panics
    /// If the length of a view is wrong.
    pub fn cast_to_bf16(&self, from: View, to: View) -> Result<(), CudaError> {
        let elements = from.len_of::<f32>();
        assert!(elements.is_multiple_of(8), "{elements} elements: expected a multiple of 8");
        let args = CastArgs {
            from: address(from, 4 * elements, "f32 elements"),
            to: address(to, 2 * elements, "bf16 elements"),
            elements: elements as u64,
        };
        let blocks = count(elements.div_ceil(8 * THREADS), "blocks");
        // SAFETY: as in `global_norm`.
        unsafe { self.cast.launch([blocks, 1, 1], &args, Work::bytes(6 * elements)) }
    }
}
