#include "device.cuh"
#include "dropout.cuh"
#include "attention_args.cuh"
#include "attention.cuh"
#include "attention_backward.cuh"
// The gradient of queries. A block owns ROWS queries of one head and walks along the keys up to its diagonal.
//
// Traffic. Reads q and dout once, k and v once per block of queries (from the L2 cache), 8 bytes per row;
// writes 1 element per element of out.

// From scores and dO·v to gradients of the scores but for the factor 1/sqrt(D). `lane_row` is the
// lane's first query.
template <bool DIAGONAL, bool DROPS>
DEVICE void query_gradients(Block (&scores)[ROW_TILES], Block (&dp)[ROW_TILES], const Query (&queries)[ROW_TILES][2],
                            u32 lane_row, u32 key, float scale_log2, Keep keep, const u32* starts, u32 time) {
    const u32 column = key + 2 * (threadIdx.x % 4);
    UNROLL
    for (u32 n = 0; n < 8 * ROW_TILES; n++) {
        float& score = scores[n / 8][n / 4 % 2][n % 4];
        score = exp2_approx(fmaf(score, scale_log2, -queries[n / 8][n % 4 / 2].lse_log2));
    }
    if (DIAGONAL) {
        UNROLL
        for (u32 n = 0; n < 8 * ROW_TILES; n++) {
            const u32 row = lane_row + 16 * (n / 8) + 8 * (n % 4 / 2);
            const u32 own_key = column + 8 * (n / 4 % 2) + n % 2;
            if (own_key > row || own_key < start_of(starts, row, time)) scores[n / 8][n / 4 % 2][n % 4] = 0.0f;
        }
    }
    if (!DROPS) {
        UNROLL
        for (u32 n = 0; n < 8 * ROW_TILES; n++) {
            float& gradient = dp[n / 8][n / 4 % 2][n % 4];
            gradient = scores[n / 8][n / 4 % 2][n % 4] * (gradient - queries[n / 8][n % 4 / 2].delta);
        }
    } else {
        UNROLL
        for (u32 n = 0; n < 8 * ROW_TILES; n++) {
            const Query& q = queries[n / 8][n % 4 / 2];
            drop(scores[n / 8][n / 4 % 2][n % 4], dp[n / 8][n / 4 % 2][n % 4], q, column + 8 * (n / 4 % 2) + n % 2, keep);
        }
    }
}

// The queries' share of 16 keys. Without branches inside, the compiler interleaves the products with the rest.
template <bool DIAGONAL, bool DROPS>
DEVICE void one_step(Accumulator& dq, const Own<(RESIDENT > 1)>& queries, const Own<(RESIDENT > 0)>& dout, const act_t* k_strip,
                     const Query (&query)[ROW_TILES][2], u32 lane_row, u32 key, float scale_log2, Keep keep,
                     const u32* starts, u32 time) {
    Block scores[ROW_TILES], dp[ROW_TILES];
    multiply_own(scores, queries, k_strip);
    multiply_own(dp, dout, k_strip + TILE);
    query_gradients<DIAGONAL, DROPS>(scores, dp, query, lane_row, key, scale_log2, keep, starts, time);
    FragmentA weights[ROW_TILES];
    as_operands(weights, dp);
    multiply_weights(dq, weights, k_strip);
}

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
    const u32 first = (gridDim.x - 1 - blockIdx.x) * ROWS, part = warp_index() * WARP_ROWS, row = first + part;
    const u32 lane_query = row + threadIdx.x % 32 / 4;
    const Head head = head_of(p.qkv, blockIdx.z, blockIdx.y, p.heads, p.time);
    const u32* starts = of_sequence(p.documents.starts, blockIdx.z, p.time);
    const u32 first_key = start_of(starts, first, p.time) / COLUMNS * COLUMNS;

    load_tile<ROWS>(shared, p.dout + head.plain_offset, head.plain, first, p.time);
    load_tile<ROWS>(shared + OWN, head.q, head.packed, first, p.time);
    cp_async_commit();
    if (IS_EARLY) load_stage(tiles + 2 * TILE, head, first_key, p.time);
    Query query[ROW_TILES][2];
    UNROLL
    for (u32 i = 0; i < 2 * ROW_TILES; i++) query[i / 2][i % 2] = query_at(p, head.line, lane_query + 8 * i);
    cp_async_wait<IS_EARLY>();
    __syncthreads();
    const Own<(RESIDENT > 0)> dout(shared + part * HEAD_DIM);
    const Own<(RESIDENT > 1)> queries(shared + OWN + part * HEAD_DIM);
    if (!IS_EARLY) {
        __syncthreads();
        load_stage(tiles, head, first_key, p.time);
    }
    u32 stage = IS_EARLY;

    Accumulator dq;
    clear(dq);
    const Keep keep = keep_of(p.dropout);
    const float scale_log2 = p.scale * LOG2_E;
    const u32 seen = first + ROWS < p.time ? first + ROWS : p.time;
    for (u32 tile = first_key; tile < seen; tile += COLUMNS, stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads();
        const act_t* k_tile = tiles + stage * 2 * TILE;
        if (tile + COLUMNS < seen) load_stage(tiles + (1 - stage) * 2 * TILE, head, tile + COLUMNS, p.time);
        for (u32 step = 0; step < COLUMNS; step += 16) {
            const u32 key = tile + step;
            if (key > row + WARP_ROWS - 1 || row >= p.time) break;
            const act_t* k_strip = k_tile + step * HEAD_DIM;
            if (key + 15 < start_of(starts, row, p.time)) continue;
            if (key + 15 <= row && key >= start_of(starts, row + WARP_ROWS - 1, p.time)) {
                if (keep.limit == 0) one_step<false, false>(dq, queries, dout, k_strip, query, lane_query, key, scale_log2, keep, starts, p.time);
                else one_step<false, true>(dq, queries, dout, k_strip, query, lane_query, key, scale_log2, keep, starts, p.time);
            } else {
                if (keep.limit == 0) one_step<true, false>(dq, queries, dout, k_strip, query, lane_query, key, scale_log2, keep, starts, p.time);
                else one_step<true, true>(dq, queries, dout, k_strip, query, lane_query, key, scale_log2, keep, starts, p.time);
            }
        }
    }
    __syncthreads();
    float factor[ROW_TILES][2];
    fill(factor, p.scale);
    store_rows(dq, factor, shared + part * HEAD_DIM, p.dqkv + head.packed_offset, head.packed, row, p.time);
}
