// Token plus position embedding with dropout, at once with the first layer norm, and the scatter back.
//
//   stream[n] = dropout(wte[id_n] + wpe[n mod T]),  out = layer norm of it
//
// Forward: one warp a row, the row in registers for the layer norm (rows.cuh). Bytes for a row: 4C of wte
// (f32), 2C of stream and of out each; wpe is shared by the batch and stays in L2.
//
// Backward: a row of the table gets the gradients of all positions that hold its id. Atomics would add them
// in another order in every run, so the host sorts the ids, stably (src/kernels/segments.rs), while the card
// works on the batch before. A warp then owns 256 columns of one id, walks its positions in ascending order
// and adds once to `dwte`. An id that occurs often would keep one warp long after all others are done, so its
// positions are cut into pieces; these write partial sums, which `wte_backward_long` adds in order.
// Bytes: one read of the gradient for wte and one for wpe, and a read and a write of each table row hit.
//
// Oracle: crates/tinygpt-kernels/src/embedding.rs.
#include "device.cuh"
#include "dropout.cuh"
#include "rows.cuh"

#define WARPS 8
// Rows that a warp of the backward pass has under way at once.
#define ROWS 4

struct EmbeddingForwardArgs {
    const u32* ids;
    const float* wte;
    const float* wpe;
    const DropoutMask* mask;
    stream_t* stream;
    Norm norm;
    u32 rows;
    // T.
    u32 seq_len;
};

// Grid: one warp a row, WARPS rows a block.
KERNEL(embedding_forward, EmbeddingForwardArgs, WARPS * 32, 2) {
    const u64 row = (u64)blockIdx.x * WARPS + threadIdx.x / 32;
    if (row >= p.rows) return;
    const float* token = p.wte + (u64)p.ids[row] * C;
    const float* position = p.wpe + row % p.seq_len * C;
    const DropoutRow dropout = dropout_row(p.mask, row);
    Raw8<float> tokens[ROW_VECTORS], positions[ROW_VECTORS];
    UNROLL
    for (int i = 0; i < ROW_VECTORS; i++) {
        const u32 column = row_column(i);
        if (column < C) tokens[i] = load_raw8(token + column), positions[i] = load_raw8(position + column);
    }
    float x[ROW_VECTORS][8];
    UNROLL
    for (int i = 0; i < ROW_VECTORS; i++) {
        const u32 column = row_column(i);
        if (column >= C) continue;
        float y[8];
        unpack8(x[i], tokens[i]);
        unpack8(y, positions[i]);
        UNROLL
        for (int j = 0; j < 8; j++) x[i][j] += y[j];
        dropout8(x[i], dropout, column);
        store_stream(p.stream + row * C + column, x[i]);
    }
    normalize_row(x, p.norm, row);
}

// Some positions of one id: order[start], order[start + 1], ... `partial` is the row of `partials` that
// receives their sum, or NO_PARTIAL if the id has no other piece.
struct Piece {
    u32 id, start, len, partial;
};
#define NO_PARTIAL 0xffffffffu

// An id with several pieces.
struct LongId {
    u32 id, first_partial, partials, unused;
};

struct WteBackwardArgs {
    const stream_t* dstream;
    const DropoutMask* mask;
    // Positions sorted by id, ascending for each id.
    const u32* order;
    const Piece* pieces;
    const LongId* long_ids;
    // Numbers of pieces and of long ids: they change with the batch, the grid is for the most there can be.
    const u32* counts;
    float* partials;
    float* dwte;
};

DEVICE void add8(float sum[8], const float x[8]) {
    UNROLL
    for (int j = 0; j < 8; j++) sum[j] += x[j];
}

DEVICE void add_to_memory8(float* address, const float x[8]) {
    float y[8];
    load8(y, address);
    add8(y, x);
    store8(address, y);
}

// Adds the gradient of a row that dropout let through.
DEVICE void add_row(float sum[8], Raw8<stream_t> loaded, const DropoutMask& mask, u64 row, u32 column) {
    float x[8];
    unpack8(x, loaded);
    dropout8(x, dropout_row(mask, row), column);
    add8(sum, x);
}

