#include "device.cuh"
#include "dropout.cuh"
#include "attention_args.cuh"
#include "attention.cuh"
// The forward pass of causal attention on tensor cores: out = dropout(softmax(q kT / sqrt(D))) v.
//
// Oracle: crates/tinygpt-kernels/src/attention/forward.rs. Algorithm: FlashAttention (Dao et al. 2022).
//
// Idea. A block owns ROWS queries of one head and walks along the keys, COLUMNS at a time. Scores never
// leave the registers: the softmax is computed with the largest score so far, and what was summed before is
// scaled down when a larger one comes. The probabilities then are, lane by lane, the left operand of the
// product with the values, so they need no shared memory either.
//
// Traffic. Reads q once and k, v once per block of queries (from the L2 cache: they are small), writes out and
// 4 bytes of log-sum-exp per row: 4 elements per element of out.
//
// Why fast. A warp owns up to 32 queries, so each fragment of keys feeds two products: shared memory
// delivers 128 bytes in the time of one mma. The next tile of keys and values is copied by cp.async while
// this one is computed. Tiles above the diagonal and of earlier documents are skipped, and on the diagonal strips of 16 keys. The exponential
// is ex2: scale and log2(e) are one factor inside the fused multiply-add that subtracts the maximum.

// Key and value rows of one step.
constexpr u32 STRIPS = COLUMNS / 16;

// What a lane keeps about its rows: 16·i + 8·half + lane / 4.
struct Rows {
    float max[ROW_TILES][2];
    float sum[ROW_TILES][2];
    u32 low[ROW_TILES][2], high[ROW_TILES][2];
    u32 keep_limit;
};

static_assert(ROWS <= 2 * COLUMNS, "the block's queries fit into one stage");

typedef float Scores[ROW_TILES][COLUMNS / 8][4];

// The strips of keys from `key` on that the warp's last row sees.
DEVICE u32 visible_strips(u32 last_row, u32 key) {
    const u32 strips = (last_row - key) / 16 + 1;
    return strips < STRIPS ? strips : STRIPS;
}

// scores = q kT; HIDDEN behind the diagonal and before the query's document.
template <bool DIAGONAL>
DEVICE void multiply_keys(Scores& scores, const FragmentA (&q)[ROW_TILES][STEPS], const act_t* keys, u32 strips,
                          u32 first_row, u32 key, const u32* starts, u32 time) {
    const LaneRow lane = lane_row_b();
    UNROLL
    for (u32 strip = 0; strip < STRIPS; strip++) {
        UNROLL
        for (u32 i = 0; i < ROW_TILES; i++) {
            UNROLL
            for (u32 e = 0; e < 8; e++) scores[i][2 * strip + e / 4][e % 4] = 0.0f;
        }
        if (!DIAGONAL || strip < strips) {
            UNROLL
            for (u32 step = 0; step < STEPS; step++) {
                FragmentB b[2];
                load_b(b, keys + strip * 16 * HEAD_DIM, lane, step);
                UNROLL
                for (u32 i = 0; i < ROW_TILES; i++) {
                    multiply(scores[i][2 * strip], q[i][step], b[0]);
                    multiply(scores[i][2 * strip + 1], q[i][step], b[1]);
                }
            }
        }
        UNROLL
        for (u32 i = 0; DIAGONAL && i < ROW_TILES; i++) {
            UNROLL
            for (u32 e = 0; e < 8; e++) {
                const u32 row = first_row + threadIdx.x % 32 / 4 + 16 * i + 8 * (e % 4 / 2);
                const u32 column = key + 16 * strip + 8 * (e / 4) + 2 * (threadIdx.x % 4) + e % 2;
                const bool hidden = column > row || column < start_of(starts, row, time);
                if (hidden) scores[i][2 * strip + e / 4][e % 4] = HIDDEN;
            }
        }
    }
}

