// The second pass of every column sum: adds up the rows of `partials` in a fixed order.
//
// Kernels that sum over rows (layer norm, GELU and bias gradients) leave one row of f32 per block. Adding
// them with atomics would give other bits in every run, so they are added here: 8 warps of a block take the
// rows in turn, each thread one column, and the 8 sums are added in order.
//
// One launch serves all sums of a micro-batch: the jobs lie in a table in device memory, one for each
// parameter. Bytes: those of the partials, about 2 to 4% of the traffic of the kernel that wrote them.
//
// Oracle: crates/tinygpt-kernels/src/accumulate.rs.
#include "device.cuh"

#define WARPS 8

struct SumJob {
    // [rows, stride] f32, of which the first `columns` of each row count.
    const float* partials;
    float* out;
    u32 rows;
    u32 stride;
    u32 columns;
    u32 unused;
};

struct SumPartialsArgs {
    const SumJob* jobs;
    // 1: add to `out`, 0: write.
    u32 accumulate;
};

// Grid: (tiles of 32 columns of the widest job, jobs).
KERNEL(sum_partials, SumPartialsArgs, WARPS * 32, 4) {
    __shared__ float sums[WARPS][32];
    const SumJob job = p.jobs[blockIdx.y];
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 column = blockIdx.x * 32 + lane;
    float sum = 0.0f;
    if (column < job.columns) {
        UNROLL_BY(8)
        for (u32 row = warp; row < job.rows; row += WARPS) sum += job.partials[(u64)row * job.stride + column];
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || column >= job.columns) return;
    float total = p.accumulate ? job.out[column] : 0.0f;
    UNROLL
    for (int w = 0; w < WARPS; w++) total += sums[w][lane];
    job.out[column] = total;
}