// Grid: (one warp a piece, WARPS a block; tiles of 256 columns).
KERNEL(wte_backward, WteBackwardArgs, WARPS * 32, 3) {
    const u32 index = blockIdx.x * WARPS + threadIdx.x / 32;
    const u32 column = blockIdx.y * 256 + threadIdx.x % 32 * 8;
    if (index >= p.counts[0]) return;
    const Piece piece = p.pieces[index];
    const DropoutMask mask = dropout_mask(p.mask);
    // A piece has at most 32 positions: each lane loads one, for all.
    const u32 lane = threadIdx.x % 32;
    const u32 position = lane < piece.len ? p.order[piece.start + lane] : 0;
    float sum[8] = {};
    for (u32 i = 0; i < piece.len; i += ROWS) {
        u64 rows[ROWS];
        Raw8<stream_t> loaded[ROWS];
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            rows[r] = __shfl_sync(ALL_LANES, position, (i + r) % 32);
            if (column < C && i + r < piece.len) loaded[r] = load_raw8(p.dstream + rows[r] * C + column);
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            if (column < C && i + r < piece.len) add_row(sum, loaded[r], mask, rows[r], column);
        }
    }
    if (column >= C) return;
    if (piece.partial == NO_PARTIAL) {
        add_to_memory8(p.dwte + (u64)piece.id * C + column, sum);
    } else {
        store8(p.partials + (u64)piece.partial * C + column, sum);
    }
}

// Grid: as wte_backward, one warp a long id.
KERNEL(wte_backward_long, WteBackwardArgs, WARPS * 32, 3) {
    const u32 index = blockIdx.x * WARPS + threadIdx.x / 32;
    const u32 column = blockIdx.y * 256 + threadIdx.x % 32 * 8;
    if (index >= p.counts[1] || column >= C) return;
    const LongId id = p.long_ids[index];
    float sum[8] = {};
    UNROLL_BY(4)
    for (u32 i = 0; i < id.partials; i++) {
        float x[8];
        load8(x, p.partials + (u64)(id.first_partial + i) * C + column);
        add8(sum, x);
    }
    add_to_memory8(p.dwte + (u64)id.id * C + column, sum);
}

struct WpeBackwardArgs {
    const stream_t* dstream;
    const DropoutMask* mask;
    float* dwpe;
    u32 rows;
    u32 seq_len;
    // 1: add to `dwpe`, 0: write; positions from T on then get zeros.
    u32 accumulate;
};

// Sums over the batch. Grid: (positions of the table, tiles of 256 columns); the warps of a block take the
// sequences in turn, their sums are added in order.
KERNEL(wpe_backward, WpeBackwardArgs, WARPS * 32, 3) {
    __shared__ __align__(16) float shared[WARPS][256];
    const u32 t = blockIdx.x, lane = threadIdx.x % 32;
    const u32 column = blockIdx.y * 256 + lane * 8;
    const u64 step = (u64)WARPS * p.seq_len;
    const DropoutMask mask = dropout_mask(p.mask);
    float sum[8] = {};
    const u64 end = t < p.seq_len && column < C ? p.rows : 0;
    for (u64 base = t + (u64)(threadIdx.x / 32) * p.seq_len; base < end; base += step * ROWS) {
        Raw8<stream_t> loaded[ROWS];
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const u64 row = base + r * step;
            if (row < p.rows) loaded[r] = load_raw8(p.dstream + row * C + column);
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const u64 row = base + r * step;
            if (row < p.rows) add_row(sum, loaded[r], mask, row, column);
        }
    }
    store8_shared(shared[threadIdx.x / 32] + lane * 8, sum);
    __syncthreads();
    const u32 mine = blockIdx.y * 256 + threadIdx.x;
    if (mine >= C) return;
    float* out = p.dwpe + (u64)t * C + mine;
    float total = p.accumulate ? *out : 0.0f;
    UNROLL
    for (int w = 0; w < WARPS; w++) total += shared[w][threadIdx.x];
    *out = total;
}
