#include "device.cuh"
#include "dropout.cuh"
#include "attention_args.cuh"
#include "attention.cuh"
#include "attention_backward.cuh"
// The gradients of keys and values. A block owns ROWS keys of one head, transposes the scores, and walks along
// the queries from its diagonal on.
//
// Traffic. Reads k and v once, q and dout once per block of keys (from the L2 cache), 8 bytes per row;
// writes 2 elements per element of out.

// The rows 16·i + 8·half + lane / 4 of a warp's part of the keys, and two columns of queries.
DEVICE void key_gradients(Block (&scores)[ROW_TILES], Block (&dp)[ROW_TILES], const Query* queries, u32 query, u32 key,
                          float scale_log2, Keep keep) {
    const u32 column = 2 * (threadIdx.x % 4), row = threadIdx.x % 32 / 4;
    const bool diagonal = query < key + WARP_ROWS - 1;
    UNROLL
    for (u32 j = 0; j < 2; j++) {
        UNROLL
        for (u32 parity = 0; parity < 2; parity++) {
            const u32 at = 8 * j + column + parity;
            const u32x4 words = load16(queries + at);
            const Query q{float_of_bits(words.x), float_of_bits(words.y), words.z, words.w};
            UNROLL
            for (u32 i = 0; i < ROW_TILES; i++) {
                UNROLL
                for (u32 half = 0; half < 2; half++) {
                    const u32 own_key = key + 16 * i + 8 * half + row;
                    float& score = scores[i][j][2 * half + parity];
                    score = exp2_approx(fmaf(score, scale_log2, -q.lse_log2));
                    if (diagonal && own_key > query + at) score = 0.0f;
                    gradient(score, dp[i][j][2 * half + parity], q, own_key, keep);
                }
            }
        }
    }
}

// Starts the copy of the queries and gradients from `first` on.
DEVICE void load_stage(act_t* tiles, const Head& head, const act_t* dout, u32 first, u32 limit) {
    load_tile<COLUMNS>(tiles, head.q, head.packed, first, limit);
    load_tile<COLUMNS>(tiles + TILE, dout, head.plain, first, limit);
    cp_async_commit();
}

// Grid: (blocks of keys, H, B). Dynamic shared memory: the resident operands, 4 tiles, 2 · COLUMNS queries.
KERNEL(attention_backward_keys, AttentionBackward, THREADS, MIN_BLOCKS) {
    DYNAMIC_SHARED(act_t, shared);
    act_t* const tiles = shared + RESIDENT * OWN;
    Query* const queries = reinterpret_cast<Query*>(tiles + 4 * TILE);
    const u32 first = blockIdx.x * ROWS, part = threadIdx.x / 32 * WARP_ROWS, key = first + part;
    const Head head = head_of(p.qkv, blockIdx.z, blockIdx.y, p.heads, p.time);
    const act_t* dout = p.dout + head.plain_offset;

    // Values first: with one resident operand they stay, and the keys lie where the tiles come.
    load_tile<ROWS>(shared, head.v, head.packed, first, p.time);
    load_tile<ROWS>(shared + OWN, head.k, head.packed, first, p.time);
    cp_async_commit();
    const u32 start = first - first % COLUMNS;
    if (IS_EARLY) load_stage(tiles + 2 * TILE, head, dout, start, p.time);
    cp_async_wait<IS_EARLY>();
    __syncthreads();
    const Own<(RESIDENT > 0)> values(shared + part * HEAD_DIM);
    const Own<(RESIDENT > 1)> keys(shared + OWN + part * HEAD_DIM);
    if (!IS_EARLY) {
        __syncthreads();
        load_stage(tiles, head, dout, start, p.time);
    }
    u32 stage = IS_EARLY;
    if (threadIdx.x < COLUMNS) queries[stage * COLUMNS + threadIdx.x] = query_at(p, head.line, start + threadIdx.x);

    Accumulator dk, dv;
    clear(dk);
    clear(dv);
    const Keep keep = keep_of(p.dropout);
    const float scale_log2 = p.scale * LOG2_E;
    for (u32 tile = start; tile < p.time; tile += COLUMNS, stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads();
        const act_t* q_tile = tiles + stage * 2 * TILE;
        const bool more = tile + COLUMNS < p.time;
        float next_lse = 0.0f, next_delta = 0.0f;
        if (more) {
            load_stage(tiles + (1 - stage) * 2 * TILE, head, dout, tile + COLUMNS, p.time);
            // Used below, when the loads have arrived.
            const u32 row = tile + COLUMNS + threadIdx.x;
            if (threadIdx.x < COLUMNS && row < p.time) {
                next_lse = p.lse[head.line + row];
                next_delta = p.delta[head.line + row];
            }
        }
        for (u32 step = 0; step < COLUMNS; step += 16) {
            const u32 query = tile + step;
            if (query + 15 < key || query >= p.time) continue;
            const act_t *q_strip = q_tile + step * HEAD_DIM, *dout_strip = q_strip + TILE;
            Block scores[ROW_TILES], dp[ROW_TILES];
            multiply_own(scores, keys, q_strip);
            multiply_own(dp, values, dout_strip);
            key_gradients(scores, dp, queries + stage * COLUMNS + step, query, key, scale_log2, keep);
            FragmentA weights[ROW_TILES];
            as_operands(weights, scores);
            multiply_weights(dv, weights, dout_strip);
            as_operands(weights, dp);
            multiply_weights(dk, weights, q_strip);
        }
        if (more && threadIdx.x < COLUMNS) {
            const u32 row = tile + COLUMNS + threadIdx.x;
            queries[(1 - stage) * COLUMNS + threadIdx.x] = query_of(p, head.line, row, next_lse, next_delta);
        }
    }
    __syncthreads();
    float factor[ROW_TILES][2];
    act_t* to = p.dqkv + head.packed_offset;
    fill(factor, p.scale);
    store_rows(dk, factor, shared + part * HEAD_DIM, to + head.plain, head.packed, key, p.time);
    fill(factor, keep.scale);
    store_rows(dv, factor, shared + OWN + part * HEAD_DIM, to + 2 * head.plain, head.packed, key, p.time);
}
