//! A small kernel to test launches with: `y[i] = factor * x[i]`, and one that adds to every element.

use tinygpt_cuda::{CudaError, Gpu, Kernel, KernelSource, View, Work};

/// The kernel file. `FACTOR` is a define.
pub(crate) const SOURCE: KernelSource = KernelSource {
    name: "scale.cu",
    text: r#"#include "device.cuh"
struct ScaleArgs {
    float* y;
    const float* x;
    u32 n;
    float addend;
};
KERNEL(scale, ScaleArgs, 64, 1) {
    DYNAMIC_SHARED(float, block);
    const u32 i = blockIdx.x * 64 + threadIdx.x;
    block[threadIdx.x] = i < p.n ? p.x[i] : 0.0f;
    __syncthreads();
    if (i < p.n) p.y[i] = FACTOR * block[threadIdx.x] + p.addend;
}
"#,
    headers: &[("device.cuh", include_str!("../../kernels/device.cuh"))],
};

/// The defines of [`SOURCE`]; those of `device.cuh` have to be there.
pub(crate) fn defines(factor: u32) -> [(&'static str, u32); 4] {
    [("ACT_BF16", 0), ("STREAM_BF16", 0), ("FAST_MATH", 0), ("FACTOR", factor)]
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ScaleArgs {
    y: u64,
    x: u64,
    n: u32,
    addend: f32,
}

/// Loads the kernel with a factor.
pub(crate) fn load(gpu: &Gpu, factor: u32) -> Result<Kernel, CudaError> {
    gpu.module(&SOURCE, &defines(factor))?.kernel("scale", 64, 64 * 4)
}

/// Launches `y = factor * x + addend`.
pub(crate) fn launch(kernel: &Kernel, y: View, x: View, addend: f32) -> Result<(), CudaError> {
    let n = x.len_of::<f32>();
    assert!(y.len_of::<f32>() >= n);
    let args = ScaleArgs { y: y.ptr(), x: x.ptr(), n: n as u32, addend };
    // SAFETY: the struct is the kernel's, and both views hold n floats.
    unsafe { kernel.launch([n.div_ceil(64) as u32, 1, 1], &args, Work::bytes(8 * n)) }
}
