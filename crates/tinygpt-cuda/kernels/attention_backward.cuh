// What the two kernels of the backward pass on tensor cores share.
//
// With P the probabilities, recomputed from the log-sum-exps, M the dropout mask times its scale and delta
// from attention_delta.cu: dV = (P∘M)T dO, dP = (dO VT)∘M, dS = P∘(dP - delta), dQ = dS K / sqrt(D),
// dK = dST Q / sqrt(D). Oracle: crates/tinygpt-kernels/src/attention/backward.rs. Algorithm: FlashAttention
// (Dao et al. 2022, appendix B), computed twice: attention_backward_keys.cu owns keys and walks along the
// queries (4 products), attention_backward_queries.cu owns queries and walks along the keys (3 products). The
// two products more than in one kernel pay for having no sum in f32 in global memory, no atomics, and a
// fixed order of all sums: the same bits in every run.
//
// Why fast. What a block owns is the left operand of all products, scores transposed where keys are owned,
// so P and dS become operands without leaving the registers. Unlike the forward pass nothing depends on a
// whole row: 16 columns at a time are taken through all products, which leaves the registers to the
// sums. The next tiles are copied by cp.async meanwhile. Steps of 16 columns above the diagonal are skipped.
//
// Defines in addition to those of attention.cuh: RESIDENT, how many of the two left operands (the second one first)
// stay in shared memory because the registers cannot hold them.
//
// Dynamic shared memory: the resident operands, then two stages of two tiles, then what the kernel adds.
#ifndef TINYGPT_ATTENTION_BACKWARD_CUH
#define TINYGPT_ATTENTION_BACKWARD_CUH

// Elements of one of the two operands that a block owns.
constexpr u32 OWN = ROWS * HEAD_DIM;
// Those that go to registers pass through the tiles' memory.
static_assert((2 - RESIDENT) * ROWS <= 4 * COLUMNS, "what a block owns passes through the tiles' memory");
// If they need only the first stage, the first tiles are copied to the second one at the same time.
constexpr bool IS_EARLY = (2 - RESIDENT) * ROWS <= 2 * COLUMNS;

// A left operand of all of a warp's rows, in registers or left in shared memory.
template <bool IS_RESIDENT>
struct Own;

template <>
struct Own<false> {
    FragmentA fragment[ROW_TILES][STEPS];
    DEVICE Own(const act_t* rows) {
        UNROLL
        for (u32 i = 0; i < ROW_TILES; i++) {
            UNROLL
            for (u32 step = 0; step < STEPS; step++) fragment[i][step] = load_a(rows + i * 16 * HEAD_DIM, lane_row_a(), step);
        }
    }
    DEVICE const FragmentA& at(u32 i, u32 step) const {
        return fragment[i][step];
    }
};

template <>
struct Own<true> {
    const act_t* rows;
    DEVICE Own(const act_t* rows) : rows(rows) {}
    DEVICE FragmentA at(u32 i, u32 step) const {
        return load_a(rows + i * 16 * HEAD_DIM, lane_row_a(), step);
    }
};

// A query's part of its scores' gradients.
struct Query {
    // Log-sum-exp in base 2.
    float lse_log2;
    float delta;
    // Of the dropout mask's row.
    u32 low, high;
};

// Rows from T on have an infinite log-sum-exp, so that their probabilities are 0.
DEVICE Query query_of(const AttentionBackward& p, u64 line, u32 row, float lse, float delta) {
    if (row >= p.time) return Query{-minus_infinity(), 0.0f, 0, 0};
    const DropoutRow mask = dropout_row(p.dropout, line + row);
    return Query{lse * LOG2_E, delta, mask.low, mask.high};
}

DEVICE Query query_at(const AttentionBackward& p, u64 line, u32 row) {
    const bool valid = row < p.time;
    return query_of(p, line, row, valid ? p.lse[line + row] : 0.0f, valid ? p.delta[line + row] : 0.0f);
}

// One 16 by 16 block: own rows by columns of the tile, or two 16 by 8 blocks as the products leave them.
typedef float Block[2][4];

// sums[j] += own · (16 rows of a tile)T, all ROW_TILES strips.
template <bool IS_RESIDENT>
DEVICE void multiply_own(Block (&sums)[ROW_TILES], const Own<IS_RESIDENT>& own, const act_t* strip) {
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

// From a probability and its dO·v: the dropped probability and the score's gradient.
DEVICE void drop(float& p, float& dp, const Query& query, u32 key, Keep keep) {
    const bool kept = dropout_keeps(DropoutRow{query.low, query.high, keep.limit, keep.scale}, key);
    dp = p * (kept ? fmaf(dp, keep.scale, -query.delta) : -query.delta);
    p = kept ? p : 0.0f;
}

DEVICE void as_operands(FragmentA (&a)[ROW_TILES], const Block (&blocks)[ROW_TILES]) {
    UNROLL
    for (u32 i = 0; i < ROW_TILES; i++) a[i] = as_operand(blocks[i]);
}

DEVICE void fill(float (&factor)[ROW_TILES][2], float value) {
    UNROLL
    for (u32 i = 0; i < 2 * ROW_TILES; i++) factor[i / 2][i % 2] = value;
}

#endif
