// What the attention kernels for tensor cores share: tiles in shared memory, fragments, products, stores.
//
// The same kernels serve bf16 and TF32 (f32 in memory, operands rounded to tf32): a fragment here covers
// 16 columns of the contraction, which is one mma.m16n8k16 in bf16 and two mma.m16n8k8 in TF32.
//
// Tiles. A tile holds rows of one head, HEAD_DIM elements each, in 16-byte chunks. ldmatrix reads the same
// chunk of 8 neighbouring rows at once; stored plainly, all 8 would lie in the same banks whenever a row
// is a multiple of 128 bytes. So the chunk's index is XORed with bits of the row's index, as many bits as
// the number of chunks allows: then the 8 chunks lie in 8 different groups of 4 banks, for every HEAD_DIM
// that is a multiple of 16.
//
// Defines: HEAD_DIM; ROW_TILES, strips of 16 rows that a warp owns; COLUMNS, rows of the tiles that a block
// walks along (a multiple of 16); ACT_BF16.
#ifndef TINYGPT_ATTENTION_CUH
#define TINYGPT_ATTENTION_CUH

constexpr u32 WARPS = 4;
constexpr u32 THREADS = 32 * WARPS;
// Rows of a warp and of a block.
constexpr u32 WARP_ROWS = 16 * ROW_TILES;
constexpr u32 ROWS = WARPS * WARP_ROWS;
// Elements in 16 bytes, and such chunks in a row.
constexpr u32 CHUNK = 16 / sizeof(act_t);
constexpr u32 CHUNKS = HEAD_DIM / CHUNK;
constexpr u32 SWIZZLE = CHUNKS % 8 == 0 ? 8 : CHUNKS % 4 == 0 ? 4 : 2;
// Elements of a tile of COLUMNS rows.
constexpr u32 TILE = COLUMNS * HEAD_DIM;
// 16-column steps along a head.
constexpr u32 STEPS = HEAD_DIM / 16;

static_assert(HEAD_DIM % 16 == 0, "the head dimension is a multiple of 16");
static_assert(COLUMNS % 16 == 0, "a tile is a number of strips of 16 rows");

// The index of a chunk's first element in a tile.
DEVICE u32 swizzled(u32 row, u32 chunk) {
    return (row * CHUNKS + (chunk ^ (row / (8 / SWIZZLE) % SWIZZLE))) * CHUNK;
}

// Starts the copy of rows first.. of a head into a tile; rows from `limit` on become zero.
template <u32 COUNT>
DEVICE void load_tile(act_t* tile, const act_t* head, u32 stride, u32 first, u32 limit) {
    constexpr u32 TOTAL = COUNT * CHUNKS;
    UNROLL
    for (u32 n = 0; n < (TOTAL + THREADS - 1) / THREADS; n++) {
        const u32 i = n * THREADS + threadIdx.x;
        if (TOTAL % THREADS != 0 && i >= TOTAL) break;
        const u32 row = i / CHUNKS, chunk = i % CHUNKS;
        const act_t* from = head + chunk * CHUNK + (u64)(first + row) * stride;
        cp_async16(tile + swizzled(row, chunk), from, first + row < limit);
    }
}

// The warp's index. As the result of a shuffle it is known to be the same in all lanes, so that branches on it
// are branches of the warp and shuffles and mma inside them need no code for lanes that went elsewhere.
DEVICE u32 warp_index() {
    return __shfl_sync(ALL_LANES, threadIdx.x / 32, 0);
}

// ---- fragments ----

#if ACT_BF16
constexpr u32 SUBSTEPS = 1;
#else
constexpr u32 SUBSTEPS = 2;
#endif

// 16 rows by 16 columns of the left operand.
struct FragmentA {
    u32 r[4 * SUBSTEPS];
};
// 16 rows by 8 columns of the right operand.
struct FragmentB {
    u32 r[2 * SUBSTEPS];
};

DEVICE void multiply(float d[4], const FragmentA& a, const FragmentB& b) {
#if ACT_BF16
    mma_bf16(d, a.r, b.r);
#else
    mma_tf32(d, a.r, b.r);
    mma_tf32(d, a.r + 4, b.r + 2);
#endif
}

// One lane's row for ldmatrix, in a strip of 16 rows: `offset` to the row's first element and `flip`, the
// bits to XOR into the (even) index of a chunk. Both stay the same for all strips of all tiles.
struct LaneRow {
    u32 offset, flip;
};

