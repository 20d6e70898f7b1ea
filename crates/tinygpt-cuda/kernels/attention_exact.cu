#include "device.cuh"
#include "dropout.cuh"
#include "attention_args.cuh"
// Causal attention in exact f32, forward and backward, for runs that are compared with the CPU's.
//
// Oracle: crates/tinygpt-kernels/src/attention/. The formulas are those of attention_forward.cu and
// attention_backward.cu; products here are fused multiply-adds in f32, and exp is not an approximation.
//
// Idea. SPLIT lanes own a row: its vectors and sums are in their registers, at most 32 elements of each in a
// lane. Rows of the other side lie in shared memory, TILE_ROWS at a time, and every lane of the block
// reads the same row at the same time, so that one 16-byte read feeds 4 multiply-adds of 32 lanes.
//
// Traffic. That of the kernels for tensor cores. The multiply-adds bound the time.

constexpr u32 THREADS = 128;
constexpr u32 SPLIT = HEAD_DIM <= 32 ? 1 : HEAD_DIM <= 64 ? 2 : 4;
// Rows that a block owns.
constexpr u32 ROWS = THREADS / SPLIT;
// 16-byte pieces of a row in a lane. Lane l of a row has the pieces l, l + SPLIT, ..: neighbouring lanes
// read neighbouring banks.
constexpr u32 PIECES = HEAD_DIM / 4 / SPLIT;
// Rows of the other side in shared memory.
constexpr u32 TILE_ROWS = 32;
constexpr u32 TILE = TILE_ROWS * HEAD_DIM;
// Scores that are computed before the softmax looks at them.
constexpr u32 GROUP = 8;

static_assert(HEAD_DIM % (4 * SPLIT) == 0, "a row is divided evenly");

// A lane's part of a row.
struct Slice {
    float x[PIECES][4];
};

DEVICE void clear(Slice& slice) {
    UNROLL
    for (u32 i = 0; i < 4 * PIECES; i++) slice.x[i / 4][i % 4] = 0.0f;
}

DEVICE u32 piece_at(u32 i) {
    return 4 * (SPLIT * i + threadIdx.x % SPLIT);
}

DEVICE void read_slice(Slice& slice, const float* row) {
    UNROLL
    for (u32 i = 0; i < PIECES; i++) {
        const u32x4 v = load16(row + piece_at(i));
        slice.x[i][0] = float_of_bits(v.x);
        slice.x[i][1] = float_of_bits(v.y);
        slice.x[i][2] = float_of_bits(v.z);
        slice.x[i][3] = float_of_bits(v.w);
    }
}

// Reads the slice of row `row`, or zeros from `limit` on.
DEVICE void read_row(Slice& slice, const float* head, u32 stride, u32 row, u32 limit) {
    clear(slice);
    if (row < limit) read_slice(slice, head + (u64)row * stride);
}

DEVICE void write_row(const Slice& slice, float factor, float* head, u32 stride, u32 row, u32 limit) {
    if (row >= limit) return;
    UNROLL
    for (u32 i = 0; i < PIECES; i++) {
        const float* x = slice.x[i];
        const u32x4 v{bits_of_float(x[0] * factor), bits_of_float(x[1] * factor), bits_of_float(x[2] * factor),
                      bits_of_float(x[3] * factor)};
        store16(head + (u64)row * stride + piece_at(i), v);
    }
}