// scores = exp(scale · (scores - max)), and sums and output on the footing of the new maximum.
DEVICE void softmax(Scores& scores, Rows& rows, Accumulator& out, float scale_log2) {
    UNROLL
    for (u32 i = 0; i < ROW_TILES; i++) {
        UNROLL
        for (u32 half = 0; half < 2; half++) {
            float max = rows.max[i][half];
            UNROLL
            for (u32 n = 0; n < COLUMNS / 8; n++) {
                max = fmaxf(max, fmaxf(scores[i][n][2 * half], scores[i][n][2 * half + 1]));
            }
            max = quad_max(max);
            const float rescale = exp2_approx((rows.max[i][half] - max) * scale_log2);
            rows.max[i][half] = max;
            float sum = rows.sum[i][half] * rescale;
            UNROLL
            for (u32 n = 0; n < HEAD_DIM / 8; n++) {
                out[i][n][2 * half] *= rescale;
                out[i][n][2 * half + 1] *= rescale;
            }
            const float shift = -max * scale_log2;
            UNROLL
            for (u32 n = 0; n < COLUMNS / 8; n++) {
                UNROLL
                for (u32 e = 2 * half; e < 2 * half + 2; e++) {
                    scores[i][n][e] = exp2_approx(fmaf(scores[i][n][e], scale_log2, shift));
                    sum += scores[i][n][e];
                }
            }
            rows.sum[i][half] = sum;
        }
    }
}

// Zeroes what the mask drops; the factor of the rest is left to the end. Comes after the row sums.
DEVICE void drop(float (&p)[2][4], const Rows& rows, u32 i, u32 key) {
    UNROLL
    for (u32 e = 0; e < 8; e++) {
        const u32 half = e % 4 / 2;
        const DropoutRow row{rows.low[i][half], rows.high[i][half], rows.keep_limit, 1.0f};
        const u32 column = key + 8 * (e / 4) + 2 * (threadIdx.x % 4) + e % 2;
        if (!dropout_keeps(row, column)) p[e / 4][e % 4] = 0.0f;
    }
}

// out += probabilities · values.
template <bool DIAGONAL, bool DROPS>
DEVICE void multiply_values(Accumulator& out, Scores& scores, const Rows& rows, const act_t* values, u32 strips, u32 key) {
    const LaneRow lane = lane_row_a();
    UNROLL
    for (u32 strip = 0; strip < STRIPS; strip++) {
        if (DIAGONAL && strip >= strips) break;
        FragmentA a[ROW_TILES];
        UNROLL
        for (u32 i = 0; i < ROW_TILES; i++) {
            float (&p)[2][4] = *reinterpret_cast<float (*)[2][4]>(&scores[i][2 * strip]);
            if (DROPS) drop(p, rows, i, key + 16 * strip);
            a[i] = as_operand(p);
        }
        UNROLL
        for (u32 step = 0; step < STEPS; step++) {
            FragmentB b[2];
            load_b_transposed(b, values + strip * 16 * HEAD_DIM, lane, step);
            UNROLL
            for (u32 i = 0; i < ROW_TILES; i++) {
                multiply(out[i][2 * step], a[i], b[0]);
                multiply(out[i][2 * step + 1], a[i], b[1]);
            }
        }
    }
}

template <bool DIAGONAL, bool DROPS>
DEVICE void one_tile(Accumulator& out, Rows& rows, const FragmentA (&q)[ROW_TILES][STEPS], const act_t* keys, u32 strips,
                     u32 key, u32 first_row, float scale_log2, const u32* starts, u32 time) {
    Scores scores;
    multiply_keys<DIAGONAL>(scores, q, keys, strips, first_row, key, starts, time);
    softmax(scores, rows, out, scale_log2);
    multiply_values<DIAGONAL, DROPS>(out, scores, rows, keys + TILE, strips, key);
}

DEVICE void start_rows(Rows& rows, const DropoutMask* mask, u64 line, u32 first_row) {
    const u64 line_row = line + first_row + threadIdx.x % 32 / 4;
    UNROLL
    for (u32 i = 0; i < ROW_TILES; i++) {
        UNROLL
        for (u32 half = 0; half < 2; half++) {
            rows.max[i][half] = minus_infinity();
            rows.sum[i][half] = 0.0f;
            const DropoutRow row = dropout_row(mask, line_row + 16 * i + 8 * half);
            rows.low[i][half] = row.low;
            rows.high[i][half] = row.high;
            rows.keep_limit = row.keep_limit;
        }
    }
}

