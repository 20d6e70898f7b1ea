// Matrix products of a decoding step: a few rows, so that a step costs what it takes to read the weights.
//
//   decode_product: y = x W + b, or gelu of it, with W [K, M];  decode_logits: logits = x wteT, with wte [V, C]
//
// Traffic. Each weight is read once for up to ROWS rows, and from the L2 cache for the others: blocks that
// read the same weights are neighbours in the grid.
//
// Why fast. 16-byte loads, several of them under way in a thread before the first is used; a warp reads whole
// lines. The rows of x are a tile in shared memory, from which all lanes of a column read the same word. There are enough
// multiply-adds without tensor cores as long as the weights come from memory.
//
// Every row is summed in the order that K alone gives, whatever the other rows are and however many: a
// sequence gets the same logits alone and among others.
//
// Oracle: crates/tinygpt-kernels/src/decode.rs.
#include "device.cuh"
#include "math.cuh"
#include "rows.cuh"

#define THREADS 256
#define WARPS (THREADS / 32)
// Rows of a block.
#define ROWS 8
// A thread owns 8 columns, and every LANES-th row of W.
#define COLUMNS 64
#define LANES (THREADS * 8 / COLUMNS)
// Rows of W between two barriers, and how many of its own a thread has under way.
#define CHUNK 256
#define UNDER_WAY 4

struct DecodeProductArgs {
    // [N, K].
    const act_t* x;
    // [K, M].
    const act_t* weight;
    // [M] or null.
    const float* bias;
    // [N, M].
    act_t* y;
    u32 rows, inputs, outputs;
    // Whether y is gelu of the product.
    u32 gelu;
};

// Copies rows first.. of x, columns base.., into shared memory; zeros where there are none.
DEVICE void load_rows(float (*tile)[CHUNK], const DecodeProductArgs& p, u32 first, u32 rows, u32 base) {
    const u32 r = threadIdx.x / (CHUNK / 8), k = threadIdx.x % (CHUNK / 8) * 8;
    float x[8] = {};
    if (r < rows && base + k < p.inputs) load8(x, p.x + (u64)(first + r) * p.inputs + base + k);
    store8_shared(&tile[r][k], x);
}

// Adds the sums of all threads of a column and writes y.
DEVICE void finish_columns(const float (&sums)[ROWS][8], float (*partial)[ROWS][COLUMNS], const DecodeProductArgs& p,
                           u32 first, u32 rows) {
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    UNROLL
    for (u32 r = 0; r < ROWS; r++) {
        float sum[8];
        UNROLL
        for (u32 j = 0; j < 8; j++) {
            sum[j] = sums[r][j];
            UNROLL
            for (u32 step = 16; step >= COLUMNS / 8; step /= 2) sum[j] += __shfl_xor_sync(ALL_LANES, sum[j], step);
        }
        if (lane < COLUMNS / 8) store8_shared(&partial[warp][r][lane * 8], sum);
    }
    __syncthreads();
    for (u32 n = threadIdx.x; n < rows * COLUMNS; n += THREADS) {
        const u32 r = n / COLUMNS, column = blockIdx.y * COLUMNS + n % COLUMNS;
        if (column >= p.outputs) continue;
        float y = p.bias == nullptr ? 0.0f : p.bias[column];
        UNROLL
        for (u32 w = 0; w < WARPS; w++) y += partial[w][r][n % COLUMNS];
        if (p.gelu != 0) y *= gate_of(y);
        p.y[(u64)(first + r) * p.outputs + column] = from_float<act_t>(y);
    }
}

// Grid: (blocks of ROWS rows, blocks of COLUMNS columns).
KERNEL(decode_product, DecodeProductArgs, THREADS, 2) {
    __shared__ __align__(16) float tile[ROWS][CHUNK];
    __shared__ __align__(16) float partial[WARPS][ROWS][COLUMNS];
    const u32 first = blockIdx.x * ROWS, rows = p.rows - first < ROWS ? p.rows - first : ROWS;
    const u32 column = blockIdx.y * COLUMNS + threadIdx.x % (COLUMNS / 8) * 8;
    const u32 k_lane = threadIdx.x / (COLUMNS / 8);
    float sums[ROWS][8] = {};
    for (u32 base = 0; base < p.inputs; base += CHUNK) {
        __syncthreads();
        load_rows(tile, p, first, rows, base);
        __syncthreads();
        UNROLL_BY(1)
        for (u32 part = 0; part < CHUNK / LANES; part += UNDER_WAY) {
            Raw8<act_t> weights[UNDER_WAY];
            UNROLL
            for (u32 i = 0; i < UNDER_WAY; i++) {
                const u32 k = base + (part + i) * LANES + k_lane;
                if (k < p.inputs && column < p.outputs) weights[i] = load_raw8(p.weight + (u64)k * p.outputs + column);
            }
            UNROLL
            for (u32 i = 0; i < UNDER_WAY; i++) {
                const u32 k = (part + i) * LANES + k_lane;
                if (base + k >= p.inputs || column >= p.outputs) continue;
                float weight[8];
                unpack8(weight, weights[i]);
                UNROLL
                for (u32 r = 0; r < ROWS; r++) {
                    if (r >= rows) break;
                    UNROLL
                    for (u32 j = 0; j < 8; j++) sums[r][j] = fmaf(tile[r][k], weight[j], sums[r][j]);
                }
            }
        }
    }
    finish_columns(sums, partial, p, first, rows);
}

struct DecodeLogitsArgs {
    // [N, C].
    const act_t* x;
    // [V, C].
    const act_t* table;
    // [N, V].
    float* logits;
    u32 rows, vocab_size;
};

// Grid: (blocks of ROWS rows, one warp a row of the table).
KERNEL(decode_logits, DecodeLogitsArgs, THREADS, 2) {
    const u32 token = blockIdx.y * WARPS + threadIdx.x / 32;
    const u32 first = blockIdx.x * ROWS, rows = p.rows - first < ROWS ? p.rows - first : ROWS;
    if (token >= p.vocab_size) return;
    float sums[ROWS] = {};
    UNROLL_BY(2)
    for (int i = 0; i < ROW_VECTORS; i++) {
        const u32 column = row_column(i);
        if (column >= C) continue;
        float weight[8];
        load8(weight, p.table + (u64)token * C + column);
        UNROLL
        for (u32 r = 0; r < ROWS; r++) {
            if (r >= rows) break;
            float x[8];
            load8(x, p.x + (u64)(first + r) * C + column);
            UNROLL
            for (u32 j = 0; j < 8; j++) sums[r] = fmaf(x[j], weight[j], sums[r]);
        }
    }
    UNROLL
    for (u32 r = 0; r < ROWS; r++) {
        if (r >= rows) break;
        const float sum = warp_sum(sums[r]);
        if (threadIdx.x % 32 == 0) p.logits[(u64)(first + r) * p.vocab_size + token] = sum;
    }
}
