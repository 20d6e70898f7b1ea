// Layer norm backward, in one pass with the start of the residual branch before it.
//
//   g = dnormed · weight,  x̂ = (x - mean) · rstd
//   dstream (+)= rstd · (g - mean(g) - x̂ · mean(g · x̂)),  dbranch = dropout mask · dstream
//   dweight = Σ dnormed · x̂,  dshift = Σ dnormed,  dbias = Σ dbranch   (over rows)
//
// Bytes for a row in bf16: 2C each of dnormed, x, dstream read, dstream written and dbranch, 10C in all. The
// three column sums would cost another 6C in passes of their own; here they are free.
//
// How the sums stay fast and reproducible: a thread owns 8 columns for all its rows, so a sum is an addition
// in a register, in the order of the rows. A row takes WARPS_A_ROW warps, and a block holds TEAMS such teams;
// after its rows it adds its teams in order and writes one row of `partials` [blocks, 3, C], which
// `sum_partials` adds up. The number of rows of a block depends on N alone: every card gives the same bits.
// ROWS rows are under way at once, to hide the latency of memory and of the one barrier per step.
//
// Oracles: crates/tinygpt-kernels/src/layer_norm.rs `backward`, residual.rs `backward`.
#include "device.cuh"
#include "dropout.cuh"

#define WARPS_A_ROW ((C / 8 + 31) / 32)
#define TEAMS (WARPS_A_ROW >= 5 ? 1 : 8 / WARPS_A_ROW)
#define THREADS (TEAMS * WARPS_A_ROW * 32)
// With f32 activations ROWS rows take twice the registers until they are used.
#define ROWS 2

struct NormBackwardArgs {
    const act_t* dnormed;
    const stream_t* x;
    const float* weight;
    const float* mean;
    const float* rstd;
    stream_t* dstream;
    // Null if nobody reads it: below the first block.
    act_t* dbranch;
    const DropoutMask* mask;
    float* partials;
    u32 rows;
    // Rows of a block.
    u32 slab;
    // 0: dstream is written without being read, for the first layer norm of a backward pass.
    u32 accumulate;
};

// A thread's 8 columns of one row, as they lie in memory.
struct Loaded {
    Raw8<act_t> dnormed;
    Raw8<stream_t> x, dstream;
    float mean, rstd;
};

DEVICE void load_part(Loaded& part, const NormBackwardArgs& p, u64 row, u32 column) {
    const u64 at = row * C + column;
    part.dnormed = load_raw8(p.dnormed + at);
    part.x = load_raw8(p.x + at);
    if (p.accumulate) part.dstream = load_raw8(p.dstream + at);
    part.mean = p.mean[row];
    part.rstd = p.rstd[row];
}

// The same as numbers.
struct Part {
    float dnormed[8], x_hat[8];
};

DEVICE void unpack_part(Part& part, const Loaded& loaded) {
    unpack8(part.dnormed, loaded.dnormed);
    unpack8(part.x_hat, loaded.x);
    UNROLL
    for (int j = 0; j < 8; j++) part.x_hat[j] = (part.x_hat[j] - loaded.mean) * loaded.rstd;
}

// Turns sums over a warp's columns into sums over the row. `shared` [TEAMS][WARPS_A_ROW][2·ROWS] is one of
// two buffers taken in turn, so one barrier is enough.
DEVICE void sum_over_row(float sums[2 * ROWS], float* shared, u32 team, u32 warp) {
    UNROLL
    for (int i = 0; i < 2 * ROWS; i++) sums[i] = warp_sum(sums[i]);
    if constexpr (WARPS_A_ROW == 1) return;
    float* mine = shared + (team * WARPS_A_ROW + warp) * 2 * ROWS;
    if (threadIdx.x % 32 == 0) {
        UNROLL
        for (int i = 0; i < 2 * ROWS; i++) mine[i] = sums[i];
    }
    __syncthreads();
    UNROLL
    for (int i = 0; i < 2 * ROWS; i++) sums[i] = 0.0f;
    UNROLL
    for (int w = 0; w < WARPS_A_ROW; w++) {
        UNROLL
        for (int i = 0; i < 2 * ROWS; i++) sums[i] += shared[(team * WARPS_A_ROW + w) * 2 * ROWS + i];
    }
}

