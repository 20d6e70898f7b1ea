#include "device.cuh"
#include "dropout.cuh"
#include "attention_args.cuh"
#include "attention.cuh"
#include "attention_backward.cuh"
// The gradient of queries. A block owns ROWS queries of one head and walks along the keys up to its diagonal.
//
// Traffic. Reads q and dout once, k and v once per block of queries (from the L2 cache), 8 bytes per row;
// writes 1 element per element of out.

// Starts the copy of the keys and values from `first` on.
DEVICE void load_stage(act_t* tiles, const Head& head, u32 first, u32 limit) {
    load_tile<COLUMNS>(tiles, head.k, head.packed, first, limit);
    load_tile<COLUMNS>(tiles + TILE, head.v, head.packed, first, limit);
    cp_async_commit();
}

// Grid: (blocks of queries, H, B). Dynamic shared memory: the resident operands, 4 tiles.
KERNEL(attention_backward_queries, AttentionBackward, THREADS, MIN_BLOCKS) {
    DYNAMIC_SHARED(act_t, shared);
    act_t* const tiles = shared + RESIDENT * OWN;
    const u32 first = (gridDim.x - 1 - blockIdx.x) * ROWS, part = threadIdx.x / 32 * WARP_ROWS, row = first + part;
    const u32 lane_query = row + threadIdx.x % 32 / 4, lane_key = 2 * (threadIdx.x % 4);
    const Head head = head_of(p.qkv, blockIdx.z, blockIdx.y, p.heads, p.time);

    load_tile<ROWS>(shared, p.dout + head.plain_offset, head.plain, first, p.time);
    load_tile<ROWS>(shared + OWN, head.q, head.packed, first, p.time);
    cp_async_commit();
    if (IS_EARLY) load_stage(tiles + 2 * TILE, head, 0, p.time);
    Query query[ROW_TILES][2];
    UNROLL
    for (u32 i = 0; i < 2 * ROW_TILES; i++) query[i / 2][i % 2] = query_at(p, head.line, lane_query + 8 * i);
    cp_async_wait<IS_EARLY>();
    __syncthreads();
    const Own<(RESIDENT > 0)> dout(shared + part * HEAD_DIM);
    const Own<(RESIDENT > 1)> queries(shared + OWN + part * HEAD_DIM);
    if (!IS_EARLY) {
        __syncthreads();
        load_stage(tiles, head, 0, p.time);
    }
    u32 stage = IS_EARLY;

    Accumulator dq;
    clear(dq);
    const Keep keep = keep_of(p.dropout);
    const float scale_log2 = p.scale * LOG2_E;
    const u32 seen = first + ROWS < p.time ? first + ROWS : p.time;
    for (u32 tile = 0; tile < seen; tile += COLUMNS, stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads();
        const act_t* k_tile = tiles + stage * 2 * TILE;
        if (tile + COLUMNS < seen) load_stage(tiles + (1 - stage) * 2 * TILE, head, tile + COLUMNS, p.time);
        for (u32 step = 0; step < COLUMNS; step += 16) {
            const u32 key = tile + step;
            if (key > row + WARP_ROWS - 1 || row >= p.time) break;
            const act_t* k_strip = k_tile + step * HEAD_DIM;
            Block scores[ROW_TILES], dp[ROW_TILES];
            multiply_own(scores, queries, k_strip);
            multiply_own(dp, dout, k_strip + TILE);
            const bool diagonal = key + 15 > row;
            UNROLL
            for (u32 i = 0; i < ROW_TILES; i++) {
                UNROLL
                for (u32 e = 0; e < 8; e++) {
                    const u32 half = e % 4 / 2, column = key + 8 * (e / 4) + lane_key + e % 2;
                    float& score = scores[i][e / 4][e % 4];
                    score = exp2_approx(fmaf(score, scale_log2, -query[i][half].lse_log2));
                    if (diagonal && column > lane_query + 16 * i + 8 * half) score = 0.0f;
                    gradient(score, dp[i][e / 4][e % 4], query[i][half], column, keep);
                }
            }
            FragmentA weights[ROW_TILES];
            as_operands(weights, dp);
            multiply_weights(dq, weights, k_strip);
        }
    }
    __syncthreads();
    float factor[ROW_TILES][2];
    fill(factor, p.scale);
    store_rows(dq, factor, shared + part * HEAD_DIM, p.dqkv + head.packed_offset, head.packed, row, p.time);
}
