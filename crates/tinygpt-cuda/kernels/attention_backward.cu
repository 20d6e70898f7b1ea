#include "device.cuh"
#include "dropout.cuh"
#include "attention_args.cuh"
#include "attention.cuh"
// The backward pass of causal attention on tensor cores, in two kernels without atomics.
//
// With P the probabilities, recomputed from the log-sum-exps, M the dropout mask times its scale and delta
// from attention_delta.cu: dV = (P∘M)T dO, dP = (dO VT)∘M, dS = P∘(dP - delta), dQ = dS K / sqrt(D),
// dK = dST Q / sqrt(D). Oracle: crates/tinygpt-kernels/src/attention/backward.rs. Algorithm: FlashAttention
// (Dao et al. 2022, appendix B), computed twice: attention_backward_keys owns keys and walks along the
// queries (4 products), attention_backward_queries owns queries and walks along the keys (3 products). The two
// products more than in one kernel pay for having no sum in f32 in global memory, and for a fixed order of
// all sums: the same bits in every run.
//
// Traffic. Reads q, k, v and dout twice, writes dqkv once: 11 elements per element of out.
//
// Why fast. What a block owns lies in registers as the left operand of all products, scores transposed
// where keys are owned, so P and dS become operands without leaving the registers. Unlike the forward
// pass nothing depends on a whole row: 16 columns at a time are taken through all products, which leaves
// the registers to the sums. The next tiles are copied by cp.async meanwhile. Steps of 16 columns above
// the diagonal are skipped.
//
// Defines besides those of attention.cuh: RESIDENT, 1 if the left operands stay in shared memory
// because the registers cannot hold them.

constexpr u32 OWN = ROWS * HEAD_DIM;
static_assert(RESIDENT || ROWS <= 2 * COLUMNS, "the block's rows pass through the tiles' memory");

// The left operands of a warp's rows.
struct Own {
#if RESIDENT
    const act_t* rows;
    DEVICE FragmentA at(u32 i, u32 step) const {
        return load_a(rows + i * 16 * HEAD_DIM, lane_row_a(), step);
    }
#else
    FragmentA fragment[ROW_TILES][STEPS];
    DEVICE const FragmentA& at(u32 i, u32 step) const {
        return fragment[i][step];
    }
#endif
};

DEVICE void read_own(Own& own, const act_t* rows) {
#if RESIDENT
    own.rows = rows;
#else
    UNROLL
    for (u32 i = 0; i < ROW_TILES; i++) {
        UNROLL
        for (u32 step = 0; step < STEPS; step++) own.fragment[i][step] = load_a(rows + i * 16 * HEAD_DIM, lane_row_a(), step);
    }
#endif
}

// A query's part of its scores' gradients.
struct Query {
    // Log-sum-exp in base 2.
    float lse_log2;
    float delta;
    // Of the dropout mask's row.
    u32 low, high;
};

// Rows from T on have an infinite log-sum-exp, so that their probabilities are 0.
DEVICE Query query_of(const AttentionBackward& p, u64 line, u32 row) {
    if (row >= p.time) return Query{-minus_infinity(), 0.0f, 0, 0};
    const DropoutRow mask = dropout_row(p.dropout, line + row);
    return Query{p.lse[line + row] * LOG2_E, p.delta[line + row], mask.low, mask.high};
}

// One 16 by 16 block: own rows by columns of the tile, or two 16 by 8 blocks as the products leave them.
typedef float Block[2][4];

// sums[j] += own · (16 rows of a tile)T, all ROW_TILES strips.
DEVICE void multiply_own(Block (&sums)[ROW_TILES], const Own& own, const act_t* strip) {
    UNROLL
    for (u32 i = 0; i < ROW_TILES; i++) {
        UNROLL
        for (u32 e = 0; e < 8; e++) sums[i][e / 4][e % 4] = 0.0f;
    }
    UNROLL
    for (u32 step = 0; step < STEPS; step++) {
        FragmentB b[2];
        load_b(b, strip, lane_row_b(), step);
        UNROLL
        for (u32 i = 0; i < ROW_TILES; i++) {
            const FragmentA a = own.at(i, step);
            multiply(sums[i][0], a, b[0]);
            multiply(sums[i][1], a, b[1]);
        }
    }
}