// The product with a row in shared memory, in all lanes of the row.
DEVICE float dot(const Slice& a, const float* row) {
    Slice b;
    read_slice(b, row);
    float sum = 0.0f;
    UNROLL
    for (u32 i = 0; i < 4 * PIECES; i++) sum = fmaf(a.x[i / 4][i % 4], b.x[i / 4][i % 4], sum);
    UNROLL
    for (u32 step = SPLIT / 2; step > 0; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
    return sum;
}

// sum += weight · row.
DEVICE void add(Slice& sum, float weight, const float* row) {
    Slice b;
    read_slice(b, row);
    UNROLL
    for (u32 i = 0; i < 4 * PIECES; i++) sum.x[i / 4][i % 4] = fmaf(weight, b.x[i / 4][i % 4], sum.x[i / 4][i % 4]);
}

// Rows first.. of a head into shared memory; zeros from `limit` on.
DEVICE void load_tile(float* tile, const float* head, u32 stride, u32 first, u32 limit) {
    for (u32 i = threadIdx.x; i < TILE / 4; i += THREADS) {
        const u32 row = i / (HEAD_DIM / 4), column = i % (HEAD_DIM / 4) * 4;
        u32x4 v{0, 0, 0, 0};
        if (first + row < limit) v = load16(head + column + (u64)(first + row) * stride);
        store16(tile + row * HEAD_DIM + column, v);
    }
}

DEVICE u32 smaller(u32 a, u32 b) {
    return a < b ? a : b;
}

// Grid: (blocks of queries, H, B). Dynamic shared memory: 2 tiles.
KERNEL(attention_forward, AttentionForward, THREADS, 2) {
    DYNAMIC_SHARED(float, shared);
    const u32 first = (gridDim.x - 1 - blockIdx.x) * ROWS, row = first + threadIdx.x / SPLIT;
    const Head head = head_of(p.qkv, blockIdx.z, blockIdx.y, p.heads, p.time);
    const DropoutRow mask = dropout_row(p.dropout, head.line + row);
    Slice q, out;
    read_row(q, head.q, head.packed, row, p.time);
    clear(out);
    float max = minus_infinity(), sum = 0.0f;
    const u32* starts = of_sequence(p.documents.starts, blockIdx.z, p.time);
    const u32 start = start_of(starts, row, p.time);
    const u32 seen = smaller(first + ROWS, p.time);
    for (u32 tile = start_of(starts, first, p.time) / TILE_ROWS * TILE_ROWS; tile < seen; tile += TILE_ROWS) {
        __syncthreads();
        load_tile(shared, head.k, head.packed, tile, p.time);
        load_tile(shared + TILE, head.v, head.packed, tile, p.time);
        __syncthreads();
        for (u32 group = 0; group < TILE_ROWS && tile + group < seen; group += GROUP) {
            const float* keys = shared + group * HEAD_DIM;
            float scores[GROUP], largest = max;
            UNROLL
            for (u32 i = 0; i < GROUP; i++) {
                scores[i] = dot(q, keys + i * HEAD_DIM);
                if (tile + group + i > row || tile + group + i < start) scores[i] = HIDDEN;
                largest = fmaxf(largest, scores[i]);
            }
            const float rescale = expf((max - largest) * p.scale), shift = -largest * p.scale;
            max = largest;
            sum *= rescale;
            UNROLL
            for (u32 i = 0; i < 4 * PIECES; i++) out.x[i / 4][i % 4] *= rescale;
            UNROLL
            for (u32 i = 0; i < GROUP; i++) {
                const float e = expf(fmaf(scores[i], p.scale, shift));
                sum += e;
                const float factor = mask.keep_limit == 0 ? 1.0f : dropout_factor(mask, tile + group + i);
                add(out, e * factor, keys + TILE + i * HEAD_DIM);
            }
        }
    }
    write_row(out, 1.0f / sum, p.out + head.plain_offset, head.plain, row, p.time);
    if (row < p.time && threadIdx.x % SPLIT == 0) p.lse[head.line + row] = max * p.scale + logf(sum);
}

// What a query gives to the gradients of its scores.
struct Query {
    float lse, delta;
    DropoutRow mask;
};

// Rows from T on have an infinite log-sum-exp, so that their probabilities are 0.
DEVICE Query query_of(const AttentionBackward& p, u64 line, u32 row) {
    if (row >= p.time) return Query{-minus_infinity(), 0.0f, DropoutRow{0, 0, 0, 1.0f}};
    return Query{p.lse[line + row], p.delta[line + row], dropout_row(p.dropout, line + row)};
}

// The dropped probability and the gradient of a score but for the factor 1/sqrt(D).
struct Weights {
    float p, ds;
};

// `is_hidden`: the two are in different documents.
DEVICE Weights weights_of(float score, float dp, const Query& query, u32 row, u32 key, bool is_hidden, float scale) {
    if (key > row || is_hidden) return Weights{0.0f, 0.0f};
    const float p = expf(fmaf(score, scale, -query.lse));
    const float factor = query.mask.keep_limit == 0 ? 1.0f : dropout_factor(query.mask, key);
    return Weights{p * factor, p * (dp * factor - query.delta)};
}

// Grid: (blocks of keys, H, B). Dynamic shared memory: 2 tiles and TILE_ROWS queries.
KERNEL(attention_backward_keys, AttentionBackward, THREADS, 2) {
    DYNAMIC_SHARED(float, shared);
    Query* queries = reinterpret_cast<Query*>(shared + 2 * TILE);
    const u32 first = blockIdx.x * ROWS, key = first + threadIdx.x / SPLIT;
    const Head head = head_of(p.qkv, blockIdx.z, blockIdx.y, p.heads, p.time);
    Slice k, v, dk, dv;
    read_row(k, head.k, head.packed, key, p.time);
    read_row(v, head.v, head.packed, key, p.time);
    clear(dk);
    clear(dv);
    const u32* ends = of_sequence(p.documents.ends, blockIdx.z, p.time);
    const u32 end = end_of(ends, key, p.time), seen_by = end_of(ends, first + ROWS - 1, p.time);
    for (u32 tile = first - first % TILE_ROWS; tile < seen_by; tile += TILE_ROWS) {
        __syncthreads();
        load_tile(shared, head.q, head.packed, tile, p.time);
        load_tile(shared + TILE, p.dout + head.plain_offset, head.plain, tile, p.time);
        if (threadIdx.x < TILE_ROWS) queries[threadIdx.x] = query_of(p, head.line, tile + threadIdx.x);
        __syncthreads();
        for (u32 i = 0; i < TILE_ROWS; i++) {
            const float *q = shared + i * HEAD_DIM, *dout = q + TILE;
            const Weights weights = weights_of(dot(k, q), dot(v, dout), queries[i], tile + i, key, tile + i >= end, p.scale);
            add(dv, weights.p, dout);
            add(dk, weights.ds, q);
        }
    }
    float* to = p.dqkv + head.packed_offset + head.plain;
    write_row(dk, p.scale, to, head.packed, key, p.time);
    write_row(dv, 1.0f, to + head.plain, head.packed, key, p.time);
}

// Grid: (blocks of queries, H, B). Dynamic shared memory: 2 tiles.
KERNEL(attention_backward_queries, AttentionBackward, THREADS, 2) {
    DYNAMIC_SHARED(float, shared);
    const u32 first = (gridDim.x - 1 - blockIdx.x) * ROWS, row = first + threadIdx.x / SPLIT;
    const Head head = head_of(p.qkv, blockIdx.z, blockIdx.y, p.heads, p.time);
    const Query query = query_of(p, head.line, row);
    Slice q, dout, dq;
    read_row(q, head.q, head.packed, row, p.time);
    read_row(dout, p.dout + head.plain_offset, head.plain, row, p.time);
    clear(dq);
    const u32* starts = of_sequence(p.documents.starts, blockIdx.z, p.time);
    const u32 start = start_of(starts, row, p.time);
    const u32 seen = smaller(first + ROWS, p.time);
    for (u32 tile = start_of(starts, first, p.time) / TILE_ROWS * TILE_ROWS; tile < seen; tile += TILE_ROWS) {
        __syncthreads();
        load_tile(shared, head.k, head.packed, tile, p.time);
        load_tile(shared + TILE, head.v, head.packed, tile, p.time);
        __syncthreads();
        for (u32 i = 0; i < TILE_ROWS; i++) {
            const float* k = shared + i * HEAD_DIM;
            const float score = dot(q, k), dp = dot(dout, k + TILE);
            add(dq, weights_of(score, dp, query, row, tile + i, tile + i < start, p.scale).ds, k);
        }
    }
    write_row(dq, p.scale, p.dqkv + head.packed_offset, head.packed, row, p.time);
}
