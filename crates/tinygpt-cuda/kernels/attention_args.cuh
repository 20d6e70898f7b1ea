// What all attention kernels share: their arguments, and where a head lies.
//
// The masks of dropout: row (b·H + h)·T + query, column key.
//
// Documents. With DOCUMENTS a sequence can hold several documents that must not see each other: queries then see no key
// before the start of their own. Starts and ends never fall along a sequence, so the first row of a block or
// warp has the smallest and the last one the largest.
#ifndef TINYGPT_ATTENTION_ARGS_CUH
#define TINYGPT_ATTENTION_ARGS_CUH

// Where the document of each position starts and ends, [B, T] each; read with DOCUMENTS only.
struct Documents {
    const u32* starts;
    const u32* ends;
};

struct AttentionForward {
    // [N, 3C].
    const act_t* qkv;
    // [N, C].
    act_t* out;
    // [B, H, T].
    float* lse;
    // In device memory; null means no dropout.
    const DropoutMask* dropout;
    Documents documents;
    u32 batch, time, heads;
    // 1/sqrt(D).
    float scale;
};

// attention_delta.cu comes before: both kernels of the backward pass read its result.
struct AttentionBackward {
    // [N, 3C].
    const act_t* qkv;
    // [N, C].
    const act_t* dout;
    // [B, H, T].
    const float* lse;
    const float* delta;
    const DropoutMask* dropout;
    Documents documents;
    // [N, 3C].
    act_t* dqkv;
    u32 batch, time, heads;
    // 1/sqrt(D).
    float scale;
};

constexpr float LOG2_E = 1.44269504088896340736f;

DEVICE float minus_infinity() {
    return float_of_bits(0xff800000u);
}

// The score of a key that a query does not see. Finite, because all keys of a tile can be hidden from a row: what it
// sums up to then is multiplied by 0 when the first key comes that it sees. A power of 2, so that its product with the
// scale is exact and the row's maximum takes it to exactly 0.
constexpr float HIDDEN = -0x1p100f;

// Where one head of one sequence lies.
struct Head {
    // Its first elements in the packed rows [T, 3C] of the sequence.
    const act_t *q, *k, *v;
    // Elements between packed rows, 3C, and between plain rows, C.
    u32 packed, plain;
    // Offset of its first element in a plain [N, C] and in a packed [N, 3C] tensor.
    u64 plain_offset, packed_offset;
    // Its first row among [B, H, T]: of the log-sum-exps, of delta and of the dropout mask.
    u64 line;
};

DEVICE Head head_of(const act_t* qkv, u32 batch, u32 head, u32 heads, u32 time) {
    const u32 c = heads * HEAD_DIM;
    const u64 first = (u64)batch * time;
    const u64 plain_offset = first * c + head * HEAD_DIM, packed_offset = first * (3 * c) + head * HEAD_DIM;
    const act_t* q = qkv + packed_offset;
    return Head{q, q + c, q + 2 * c, 3 * c, c, plain_offset, packed_offset, ((u64)batch * heads + head) * time};
}

// The position of a sequence where the document of `row` starts; of rows from T on, that of the last one.
DEVICE u32 start_of(const u32* starts, u32 row, u32 time) {
    return DOCUMENTS ? starts[row < time ? row : time - 1] : 0;
}
// The position behind it.
DEVICE u32 end_of(const u32* ends, u32 row, u32 time) {
    return DOCUMENTS ? ends[row < time ? row : time - 1] : time;
}
// Those of one sequence.
DEVICE const u32* of_sequence(const u32* positions, u32 batch, u32 time) {
    return DOCUMENTS ? positions + (u64)batch * time : nullptr;
}

// The part of a dropout mask that all rows share.
struct Keep {
    u32 limit;
    float scale;
};

DEVICE Keep keep_of(const DropoutMask* mask) {
    if (mask == nullptr || mask->keep_limit == 0) return Keep{0, 1.0f};
    return Keep{mask->keep_limit, mask->scale};
}

#endif
