// Layer norm forward, alone and in one pass with the end of the residual branch before it.
//
//   stream_out = stream + dropout(branch + bias),  out = (stream_out - mean) · rstd · weight + shift
//
// Every residual of GPT-2 is followed by a layer norm (ln_2, the next block's ln_1, or ln_f), so the two are
// one kernel. One warp takes one row and keeps it in registers: the stream is read once and written once.
//
// Bytes for a row in bf16: 2C each of stream, branch, stream_out and out, 8C in all, and 8 for the
// statistics; as two kernels it would be 10C. weight, shift and bias (f32) stay in L1.
// Fast because it is only traffic: 16-byte accesses, reductions by shuffles, no shared memory, no barrier.
//
// Oracles: crates/tinygpt-kernels/src/residual.rs and layer_norm.rs, `forward`.
#include "device.cuh"
#include "dropout.cuh"
#include "rows.cuh"

#define WARPS 8

struct NormArgs {
    const stream_t* stream;
    Norm norm;
    u32 rows;
};

// Grid: one warp a row, WARPS rows a block.
KERNEL(norm_forward, NormArgs, WARPS * 32, 2) {
    const u64 row = (u64)blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= p.rows) return;
    float x[ROW_VECTORS][8];
    UNROLL
    for (int i = 0; i < ROW_VECTORS; i++) {
        if (row_column(i) < C) load8(x[i], p.stream + row * C + row_column(i));
    }
    normalize_row(x, p.norm, row);
}

struct ResidualNormArgs {
    const stream_t* stream;
    const act_t* branch;
    // Null if the product before added it already, or in a model without biases.
    const float* bias;
    const DropoutMask* mask;
    stream_t* stream_out;
    Norm norm;
    u32 rows;
};

KERNEL(residual_norm_forward, ResidualNormArgs, WARPS * 32, 2) {
    const u64 row = (u64)blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= p.rows) return;
    // All loads first: they are under way together.
    Raw8<stream_t> stream[ROW_VECTORS];
    Raw8<act_t> branch[ROW_VECTORS];
    UNROLL
    for (int i = 0; i < ROW_VECTORS; i++) {
        const u64 at = row * C + row_column(i);
        if (row_column(i) < C) stream[i] = load_raw8(p.stream + at), branch[i] = load_raw8(p.branch + at);
    }
    float x[ROW_VECTORS][8];
    const DropoutRow dropout = dropout_row(p.mask, row);
    UNROLL
    for (int i = 0; i < ROW_VECTORS; i++) {
        const u32 column = row_column(i);
        if (column >= C) continue;
        float y[8], bias[8] = {};
        unpack8(x[i], stream[i]);
        unpack8(y, branch[i]);
        if (p.bias != nullptr) load8(bias, p.bias + column);
        UNROLL
        for (int j = 0; j < 8; j++) y[j] += bias[j];
        dropout8(y, dropout, column);
        UNROLL
        for (int j = 0; j < 8; j++) x[i][j] += y[j];
        store_stream(p.stream_out + row * C + column, x[i]);
    }
    normalize_row(x, p.norm, row);
}