DEVICE LaneRow lane_row(u32 row, u32 second_chunk) {
    return LaneRow{row * HEAD_DIM, second_chunk ^ (row / (8 / SWIZZLE) % SWIZZLE)};
}
// The four matrices in the order (upper rows, first chunk), (lower rows, first chunk), (upper, second), (lower,
// second): left operands, and right operands that are transposed on loading.
DEVICE LaneRow lane_row_a() {
    const u32 lane = threadIdx.x % 32;
    return lane_row(lane % 16, lane / 16);
}
// The order (upper, first), (upper, second), (lower, first), (lower, second): right operands.
DEVICE LaneRow lane_row_b() {
    const u32 lane = threadIdx.x % 32;
    return lane_row(lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

DEVICE const act_t* lane_chunk(const act_t* strip, LaneRow lane, u32 chunk) {
    return strip + lane.offset + (chunk ^ lane.flip) * CHUNK;
}

// The left operand a(i, k) = strip[i][16·step + k].
DEVICE FragmentA load_a(const act_t* strip, LaneRow lane, u32 step) {
    FragmentA a;
    UNROLL
    for (u32 s = 0; s < SUBSTEPS; s++) {
        ldmatrix_x4(a.r + 4 * s, lane_chunk(strip, lane, 2 * (step * SUBSTEPS + s)));
    }
#if !ACT_BF16
    UNROLL
    for (u32 i = 0; i < 8; i++) a.r[i] = to_tf32(float_of_bits(a.r[i]));
#endif
    return a;
}

// Two right operands b[j](k, n) = strip[8·j + n][16·step + k].
DEVICE void load_b(FragmentB b[2], const act_t* strip, LaneRow lane, u32 step) {
    UNROLL
    for (u32 s = 0; s < SUBSTEPS; s++) {
        u32 r[4];
        ldmatrix_x4(r, lane_chunk(strip, lane, 2 * (step * SUBSTEPS + s)));
        UNROLL
        for (u32 i = 0; i < 4; i++) {
#if ACT_BF16
            b[i / 2].r[i % 2] = r[i];
#else
            b[i / 2].r[2 * s + i % 2] = to_tf32(float_of_bits(r[i]));
#endif
        }
    }
}

// Two right operands b[j](k, n) = strip[k][16·step + 8·j + n], for products with a left operand of
// `as_operand`. ldmatrix transposes only 16-bit elements: TF32 reads single words, in the order of columns
// that `as_operand` has, which also keeps the 32 lanes in 32 banks.
DEVICE void load_b_transposed(FragmentB b[2], const act_t* strip, LaneRow lane, u32 step) {
#if ACT_BF16
    u32 r[4];
    ldmatrix_x4_trans(r, lane_chunk(strip, lane, 2 * step));
    UNROLL
    for (u32 i = 0; i < 4; i++) b[i / 2].r[i % 2] = r[i];
#else
    const u32 group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
    UNROLL
    for (u32 i = 0; i < 8; i++) {
        const u32 row = 8 * (i / 2 % 2) + 2 * pair + i % 2;
        const u32 column = 16 * step + 8 * (i / 4) + group;
        b[i / 4].r[i % 4] = to_tf32(strip[swizzled(row, column / CHUNK) + column % CHUNK]);
    }
#endif
}

// The results of two neighbouring products, 16 rows by 16 columns, as the left operand of the next one: the
// lanes already hold what it asks of them. In TF32 the columns of the operand are those of the results in
// another order (2·pair first, then 2·pair + 1), the same one on both sides of the product.
DEVICE FragmentA as_operand(const float d[2][4]) {
    FragmentA a;
#if ACT_BF16
    UNROLL
    for (u32 i = 0; i < 4; i++) a.r[i] = pack_bf16(d[i / 2][2 * (i % 2)], d[i / 2][2 * (i % 2) + 1]);
#else
    UNROLL
    for (u32 s = 0; s < 2; s++) {
        a.r[4 * s] = to_tf32(d[s][0]);
        a.r[4 * s + 1] = to_tf32(d[s][2]);
        a.r[4 * s + 2] = to_tf32(d[s][1]);
        a.r[4 * s + 3] = to_tf32(d[s][3]);
    }
#endif
    return a;
}

// ---- results ----

// The four lanes that share a row of a result.
DEVICE float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}
DEVICE float quad_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

typedef float Accumulator[ROW_TILES][HEAD_DIM / 8][4];

DEVICE void clear(Accumulator& sums) {
    UNROLL
    for (u32 i = 0; i < ROW_TILES; i++) {
        UNROLL
        for (u32 n = 0; n < HEAD_DIM / 8; n++) {
            UNROLL
            for (u32 e = 0; e < 4; e++) sums[i][n][e] = 0.0f;
        }
    }
}

// Writes a warp's rows times `factor` to rows first.. of a head, those below `limit`. They pass through
// `part`, WARP_ROWS rows of shared memory that only this warp uses now, so that every access to global
// memory is of 16 bytes and a row's are neighbours.
DEVICE void store_rows(const Accumulator& sums, const float factor[ROW_TILES][2], act_t* part, act_t* head,
                       u32 stride, u32 first, u32 limit) {
    const u32 lane = threadIdx.x % 32;
    UNROLL
    for (u32 i = 0; i < ROW_TILES; i++) {
        UNROLL
        for (u32 half = 0; half < 2; half++) {
            const u32 row = 16 * i + 8 * half + lane / 4;
            UNROLL
            for (u32 n = 0; n < HEAD_DIM / 8; n++) {
                const u32 column = 8 * n + 2 * (lane % 4);
                act_t* at = part + swizzled(row, column / CHUNK) + column % CHUNK;
                const float low = sums[i][n][2 * half] * factor[i][half];
                const float high = sums[i][n][2 * half + 1] * factor[i][half];
#if ACT_BF16
                *reinterpret_cast<u32*>(at) = pack_bf16(low, high);
#else
                at[0] = low;
                at[1] = high;
#endif
            }
        }
    }
    __syncwarp();
    for (u32 i = lane; i < WARP_ROWS * CHUNKS; i += 32) {
        const u32 row = i / CHUNKS, chunk = i % CHUNKS;
        if (first + row < limit) {
            store16(head + chunk * CHUNK + (u64)(first + row) * stride, load16(part + swizzled(row, chunk)));
        }
    }
}

#endif
