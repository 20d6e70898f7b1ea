// The end of a step: the global norm, and AdamW with the clipping factor in the same pass.
//
//   norm = √(Σ g²),  g' = g · grad_scale, which is min(1, clip / norm)
//   m = β₁m + (1-β₁)g',  v = β₂v + (1-β₂)g'²,  w = w(1 - ηλ) - η · (m / (1-β₁ᵗ)) / (√(v / (1-β₂ᵗ)) + ε)
//
// Gradients, weights and moments are one f32 arena each with equal offsets, so each kernel is one launch for
// all parameters. A table cuts the arena into pieces of at most PIECE elements that never cross a tensor: a
// block takes one piece and knows its tensor, for the decay and for the name of a gradient that is not finite.
//
// Bytes for a parameter: norm 4; AdamW 16 read (g, w, m, v) and 12 written, and 2 for the bf16 copy that the
// products read. All accesses are 16 bytes wide.
//
// Between the two the host reads one struct, norm, loss and the tensor that is not finite, and decides whether
// the update is made. Numbers that change from step to step come from device memory, as a captured graph keeps
// the arguments.
//
// Oracles: crates/tinygpt-kernels/src/grad_norm.rs, adamw.rs.
#include "device.cuh"

#define THREADS 256
#define WARPS (THREADS / 32)
#define NO_TENSOR 0xffffffffu

struct ArenaPiece {
    // First element, a multiple of 64.
    u64 start;
    // Elements, a multiple of 8.
    u32 len;
    u32 tensor;
};

struct GradSquaresArgs {
    const float* grads;
    const ArenaPiece* pieces;
    // Σ g² of each piece.
    float* squares;
};

DEVICE float square8(const float x[8], float sum) {
    UNROLL
    for (int j = 0; j < 8; j++) sum = fmaf(x[j], x[j], sum);
    return sum;
}

// Grid: one block a piece.
KERNEL(grad_squares, GradSquaresArgs, THREADS, 4) {
    __shared__ float sums[WARPS];
    const ArenaPiece piece = p.pieces[blockIdx.x];
    const float* grads = p.grads + piece.start;
    float sum = 0.0f;
    UNROLL_BY(4)
    for (u32 i = threadIdx.x * 8; i < piece.len; i += THREADS * 8) {
        float x[8];
        load8(x, grads + i);
        sum = square8(x, sum);
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    float total = 0.0f;
    UNROLL
    for (int w = 0; w < WARPS; w++) total += sums[w];
    p.squares[blockIdx.x] = total;
}

// What the host reads once per update.
struct StepResult {
    double norm;
    // The sum of the losses, copied: one download serves both.
    double loss;
    // The first tensor whose gradient is not finite, or NO_TENSOR.
    u32 bad_tensor;
    u32 unused;
};

struct GlobalNormArgs {
    const float* squares;
    // [tensors + 1]: the pieces of tensor i are first_piece[i] .. first_piece[i + 1].
    const u32* first_piece;
    // [tensors]
    double* tensor_squares;
    // The sum of the losses of the update, or null.
    const double* loss;
    StepResult* result;
    u32 tensors;
};

DEVICE bool is_finite(double x) {
    return x - x == 0.0;
}

// Sums in f64, in a fixed order: a warp takes a tensor, thread 0 the tensors. Grid: one block.
KERNEL(global_norm, GlobalNormArgs, THREADS, 1) {
    __shared__ double sums[THREADS];
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (u32 tensor = warp; tensor < p.tensors; tensor += WARPS) {
        double sum = 0.0;
        UNROLL_BY(8)
        for (u32 i = p.first_piece[tensor] + lane; i < p.first_piece[tensor + 1]; i += 32) sum += p.squares[i];
        sums[threadIdx.x] = sum;
        __syncwarp();
        if (lane == 0) {
            for (int l = 1; l < 32; l++) sum += sums[threadIdx.x + l];
            p.tensor_squares[tensor] = sum;
        }
        __syncwarp();
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    double total = 0.0;
    u32 bad_tensor = NO_TENSOR;
    for (u32 tensor = 0; tensor < p.tensors; tensor++) {
        const double sum = p.tensor_squares[tensor];
        if (bad_tensor == NO_TENSOR && !is_finite(sum)) bad_tensor = tensor;
        total += sum;
    }
    *p.result = StepResult{sqrt(total), p.loss != nullptr ? *p.loss : 0.0, bad_tensor, 0};
}

struct AdamWNumbers {
    float learning_rate, beta1, beta2, eps;
    // 1 - β₁ᵗ and 1 - β₂ᵗ.
    float bias_correction1, bias_correction2;
    // The factor of the gradient.
    float grad_scale;
};

struct AdamWArgs {
    float* weights;
    const float* grads;
    float* m;
    float* v;
    // The copy that products read; null in f32 mode.
    bf16* copy;
    const ArenaPiece* pieces;
    // Weight decay λ of each tensor.
    const float* decay;
    const AdamWNumbers* numbers;
};

// The factors of one update, as the CPU computes them.
struct AdamWFactors {
    float scale, beta1, rest1, beta2, rest2, shrink, rate, root_correction, eps;
};

DEVICE AdamWFactors adamw_factors(const AdamWArgs& p, u32 tensor) {
    const AdamWNumbers n = *p.numbers;
    AdamWFactors f;
    f.scale = n.grad_scale;
    f.beta1 = n.beta1, f.rest1 = 1.0f - n.beta1;
    f.beta2 = n.beta2, f.rest2 = 1.0f - n.beta2;
    f.shrink = 1.0f - n.learning_rate * p.decay[tensor];
    f.rate = -n.learning_rate / n.bias_correction1;
    f.root_correction = 1.0f / sqrtf(n.bias_correction2);
    f.eps = n.eps;
    return f;
}

// Grid: one block a piece.
KERNEL(adamw, AdamWArgs, THREADS, 3) {
    const ArenaPiece piece = p.pieces[blockIdx.x];
    const AdamWFactors f = adamw_factors(p, piece.tensor);
    for (u32 i = threadIdx.x * 8; i < piece.len; i += THREADS * 8) {
        const u64 at = piece.start + i;
        const Raw8<float> gradients = load_raw8(p.grads + at), first = load_raw8(p.m + at);
        const Raw8<float> second = load_raw8(p.v + at), weights = load_raw8(p.weights + at);
        float w[8], g[8], m[8], v[8];
        unpack8(g, gradients), unpack8(m, first), unpack8(v, second), unpack8(w, weights);
        UNROLL
        for (int j = 0; j < 8; j++) {
            const float gradient = g[j] * f.scale;
            m[j] = fmaf(m[j], f.beta1, gradient * f.rest1);
            v[j] = fmaf(v[j], f.beta2, gradient * gradient * f.rest2);
            w[j] = w[j] * f.shrink + f.rate * m[j] / fmaf(sqrtf(v[j]), f.root_correction, f.eps);
        }
        store8(p.m + at, m), store8(p.v + at, v), store8(p.weights + at, w);
        if (p.copy != nullptr) store8(p.copy + at, w);
    }
}

struct CastArgs {
    const float* from;
    bf16* to;
    // A multiple of 8.
    u64 elements;
};

// The bf16 copy of an arena, after its weights were loaded. Grid: blocks of 8 · THREADS elements.
KERNEL(cast_to_bf16, CastArgs, THREADS, 4) {
    const u64 at = ((u64)blockIdx.x * THREADS + threadIdx.x) * 8;
    if (at >= p.elements) return;
    float x[8];
    load8(x, p.from + at);
    store8(p.to + at, x);
}