// Divides by the sums and writes the rows and their log-sum-exps.
DEVICE void finish_rows(const Accumulator& out, const Rows& rows, const AttentionForward& p, const Head& head, act_t* part,
                        u32 first_row) {
    const float keep_scale = keep_of(p.dropout).scale;
    float factor[ROW_TILES][2];
    UNROLL
    for (u32 i = 0; i < ROW_TILES; i++) {
        UNROLL
        for (u32 half = 0; half < 2; half++) {
            const float sum = quad_sum(rows.sum[i][half]);
            factor[i][half] = keep_scale / sum;
            const u32 row = first_row + threadIdx.x % 32 / 4 + 16 * i + 8 * half;
            if (threadIdx.x % 4 == 0 && row < p.time) {
                p.lse[head.line + row] = rows.max[i][half] * p.scale + logf(sum);
            }
        }
    }
    store_rows(out, factor, part, p.out + head.plain_offset, head.plain, first_row, p.time);
}

// Grid: (blocks of queries, H, B). Dynamic shared memory: 4 tiles.
KERNEL(attention_forward, AttentionForward, THREADS, MIN_BLOCKS) {
    DYNAMIC_SHARED(act_t, shared);
    // The longest rows first: what starts last is short, and the GPU ends evenly.
    const u32 first = (gridDim.x - 1 - blockIdx.x) * ROWS;
    const u32 warp = warp_index(), first_row = first + warp * WARP_ROWS, last_row = first_row + WARP_ROWS - 1;
    const Head head = head_of(p.qkv, blockIdx.z, blockIdx.y, p.heads, p.time);
    const u32* starts = of_sequence(p.documents.starts, blockIdx.z, p.time);
    const u32 first_key = start_of(starts, first, p.time) / COLUMNS * COLUMNS;

    // Two stages of (keys, values). The queries pass through the second one into registers.
    load_tile<ROWS>(shared + 2 * TILE, head.q, head.packed, first, p.time);
    load_tile<COLUMNS>(shared, head.k, head.packed, first_key, p.time);
    load_tile<COLUMNS>(shared + TILE, head.v, head.packed, first_key, p.time);
    cp_async_commit();
    Rows rows;
    start_rows(rows, p.dropout, head.line, first_row);
    Accumulator out;
    clear(out);
    cp_async_wait<0>();
    __syncthreads();
    FragmentA q[ROW_TILES][STEPS];
    UNROLL
    for (u32 i = 0; i < ROW_TILES; i++) {
        UNROLL
        for (u32 step = 0; step < STEPS; step++) {
            q[i][step] = load_a(shared + 2 * TILE + (warp * WARP_ROWS + 16 * i) * HEAD_DIM, lane_row_a(), step);
        }
    }

    const float scale_log2 = p.scale * LOG2_E;
    const u32 seen = first + ROWS < p.time ? first + ROWS : p.time;
    u32 stage_index = 0;
    for (u32 key = first_key; key < seen; key += COLUMNS, stage_index ^= 1) {
        // This tile has arrived, and all warps are done with the one before: its memory takes the next.
        cp_async_wait<0>();
        __syncthreads();
        act_t* stage = shared + stage_index * 2 * TILE;
        if (key + COLUMNS < seen) {
            act_t* next = shared + (stage_index ^ 1) * 2 * TILE;
            load_tile<COLUMNS>(next, head.k, head.packed, key + COLUMNS, p.time);
            load_tile<COLUMNS>(next + TILE, head.v, head.packed, key + COLUMNS, p.time);
            cp_async_commit();
        }
        if (first_row >= p.time || key > last_row) continue;
        if (key + COLUMNS - 1 <= first_row && key >= start_of(starts, last_row, p.time)) {
            if (rows.keep_limit != 0) one_tile<false, true>(out, rows, q, stage, STRIPS, key, first_row, scale_log2, starts, p.time);
            else one_tile<false, false>(out, rows, q, stage, STRIPS, key, first_row, scale_log2, starts, p.time);
        } else {
            const u32 strips = visible_strips(last_row, key);
            if (rows.keep_limit != 0) one_tile<true, true>(out, rows, q, stage, strips, key, first_row, scale_log2, starts, p.time);
            else one_tile<true, false>(out, rows, q, stage, strips, key, first_row, scale_log2, starts, p.time);
        }
    }
    __syncthreads();
    // Computed again: a register less while the loop runs.
    const u32 part = warp_index() * WARP_ROWS;
    finish_rows(out, rows, p, head, shared + part * HEAD_DIM, first + part);
}
