// GELU and the sums over rows for bias gradients: kernels over a matrix [rows, columns] of activations.
//
//   gelu(x) = x · σ(2u),  u = √(2/π) · (x + 0.044715 x³),  gelu'(x) = σ + x σ (1 - σ) · 2u'
//
// Bytes for an element in bf16: forward 2 read, 2 written; backward 4 read, 2 written, and 2 more if the
// activation is recomputed. The bias gradient needs no traffic of its own: a thread owns 8 columns for all
// its rows and adds in registers. A warp covers 256 columns of a row, 512 contiguous bytes; a block takes
// 8 rows at a time. With FAST_MATH an element costs two instructions of the special function unit, less
// than its traffic.
//
// The bias sum of a block is a row of `partials` [blocks, columns], see reduce.cu. How many rows a block
// takes depends on the number of rows alone, so every card gives the same bits.
//
// Oracles: crates/tinygpt-kernels/src/gelu.rs, bias.rs.
#include "device.cuh"
#include "math.cuh"

#define WARPS 8
// Rows that a thread has under way at once.
#define ROWS 2
#define BIAS_ROWS 4

// The columns of a thread and the rows of its block.
struct Tile {
    u32 column;
    u64 first, end;
};

// Grid: (tiles of 256 columns, blocks of `slab` rows).
DEVICE Tile tile_of(u32 rows, u32 slab) {
    const u64 first = (u64)blockIdx.y * slab;
    return Tile{blockIdx.x * 256 + threadIdx.x % 32 * 8, first, first + slab < rows ? first + slab : rows};
}

// gelu'(x), given σ(2u) and gelu(x).
DEVICE float slope_of(float x, float gate, float out) {
    const float slope = fmaf(x * x, 3.0f * CUBIC, 1.0f) * TWO_ROOT_2_PI;
    return fmaf(out * (1.0f - gate), slope, gate);
}

struct GeluForwardArgs {
    // The pre-activation. With a bias it is added here, and the sum stored for the backward pass.
    act_t* pre;
    const float* bias;
    act_t* out;
    u32 rows, columns, slab;
};

KERNEL(gelu_forward, GeluForwardArgs, WARPS * 32, 4) {
    const Tile tile = tile_of(p.rows, p.slab);
    if (tile.column >= p.columns) return;
    float bias[8] = {};
    if (p.bias != nullptr) load8(bias, p.bias + tile.column);
    for (u64 base = tile.first + threadIdx.x / 32; base < tile.end; base += WARPS * ROWS) {
        Raw8<act_t> pre[ROWS];
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const u64 row = base + r * WARPS;
            if (row < tile.end) pre[r] = load_raw8(p.pre + row * p.columns + tile.column);
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const u64 row = base + r * WARPS, at = row * p.columns + tile.column;
            if (row >= tile.end) continue;
            float x[8];
            unpack8(x, pre[r]);
            if (p.bias != nullptr) {
                UNROLL
                for (int j = 0; j < 8; j++) x[j] = to_float(from_float<act_t>(x[j] + bias[j]));
                store8(p.pre + at, x);
            }
            UNROLL
            for (int j = 0; j < 8; j++) x[j] *= gate_of(x[j]);
            store8(p.out + at, x);
        }
    }
}

// Adds the sums of the block's 8 warps in order and writes them to the block's row of `partials`.
DEVICE void write_sums(const float sum[8], float (*shared)[256], float* partials, u32 columns) {
    store8_shared(shared[threadIdx.x / 32] + threadIdx.x % 32 * 8, sum);
    __syncthreads();
    const u32 mine = blockIdx.x * 256 + threadIdx.x;
    if (mine >= columns) return;
    float total = 0.0f;
    UNROLL
    for (int w = 0; w < WARPS; w++) total += shared[w][threadIdx.x];
    partials[(u64)blockIdx.y * columns + mine] = total;
}

struct GeluBackwardArgs {
    const act_t* pre;
    // Gradient of the activation on entry, of the pre-activation on return.
    act_t* d;
    // If not null, receives the activation; may be `pre`.
    act_t* out;
    float* partials;
    u32 rows, columns, slab;
};

KERNEL(gelu_backward, GeluBackwardArgs, WARPS * 32, 3) {
    __shared__ __align__(16) float shared[WARPS][256];
    const Tile tile = tile_of(p.rows, p.slab);
    float sum[8] = {};
    for (u64 base = tile.first + threadIdx.x / 32; base < tile.end && tile.column < p.columns; base += WARPS * ROWS) {
        Raw8<act_t> pre[ROWS], gradient[ROWS];
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const u64 row = base + r * WARPS, at = row * p.columns + tile.column;
            if (row < tile.end) pre[r] = load_raw8(p.pre + at), gradient[r] = load_raw8(p.d + at);
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            const u64 row = base + r * WARPS, at = row * p.columns + tile.column;
            if (row >= tile.end) continue;
            float x[8], d[8];
            unpack8(x, pre[r]);
            unpack8(d, gradient[r]);
            UNROLL
            for (int j = 0; j < 8; j++) {
                const float gate = gate_of(x[j]), out = x[j] * gate;
                d[j] *= slope_of(x[j], gate, out);
                sum[j] += d[j];
                x[j] = out;
            }
            store8(p.d + at, d);
            if (p.out != nullptr) store8(p.out + at, x);
        }
    }
    write_sums(sum, shared, p.partials, p.columns);
}

struct BiasBackwardArgs {
    const act_t* d;
    float* partials;
    u32 rows, columns, slab;
};

// The sums over rows of `d`, where no other kernel reads it: the gradient of queries, keys and values.
KERNEL(bias_backward, BiasBackwardArgs, WARPS * 32, 4) {
    __shared__ __align__(16) float shared[WARPS][256];
    const Tile tile = tile_of(p.rows, p.slab);
    float sum[8] = {};
    for (u64 base = tile.first + threadIdx.x / 32; base < tile.end && tile.column < p.columns; base += WARPS * BIAS_ROWS) {
        Raw8<act_t> loaded[BIAS_ROWS] = {};
        UNROLL
        for (int r = 0; r < BIAS_ROWS; r++) {
            const u64 row = base + r * WARPS;
            if (row < tile.end) loaded[r] = load_raw8(p.d + row * p.columns + tile.column);
        }
        UNROLL
        for (int r = 0; r < BIAS_ROWS; r++) {
            float d[8];
            unpack8(d, loaded[r]);
            UNROLL
            for (int j = 0; j < 8; j++) sum[j] += d[j];
        }
    }
    write_sums(sum, shared, p.partials, p.columns);
}
