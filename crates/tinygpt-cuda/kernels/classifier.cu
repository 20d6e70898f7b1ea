// Cross entropy of a chunk of logits, and their gradient in place.
//
//   loss = log Σ exp(logit - max) + max - logit[target],  dlogit = scale · (softmax - one-hot)
//
// Bytes for a row in bf16: 2·Vp read and 2·Vp written, nothing else: by far the largest tensor of the model
// is read once. A block takes one row and keeps it in registers as it came, 16 bytes in 4 registers, at most
// MAX_VECTORS of them a thread; maximum and sum are two reductions over the block. exp is computed twice, as
// keeping it would need f32. A block has as few threads as hold the row, so that several rows share a
// multiprocessor and one computes while another loads. A row that is too long is read a second time, from L2,
// after one pass that computes maximum and sum together.
//
// Padding: the table has VOCAB_PADDED rows and the true vocabulary `vocab_size`. Columns from there on count
// as -infinity, so their probability and their gradient are exactly 0.
//
// A row whose target is IGNORED_TARGET has loss 0 and gradient 0. It is not read.
//
// Oracle: crates/tinygpt-kernels/src/head.rs, `loss` and `backward`.
#include "device.cuh"
#include "math.cuh"

#define ELEMENTS ((int)(16 / sizeof(act_t)))
#define ROW_VECTORS (VOCAB_PADDED / ELEMENTS)
#define MAX_VECTORS 9
#define THREADS                                                                            \
    (ROW_VECTORS <= 64 * MAX_VECTORS ? 64 : ROW_VECTORS <= 128 * MAX_VECTORS ? 128         \
     : ROW_VECTORS <= 256 * MAX_VECTORS ? 256 : ROW_VECTORS <= 512 * MAX_VECTORS ? 512 : 1024)
#define VECTORS ((ROW_VECTORS + THREADS - 1) / THREADS)
#define IN_REGISTERS (VECTORS <= MAX_VECTORS)
#define KEPT (IN_REGISTERS ? VECTORS : 1)
#define WARPS (THREADS / 32)
#define MIN_BLOCKS (1024 / THREADS)
#define IGNORED_TARGET 0xffffffffu

struct ClassifierArgs {
    // [rows, VOCAB_PADDED]; becomes its own gradient in `classifier`.
    act_t* logits;
    const u32* targets;
    float* losses;
    // The factor of the summed losses in the gradient.
    const float* scale;
    u32 vocab_size;
};

DEVICE void unpack(float x[ELEMENTS], u32x4 v) {
    const u32 words[4] = {v.x, v.y, v.z, v.w};
    UNROLL
    for (int i = 0; i < 4; i++) {
#if ACT_BF16
        x[2 * i] = float_of_bits(words[i] << 16);
        x[2 * i + 1] = float_of_bits(words[i] & 0xffff0000u);
#else
        x[i] = float_of_bits(words[i]);
#endif
    }
}

DEVICE u32x4 pack(const float x[ELEMENTS]) {
#if ACT_BF16
    return u32x4{pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7])};
#else
    return u32x4{bits_of_float(x[0]), bits_of_float(x[1]), bits_of_float(x[2]), bits_of_float(x[3])};
#endif
}

// Whether vector `i` of some thread lies behind the row, or in the padding at its end. For the other vectors,
// which are most, the compiler leaves the checks out.
#define MAY_BE_OUTSIDE(i) (((i) + 1) * THREADS > ROW_VECTORS)
#define MAY_BE_PADDED(i) (((i) + 1) * THREADS * ELEMENTS > VOCAB_PADDED - 128)

DEVICE u32 column_of(int i) {
    return (i * THREADS + threadIdx.x) * ELEMENTS;
}

// Vector `i` of this thread, with -infinity from column `vocab_size` on.
DEVICE u32x4 load_vector(const act_t* row, int i, u32 vocab_size) {
    const u32 column = column_of(i);
    u32x4 v = {};
    if (!MAY_BE_OUTSIDE(i) || column < VOCAB_PADDED) v = load_global16(row + column);
    if (MAY_BE_PADDED(i) && column + ELEMENTS > vocab_size) {
        float x[ELEMENTS];
        unpack(x, v);
        UNROLL
        for (int j = 0; j < ELEMENTS; j++) x[j] = column + j < vocab_size ? x[j] : MINUS_INFINITY;
        v = pack(x);
    }
    return v;
}

// What all threads agree on: the row's largest logit and Σ exp(logit - max).
struct Softmax {
    float max, sum;
};

// Combines the threads' values in a fixed order. `shared` [2][WARPS].
DEVICE float block_max(float x, float* shared) {
    x = warp_max(x);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_max(threadIdx.x % 32 < WARPS ? shared[threadIdx.x % 32] : MINUS_INFINITY);
}
DEVICE float block_sum(float x, float* shared) {
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_sum(threadIdx.x % 32 < WARPS ? shared[threadIdx.x % 32] : 0.0f);
}