// sums += weights · (16 rows of a tile).
DEVICE void multiply_weights(Accumulator& sums, const FragmentA (&weights)[ROW_TILES], const act_t* strip) {
    UNROLL
    for (u32 step = 0; step < STEPS; step++) {
        FragmentB b[2];
        load_b_transposed(b, strip, lane_row_a(), step);
        UNROLL
        for (u32 i = 0; i < ROW_TILES; i++) {
            multiply(sums[i][2 * step], weights[i], b[0]);
            multiply(sums[i][2 * step + 1], weights[i], b[1]);
        }
    }
}

// From a score and its dO·v: the dropped probability and the score's gradient but for the factor 1/sqrt(D).
DEVICE void gradient(float& score, float& dp, const Query& query, u32 key, Keep keep) {
    const float p = score;
    if (keep.limit == 0) {
        dp = p * (dp - query.delta);
        return;
    }
    const bool kept = dropout_keeps(DropoutRow{query.low, query.high, keep.limit, keep.scale}, key);
    score = kept ? p : 0.0f;
    dp = p * (kept ? fmaf(dp, keep.scale, -query.delta) : -query.delta);
}

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

DEVICE void as_operands(FragmentA (&a)[ROW_TILES], const Block (&blocks)[ROW_TILES]) {
    UNROLL
    for (u32 i = 0; i < ROW_TILES; i++) a[i] = as_operand(blocks[i]);
}

DEVICE void fill(float (&factor)[ROW_TILES][2], float value) {
    UNROLL
    for (u32 i = 0; i < 2 * ROW_TILES; i++) factor[i / 2][i % 2] = value;
}

// Grid: (blocks of keys, H, B). Dynamic shared memory: OWN · 2 if RESIDENT, 4 tiles, 2 · COLUMNS queries.
KERNEL(attention_backward_keys, AttentionBackward, THREADS, MIN_BLOCKS) {
    DYNAMIC_SHARED(act_t, shared);
    act_t* const tiles = shared + RESIDENT * 2 * OWN;
    Query* const queries = reinterpret_cast<Query*>(tiles + 4 * TILE);
    const u32 first = blockIdx.x * ROWS, part = threadIdx.x / 32 * WARP_ROWS, key = first + part;
    const Head head = head_of(p.qkv, blockIdx.z, blockIdx.y, p.heads, p.time);
    const act_t* dout = p.dout + head.plain_offset;

    load_tile<ROWS>(shared, head.k, head.packed, first, p.time);
    load_tile<ROWS>(shared + OWN, head.v, head.packed, first, p.time);
    cp_async_commit();
    if (!RESIDENT) {
        cp_async_wait<0>();
        __syncthreads();
    }
    Own own_keys, own_values;
    read_own(own_keys, shared + part * HEAD_DIM);
    read_own(own_values, shared + OWN + part * HEAD_DIM);
    if (!RESIDENT) __syncthreads();

    Accumulator dk, dv;
    clear(dk);
    clear(dv);
    const Keep keep = keep_of(p.dropout);
    const float scale_log2 = p.scale * LOG2_E;
    const u32 start = first - first % COLUMNS;
    act_t* stage = tiles;
    load_tile<COLUMNS>(stage, head.q, head.packed, start, p.time);
    load_tile<COLUMNS>(stage + TILE, dout, head.plain, start, p.time);
    cp_async_commit();
    if (threadIdx.x < COLUMNS) queries[threadIdx.x] = query_of(p, head.line, start + threadIdx.x);
    for (u32 tile = start; tile < p.time; tile += COLUMNS) {
        cp_async_wait<0>();
        __syncthreads();
        const u32 odd = (tile - start) / COLUMNS % 2;
        stage = tiles + odd * 2 * TILE;
        const bool more = tile + COLUMNS < p.time;
        Query next;
        if (more) {
            act_t* other = tiles + (1 - odd) * 2 * TILE;
            load_tile<COLUMNS>(other, head.q, head.packed, tile + COLUMNS, p.time);
            load_tile<COLUMNS>(other + TILE, dout, head.plain, tile + COLUMNS, p.time);
            cp_async_commit();
            // Stored below, when the loads have come.
            if (threadIdx.x < COLUMNS) next = query_of(p, head.line, tile + COLUMNS + threadIdx.x);
        }
        // All warps take all steps: uneven ones would wait at the barrier anyway.
        for (u32 step = 0; step < COLUMNS; step += 16) {
            const u32 query = tile + step;
            if (query + 15 < key || query >= p.time) continue;
            Block scores[ROW_TILES], dp[ROW_TILES];
            multiply_own(scores, own_keys, stage + step * HEAD_DIM);
            multiply_own(dp, own_values, stage + TILE + step * HEAD_DIM);
            key_gradients(scores, dp, queries + odd * COLUMNS + step, query, key, scale_log2, keep);
            FragmentA weights[ROW_TILES];
            as_operands(weights, scores);
            multiply_weights(dv, weights, stage + TILE + step * HEAD_DIM);
            as_operands(weights, dp);
            multiply_weights(dk, weights, stage + step * HEAD_DIM);
        }
        if (more && threadIdx.x < COLUMNS) queries[(1 - odd) * COLUMNS + threadIdx.x] = next;
    }
    __syncthreads();
    float factor[ROW_TILES][2];
    act_t* to = p.dqkv + head.packed_offset;
    fill(factor, p.scale);
    store_rows(dk, factor, shared + part * HEAD_DIM, to + head.plain, head.packed, key, p.time);
    fill(factor, keep.scale);
    store_rows(dv, factor, shared + OWN + part * HEAD_DIM, to + 2 * head.plain, head.packed, key, p.time);
}