// Writes the gradients of a row and adds it to the column sums.
DEVICE void finish_part(float sums[3][8], const Part& part, const Loaded& loaded, const NormBackwardArgs& p,
                        const DropoutMask& mask, u64 row, u32 column, const float weight[8], const float row_sum[2]) {
    const float mean_g = row_sum[0] * (1.0f / C), mean_g_x_hat = row_sum[1] * (1.0f / C);
    float d[8];
    unpack8(d, loaded.dstream);
    UNROLL
    for (int j = 0; j < 8; j++) {
        const float g = part.dnormed[j] * weight[j];
        d[j] = fmaf(g - mean_g - part.x_hat[j] * mean_g_x_hat, loaded.rstd, d[j]);
    }
    const u64 at = row * C + column;
    store8(p.dstream + at, d);
    dropout8(d, dropout_row(mask, row), column);
    if (p.dbranch != nullptr) store8(p.dbranch + at, d);
    UNROLL
    for (int j = 0; j < 8; j++) {
        sums[0][j] = fmaf(part.dnormed[j], part.x_hat[j], sums[0][j]);
        sums[1][j] += part.dnormed[j];
        sums[2][j] += d[j];
    }
}

// Adds the column sums of the block's teams in order and writes them to the block's row of `partials`.
DEVICE void write_sums(const float sums[3][8], float* out, float* shared, u32 team, u32 column) {
    UNROLL
    for (int kind = 0; kind < 3; kind++) {
        if constexpr (TEAMS == 1) {
            if (column < C) store8(out + kind * C + column, sums[kind]);
        } else {
            __syncthreads();
            if (column < C) store8_shared(shared + team * C + column, sums[kind]);
            __syncthreads();
            for (u32 i = threadIdx.x; i < C; i += THREADS) {
                float total = 0.0f;
                UNROLL
                for (int t = 0; t < TEAMS; t++) total += shared[t * C + i];
                out[kind * C + i] = total;
            }
        }
    }
}

// Grid: blocks of `slab` rows.
KERNEL(norm_backward, NormBackwardArgs, THREADS, (THREADS > 256 ? 1 : 2)) {
    __shared__ float warp_sums[2][TEAMS * WARPS_A_ROW * 2 * ROWS];
    __shared__ __align__(16) float team_sums[TEAMS == 1 ? 4 : TEAMS * C];
    const u32 team = threadIdx.x / (WARPS_A_ROW * 32), warp = threadIdx.x / 32 % WARPS_A_ROW;
    const u32 column = (warp * 32 + threadIdx.x % 32) * 8;
    const u64 first = (u64)blockIdx.x * p.slab;
    const u64 end = first + p.slab < p.rows ? first + p.slab : p.rows;
    const DropoutMask mask = dropout_mask(p.mask);
    float weight[8] = {}, sums[3][8] = {};
    if (column < C) load8(weight, p.weight + column);
    u32 step = 0;
    for (u64 base = first; base < end; base += TEAMS * ROWS, step++) {
        const u64 row = base + team * ROWS;
        Loaded loaded[ROWS] = {};
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            if (column < C && row + r < end) load_part(loaded[r], p, row + r, column);
        }
        Part parts[ROWS];
        float row_sums[2 * ROWS] = {};
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            unpack_part(parts[r], loaded[r]);
            UNROLL
            for (int j = 0; j < 8; j++) {
                const float g = parts[r].dnormed[j] * weight[j];
                row_sums[2 * r] += g;
                row_sums[2 * r + 1] = fmaf(g, parts[r].x_hat[j], row_sums[2 * r + 1]);
            }
        }
        sum_over_row(row_sums, warp_sums[step % 2], team, warp);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            if (column >= C || row + r >= end) continue;
            finish_part(sums, parts[r], loaded[r], p, mask, row + r, column, weight, row_sums + 2 * r);
        }
    }
    write_sums(sums, p.partials + (u64)blockIdx.x * 3 * C, team_sums, team, column);
}
