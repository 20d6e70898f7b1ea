#include "device.cuh"
// What the backward pass of attention needs of each row: delta = sum over d of
// dO·O, which equals the sum over the keys of P·dP (Dao et al. 2022, appendix B.2).
//
// Oracle: row_dots in crates/tinygpt-kernels/src/attention/backward.rs.
//
// Traffic. Reads out and dout once, writes 4 bytes per row and head: 2 elements per element of out.
//
// Why fast. A row of one head is read by as many lanes as it has pieces of 8 elements, in 16-byte accesses;
// the lanes of a warp read neighbouring heads, so a warp reads whole lines. Sums in f32, in one fixed tree.

struct AttentionDelta {
    // [N, C].
    const act_t* out;
    const act_t* dout;
    // [B, H, T].
    float* delta;
    u32 batch, time, heads, unused;
};

constexpr u32 DELTA_THREADS = 256;
// Lanes of one (row, head): the power of two that covers HEAD_DIM / 8 pieces. Lanes without a piece add 0.
constexpr u32 PIECES = HEAD_DIM / 8;
constexpr u32 LANES = PIECES <= 2 ? 2 : PIECES <= 4 ? 4 : PIECES <= 8 ? 8 : 16;

// Grid: (ceil(B·T·H / (DELTA_THREADS / LANES)), 1, 1); pair number n is row n / H and head n % H.
KERNEL(attention_delta, AttentionDelta, DELTA_THREADS, 1) {
    const u64 pairs = (u64)p.batch * p.time * p.heads;
    const u64 pair = (u64)blockIdx.x * (DELTA_THREADS / LANES) + threadIdx.x / LANES;
    const u32 piece = threadIdx.x % LANES;
    float sum = 0.0f;
    if (pair < pairs && piece < PIECES) {
        const u64 at = pair * HEAD_DIM + 8 * piece;
        float o[8], d[8];
        load8(o, p.out + at);
        load8(d, p.dout + at);
        UNROLL
        for (u32 i = 0; i < 8; i++) sum = fmaf(o[i], d[i], sum);
    }
    UNROLL
    for (u32 step = LANES / 2; step > 0; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
    if (pair < pairs && piece == 0) {
        const u64 row = pair / p.heads, head = pair % p.heads;
        p.delta[(row / p.time * p.heads + head) * p.time + row % p.time] = sum;
    }
}
