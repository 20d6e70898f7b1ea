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

// From scores and dO·v to dropped probabilities and gradients of the scores but for the factor 1/sqrt(D).
// `queries` are those of the 16 columns.
template <bool DIAGONAL, bool DROPS>
DEVICE void key_gradients(Block (&scores)[ROW_TILES], Block (&dp)[ROW_TILES], const Query* queries, u32 query, u32 key,
                          float scale_log2, Keep keep, const u32* ends, u32 time) {
    const u32 column = 2 * (threadIdx.x % 4), row = threadIdx.x % 32 / 4;
    Query own[2][2];
    UNROLL
    for (u32 n = 0; n < 4; n++) {
        const u32x4 words = load16(queries + 8 * (n / 2) + column + n % 2);
        own[n / 2][n % 2] = Query{float_of_bits(words.x), float_of_bits(words.y), words.z, words.w};
    }
    UNROLL
    for (u32 n = 0; n < 8 * ROW_TILES; n++) {
        float& score = scores[n / 8][n / 4 % 2][n % 4];
        score = exp2_approx(fmaf(score, scale_log2, -own[n / 4 % 2][n % 2].lse_log2));
    }
    if (DIAGONAL) {
        UNROLL
        for (u32 n = 0; n < 8 * ROW_TILES; n++) {
            const u32 own_key = key + 16 * (n / 8) + 8 * (n % 4 / 2) + row;
            const u32 own_query = query + 8 * (n / 4 % 2) + column + n % 2;
            if (own_key > own_query || own_query >= end_of(ends, own_key, time)) scores[n / 8][n / 4 % 2][n % 4] = 0.0f;
        }
    }
    if (!DROPS) {
        UNROLL
        for (u32 n = 0; n < 8 * ROW_TILES; n++) {
            float& gradient = dp[n / 8][n / 4 % 2][n % 4];
            gradient = scores[n / 8][n / 4 % 2][n % 4] * (gradient - own[n / 4 % 2][n % 2].delta);
        }
    } else {
        UNROLL
        for (u32 n = 0; n < 8 * ROW_TILES; n++) {
            const Query& q = own[n / 4 % 2][n % 2];
            drop(scores[n / 8][n / 4 % 2][n % 4], dp[n / 8][n / 4 % 2][n % 4], q, key + 16 * (n / 8) + 8 * (n % 4 / 2) + row, keep);
        }
    }
}

// The keys' share of 16 queries. Without branches inside, the compiler interleaves the products with the rest.
template <bool DIAGONAL, bool DROPS>
DEVICE void one_step(Accumulator& dk, Accumulator& dv, const Own<(RESIDENT > 1)>& keys, const Own<(RESIDENT > 0)>& values,
                     const act_t* q_strip, const Query* queries, u32 query, u32 key, float scale_log2, Keep keep, const u32* ends,
                     u32 time) {
    const act_t* dout_strip = q_strip + TILE;
    Block scores[ROW_TILES], dp[ROW_TILES];
    multiply_own(scores, keys, q_strip);
    multiply_own(dp, values, dout_strip);
    key_gradients<DIAGONAL, DROPS>(scores, dp, queries, query, key, scale_log2, keep, ends, time);
    FragmentA weights[ROW_TILES];
    as_operands(weights, scores);
    multiply_weights(dv, weights, dout_strip);
    as_operands(weights, dp);
    multiply_weights(dk, weights, q_strip);
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
    const u32 first = blockIdx.x * ROWS, part = warp_index() * WARP_ROWS, key = first + part;
    const Head head = head_of(p.qkv, blockIdx.z, blockIdx.y, p.heads, p.time);
    const act_t* dout = p.dout + head.plain_offset;

    // Values first: with one resident operand they stay, and the keys lie where the tiles come.
    load_tile<ROWS>(shared, head.v, head.packed, first, p.time);
    load_tile<ROWS>(shared + OWN, head.k, head.packed, first, p.time);
    cp_async_commit();
    const u32* ends = of_sequence(p.documents.ends, blockIdx.z, p.time);
    // Queries from here on see none of the block's keys.
    const u32 seen_by = end_of(ends, first + ROWS - 1, p.time);
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
    for (u32 tile = start; tile < seen_by; tile += COLUMNS, stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads();
        const act_t* q_tile = tiles + stage * 2 * TILE;
        const bool more = tile + COLUMNS < seen_by;
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
            if (query + 15 < key || query >= seen_by) continue;
            const act_t* strip = q_tile + step * HEAD_DIM;
            const Query* columns = queries + stage * COLUMNS + step;
            if (query >= key + WARP_ROWS - 1 && query + 15 < end_of(ends, key, p.time)) {
                if (keep.limit == 0) one_step<false, false>(dk, dv, keys, values, strip, columns, query, key, scale_log2, keep, ends, p.time);
                else one_step<false, true>(dk, dv, keys, values, strip, columns, query, key, scale_log2, keep, ends, p.time);
            } else {
                if (keep.limit == 0) one_step<true, false>(dk, dv, keys, values, strip, columns, query, key, scale_log2, keep, ends, p.time);
                else one_step<true, true>(dk, dv, keys, values, strip, columns, query, key, scale_log2, keep, ends, p.time);
            }
        }
        if (more && threadIdx.x < COLUMNS) {
            const u32 row = tile + COLUMNS + threadIdx.x;
            queries[(1 - stage) * COLUMNS + threadIdx.x] = query_of(p, head.line, row, next_lse, next_delta);
        }
    }
    __syncthreads();
    // Computed again: registers less while the loop runs.
    const u32 end_part = warp_index() * WARP_ROWS, end_key = first + end_part;
    float factor[ROW_TILES][2];
    act_t* to = p.dqkv + head.packed_offset;
    fill(factor, p.scale);
    store_rows(dk, factor, shared + end_part * HEAD_DIM, to + head.plain, head.packed, end_key, p.time);
    fill(factor, keep_of(p.dropout).scale);
    store_rows(dv, factor, shared + OWN + end_part * HEAD_DIM, to + 2 * head.plain, head.packed, end_key, p.time);
}
