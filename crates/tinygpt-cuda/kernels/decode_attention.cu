// Attention of a decoding step: each row attends to the keys and values of its sequence in the cache.
//
// The cache of a layer is [slots, H, block_size, D] for keys and again for values: what one head attends to
// lies together. `decode_cache` first puts the keys and values of all rows there, so that the rows of a
// prompt, which are many of one slot, see those before them.
//
// Idea. A block takes one row and one head. A few lanes, a power of two, read a key together, 8 elements
// each, and keep their own maximum, sum and output (the online softmax of FlashAttention); at the end the block brings
// these partial results together in order. The order depends on the row's position alone, so a sequence gets the same
// numbers alone and among others.
//
// Traffic. Reads the keys and values of the sequence once, in 16-byte accesses over neighbouring rows.
//
// Oracle: crates/tinygpt-kernels/src/decode.rs, `attend`.
#include "device.cuh"
#include "math.cuh"
#include "decode.cuh"

// Pieces of 8 elements in a row of a head, and the lanes that read one: the power of two that covers them.
constexpr u32 PIECES = HEAD_DIM / 8;
constexpr u32 LANES = PIECES <= 2 ? 2 : PIECES <= 4 ? 4 : PIECES <= 8 ? 8 : 16;
constexpr u32 CACHE_THREADS = 256;
constexpr u32 THREADS = 128;
// Keys that a block reads at a time.
constexpr u32 GROUPS = THREADS / LANES;

struct DecodeCacheArgs {
    // [N, 3C].
    const act_t* qkv;
    const DecodeRow* rows;
    act_t* keys;
    act_t* values;
    u32 n, heads, block_size;
};

// Grid: one thread for a piece of a key or a value.
KERNEL(decode_cache, DecodeCacheArgs, CACHE_THREADS, 1) {
    const u64 pieces = (u64)p.n * p.heads * PIECES;
    const u64 index = (u64)blockIdx.x * CACHE_THREADS + threadIdx.x;
    if (index >= 2 * pieces) return;
    const u32 is_value = index / pieces;
    const u64 row = index % pieces / (p.heads * PIECES);
    const u32 head = index % pieces / PIECES % p.heads, piece = index % PIECES;
    const DecodeRow at = p.rows[row];
    if (at.active == 0) return;
    float x[8];
    load8(x, p.qkv + ((row * 3 + 1 + is_value) * p.heads + head) * HEAD_DIM + piece * 8);
    act_t* cache = is_value != 0 ? p.values : p.keys;
    store8(cache + (((u64)at.slot * p.heads + head) * p.block_size + at.position) * HEAD_DIM + piece * 8, x);
}

struct DecodeAttentionArgs {
    // [N, 3C].
    const act_t* qkv;
    const DecodeRow* rows;
    const act_t* keys;
    const act_t* values;
    // [N, C].
    act_t* out;
    u32 heads, block_size;
    float scale;
};

// The online softmax of the keys that some lanes have seen, each for its 8 elements.
struct Partial {
    float max, sum, out[8];
};

DEVICE void see_key(Partial& seen, float score, const float value[8]) {
    const float max = fmaxf(seen.max, score);
    const float rescale = exp_shifted(seen.max, max), weight = exp_shifted(score, max);
    seen.max = max;
    seen.sum = fmaf(seen.sum, rescale, weight);
    UNROLL
    for (u32 j = 0; j < 8; j++) seen.out[j] = fmaf(seen.out[j], rescale, weight * value[j]);
}

// Grid: (H, N).
KERNEL(decode_attention, DecodeAttentionArgs, THREADS, 4) {
    __shared__ float maxima[GROUPS], sums[GROUPS];
    __shared__ __align__(16) float outs[GROUPS][HEAD_DIM];
    const u32 head = blockIdx.x, group = threadIdx.x / LANES, piece = threadIdx.x % LANES;
    const u64 row = blockIdx.y;
    const DecodeRow at = p.rows[row];
    const u32 len = at.active != 0 ? at.position + 1 : 0;
    const bool has_piece = piece < PIECES;
    const u64 cache = ((u64)at.slot * p.heads + head) * p.block_size * HEAD_DIM + piece * 8;
    float q[8] = {};
    if (has_piece) load8(q, p.qkv + (row * 3 * p.heads + head) * HEAD_DIM + piece * 8);
    UNROLL
    for (u32 j = 0; j < 8; j++) q[j] *= p.scale;
    Partial seen = {MINUS_INFINITY, 0.0f, {}};
    for (u32 base = 0; base < len; base += GROUPS) {
        const u32 key = base + group;
        const bool sees = key < len && has_piece;
        float k[8] = {}, v[8] = {}, score = 0.0f;
        if (sees) {
            load8(k, p.keys + cache + (u64)key * HEAD_DIM);
            load8(v, p.values + cache + (u64)key * HEAD_DIM);
        }
        UNROLL
        for (u32 j = 0; j < 8; j++) score = fmaf(q[j], k[j], score);
        UNROLL
        for (u32 step = LANES / 2; step > 0; step /= 2) score += __shfl_xor_sync(ALL_LANES, score, step);
        if (sees) see_key(seen, score, v);
    }
    if (has_piece) store8_shared(&outs[group][piece * 8], seen.out);
    if (piece == 0) maxima[group] = seen.max, sums[group] = seen.sum;
    __syncthreads();
    if (threadIdx.x >= HEAD_DIM) return;
    float max = MINUS_INFINITY, sum = 0.0f, out = 0.0f;
    for (u32 g = 0; g < GROUPS; g++) max = fmaxf(max, maxima[g]);
    for (u32 g = 0; g < GROUPS; g++) {
        if (sums[g] == 0.0f) continue;
        const float weight = exp_shifted(maxima[g], max);
        sum = fmaf(weight, sums[g], sum);
        out = fmaf(weight, outs[g][threadIdx.x], out);
    }
    const float result = len > 0 ? out / sum : 0.0f;
    p.out[(row * p.heads + head) * HEAD_DIM + threadIdx.x] = from_float<act_t>(result);
}