DEVICE Softmax softmax_of_kept(u32x4 kept[KEPT], float (*shared)[WARPS]) {
    float max = MINUS_INFINITY, sum = 0.0f, x[ELEMENTS];
    UNROLL
    for (int i = 0; i < KEPT; i++) {
        unpack(x, kept[i]);
        UNROLL
        for (int j = 0; j < ELEMENTS; j++) max = fmaxf(max, x[j]);
    }
    max = block_max(max, shared[0]);
    UNROLL
    for (int i = 0; i < KEPT; i++) {
        hide(kept[i]);
        unpack(x, kept[i]);
        UNROLL
        for (int j = 0; j < ELEMENTS; j++) sum += exp_shifted(x[j], max);
    }
    return Softmax{max, block_sum(sum, shared[1])};
}

// In one pass: when a larger logit comes, the sum so far is scaled to it.
DEVICE Softmax softmax_of_memory(const act_t* row, u32 vocab_size, float (*shared)[WARPS]) {
    float max = MINUS_INFINITY, sum = 0.0f, x[ELEMENTS];
    UNROLL_BY(4)
    for (int i = 0; i < VECTORS; i++) {
        unpack(x, load_vector(row, i, vocab_size));
        float larger = max;
        UNROLL
        for (int j = 0; j < ELEMENTS; j++) larger = fmaxf(larger, x[j]);
        // A vector of padding: -infinity minus itself would be NaN.
        if (larger == MINUS_INFINITY) continue;
        sum *= exp_shifted(max, larger);
        max = larger;
        UNROLL
        for (int j = 0; j < ELEMENTS; j++) sum += exp_shifted(x[j], max);
    }
    const float largest = block_max(max, shared[0]);
    if (max != MINUS_INFINITY) sum *= exp_shifted(max, largest);
    return Softmax{largest, block_sum(sum, shared[1])};
}

// Writes vector `i` of scale · softmax; `factor` is scale / sum.
DEVICE void store_gradient(act_t* row, int i, u32x4 v, float max, float factor) {
    const u32 column = column_of(i);
    if (MAY_BE_OUTSIDE(i) && column >= VOCAB_PADDED) return;
    float x[ELEMENTS];
    unpack(x, v);
    UNROLL
    for (int j = 0; j < ELEMENTS; j++) x[j] = exp_shifted(x[j], max) * factor;
    store_global16(row + column, pack(x));
}

// The row of a target that is not learned.
template <bool GRADIENT>
DEVICE void ignore(const ClassifierArgs& p, act_t* row) {
    if (threadIdx.x == 0) p.losses[blockIdx.x] = 0.0f;
    if constexpr (GRADIENT) {
        for (int i = 0; i < VECTORS; i++) {
            const u32 column = column_of(i);
            if (column < VOCAB_PADDED) store_global16(row + column, u32x4{});
        }
    }
}

template <bool GRADIENT>
DEVICE void classify(const ClassifierArgs& p, float (*shared)[WARPS]) {
    act_t* row = p.logits + (u64)blockIdx.x * VOCAB_PADDED;
    const u32 target = p.targets[blockIdx.x];
    // The whole block returns: no thread waits at a barrier.
    if (target == IGNORED_TARGET) return ignore<GRADIENT>(p, row);
    // Before the barriers of the reductions: nobody has overwritten it yet.
    const float target_logit = to_float(row[target]);
    u32x4 kept[KEPT];
    Softmax softmax;
    if constexpr (IN_REGISTERS) {
        UNROLL
        for (int i = 0; i < KEPT; i++) kept[i] = load_vector(row, i, p.vocab_size);
        softmax = softmax_of_kept(kept, shared);
    } else {
        softmax = softmax_of_memory(row, p.vocab_size, shared);
    }
    if (threadIdx.x == 0) p.losses[blockIdx.x] = logf(softmax.sum) + (softmax.max - target_logit);
    if constexpr (GRADIENT) {
        const float scale = *p.scale, factor = scale / softmax.sum;
        if constexpr (IN_REGISTERS) {
            UNROLL
            for (int i = 0; i < KEPT; i++) {
                hide(kept[i]);
                store_gradient(row, i, kept[i], softmax.max, factor);
            }
        } else {
            UNROLL_BY(4)
            for (int i = 0; i < VECTORS; i++) {
                store_gradient(row, i, load_vector(row, i, p.vocab_size), softmax.max, factor);
            }
        }
        // The thread that wrote the target's vector writes the target once more.
        if (threadIdx.x == target / ELEMENTS % THREADS) {
            row[target] = from_float<act_t>(exp_shifted(target_logit, softmax.max) * factor - scale);
        }
    }
}

// Grid: one block a row.
KERNEL(classifier, ClassifierArgs, THREADS, MIN_BLOCKS) {
    __shared__ float shared[2][WARPS];
    classify<true>(p, shared);
}

// Losses only, for evaluation; the logits stay.
KERNEL(classifier_loss, ClassifierArgs, THREADS, MIN_BLOCKS) {
    __shared__ float shared[2][WARPS];
    classify<false>(p, shared);
}

struct SumLossesArgs {
    const float* losses;
    double* total;
    u32 rows;
    // 1: add to `total`, 0: write.
    u32 accumulate;
};

// The sum of the losses of a chunk in f64, in a fixed order. Grid: one block.
KERNEL(sum_losses, SumLossesArgs, 256, 1) {
    __shared__ double sums[256];
    double sum = 0.0;
    UNROLL_BY(8)
    for (u32 row = threadIdx.x; row < p.rows; row += 256) sum += p.losses[row];
    sums[threadIdx.x] = sum;
    for (u32 half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) *p.total = p.accumulate ? *p.total + sums[0] : sums[0];
}
