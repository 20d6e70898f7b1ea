//! Scratch memory that each thread keeps from call to call: in a steady state the kernels allocate
//! nothing and fault no page.

use std::cell::Cell;

thread_local! {
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Hands `run` a slice of `len` floats of any content.
///
/// Within `run` no second scratch slice is kept: a nested call allocates.
pub(crate) fn with_scratch<R>(len: usize, run: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut scratch = SCRATCH.take();
    if scratch.len() < len {
        scratch.resize(len, 0.0);
    }
    let result = run(&mut scratch[..len]);
    SCRATCH.set(scratch);
    result
}
