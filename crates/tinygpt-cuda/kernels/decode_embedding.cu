// Token plus position embedding of the rows of a decoding step, at once with the first layer norm.
//
// As embedding.cu, but every row has a position of its own. One warp a row; bytes for a row: 8C of the two
// tables (f32), and the stream and the output of the layer norm.
//
// Oracle: crates/tinygpt-kernels/src/embedding.rs and layer_norm.rs, `forward`.
#include "device.cuh"
#include "rows.cuh"
#include "decode.cuh"

#define WARPS 8

struct DecodeEmbeddingArgs {
    const DecodeRow* rows;
    const float* wte;
    const float* wpe;
    stream_t* stream;
    Norm norm;
    u32 n;
};

// Grid: one warp a row, WARPS rows a block.
KERNEL(decode_embedding, DecodeEmbeddingArgs, WARPS * 32, 2) {
    const u64 row = (u64)blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= p.n) return;
    const DecodeRow at = p.rows[row];
    float x[ROW_VECTORS][8];
    UNROLL
    for (int i = 0; i < ROW_VECTORS; i++) {
        const u32 column = row_column(i);
        if (column >= C) continue;
        float position[8];
        load8(x[i], p.wte + (u64)at.id * C + column);
        load8(position, p.wpe + (u64)at.position * C + column);
        UNROLL
        for (int j = 0; j < 8; j++) x[i][j] += position[j];
        store_stream(p.stream + row * C + column, x[i]);
    }
    normalize_row(x, p.norm, row);
}
