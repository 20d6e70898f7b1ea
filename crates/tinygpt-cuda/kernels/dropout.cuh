// Dropout masks that are computed, never stored.
//
// Whether an element is kept is a hash of (key, row, column), bit for bit that of the CPU: the backward
// pass computes the same mask again, and a run on the card drops what a run on the CPU drops. A row costs
// two 64-bit mixes, an element 3 multiplications and about 9 other integer operations.
// Oracle: crates/tinygpt-kernels/src/dropout.rs.
//
// The key changes with every micro-batch while the arguments of a captured CUDA graph do not, so kernels
// take a pointer to the mask in device memory; null means no dropout.
#ifndef TINYGPT_DROPOUT_CUH
#define TINYGPT_DROPOUT_CUH

struct DropoutMask {
    u64 key;
    // The row of the whole batch that is row 0 here.
    u64 first_row;
    // An element is kept if 24 hashed bits are below this; 0 means no dropout.
    u32 keep_limit;
    // 1 / (1 - p).
    float scale;
};

// The hash input of one row.
struct DropoutRow {
    u32 low, high, keep_limit;
    float scale;
};

// SplitMix64's step.
DEVICE u64 dropout_mix(u64 x) {
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

// The mask in registers, for a kernel that needs several rows; `mask` may be null.
DEVICE DropoutMask dropout_mask(const DropoutMask* mask) {
    return mask == nullptr ? DropoutMask{0, 0, 0, 1.0f} : *mask;
}

DEVICE DropoutRow dropout_row(const DropoutMask& mask, u64 row) {
    if (mask.keep_limit == 0) return DropoutRow{0, 0, 0, 1.0f};
    const u64 mixed = dropout_mix(mask.key ^ dropout_mix(mask.first_row + row));
    return DropoutRow{(u32)mixed, (u32)(mixed >> 32), mask.keep_limit, mask.scale};
}

// The mask of row `row`; `mask` may be null.
DEVICE DropoutRow dropout_row(const DropoutMask* mask, u64 row) {
    return dropout_row(dropout_mask(mask), row);
}

DEVICE bool dropout_keeps(DropoutRow row, u32 column) {
    u32 x = (column ^ row.low) * 0x9E3779B1u;
    x = (x ^ (x >> 15) ^ row.high) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return ((x ^ (x >> 16)) >> 8) < row.keep_limit;
}

// The factor of the element: 1 / (1 - p) or 0.
DEVICE float dropout_factor(DropoutRow row, u32 column) {
    return dropout_keeps(row, column) ? row.scale : 0.0f;
}

// Drops or scales the 8 elements that start at `column`.
DEVICE void dropout8(float x[8], DropoutRow row, u32 column) {
    if (row.keep_limit == 0) return;
    UNROLL
    for (int i = 0; i < 8; i++) x[i] = dropout_keeps(row, column + i) ? x[i] * row.scale : 0.0f;
}

#endif