// Grid: (blocks of queries, H, B). Dynamic shared memory: OWN · 2 if RESIDENT, 4 tiles.
KERNEL(attention_backward_queries, AttentionBackward, THREADS, MIN_BLOCKS) {
    DYNAMIC_SHARED(act_t, shared);
    act_t* const tiles = shared + RESIDENT * 2 * OWN;
    const u32 first = (gridDim.x - 1 - blockIdx.x) * ROWS, part = threadIdx.x / 32 * WARP_ROWS, row = first + part;
    const u32 lane_query = row + threadIdx.x % 32 / 4, lane_key = 2 * (threadIdx.x % 4);
    const Head head = head_of(p.qkv, blockIdx.z, blockIdx.y, p.heads, p.time);

    load_tile<ROWS>(shared, head.q, head.packed, first, p.time);
    load_tile<ROWS>(shared + OWN, p.dout + head.plain_offset, head.plain, first, p.time);
    cp_async_commit();
    Query query[ROW_TILES][2];
    UNROLL
    for (u32 i = 0; i < 2 * ROW_TILES; i++) query[i / 2][i % 2] = query_of(p, head.line, lane_query + 8 * i);
    if (!RESIDENT) {
        cp_async_wait<0>();
        __syncthreads();
    }
    Own own_queries, own_dout;
    read_own(own_queries, shared + part * HEAD_DIM);
    read_own(own_dout, shared + OWN + part * HEAD_DIM);
    if (!RESIDENT) __syncthreads();

    Accumulator dq;
    clear(dq);
    const Keep keep = keep_of(p.dropout);
    const float scale_log2 = p.scale * LOG2_E;
    const u32 seen = first + ROWS < p.time ? first + ROWS : p.time;
    load_tile<COLUMNS>(tiles, head.k, head.packed, 0, p.time);
    load_tile<COLUMNS>(tiles + TILE, head.v, head.packed, 0, p.time);
    cp_async_commit();
    for (u32 tile = 0; tile < seen; tile += COLUMNS) {
        cp_async_wait<0>();
        __syncthreads();
        const u32 odd = tile / COLUMNS % 2;
        const act_t* stage = tiles + odd * 2 * TILE;
        if (tile + COLUMNS < seen) {
            act_t* other = tiles + (1 - odd) * 2 * TILE;
            load_tile<COLUMNS>(other, head.k, head.packed, tile + COLUMNS, p.time);
            load_tile<COLUMNS>(other + TILE, head.v, head.packed, tile + COLUMNS, p.time);
            cp_async_commit();
        }
        for (u32 step = 0; step < COLUMNS; step += 16) {
            const u32 key = tile + step;
            if (key > row + WARP_ROWS - 1 || row >= p.time) break;
            Block scores[ROW_TILES], dp[ROW_TILES];
            multiply_own(scores, own_queries, stage + step * HEAD_DIM);
            multiply_own(dp, own_dout, stage + TILE + step * HEAD_DIM);
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
            multiply_weights(dq, weights, stage + step * HEAD_DIM);
        }
    }
    __syncthreads();
    float factor[ROW_TILES][2];
    fill(factor, p.scale);
    store_rows(dq, factor, shared + part * HEAD_DIM, p.dqkv + head.packed_offset, head.packed, row, p.time);
}
