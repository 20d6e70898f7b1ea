// A row of C elements in the registers of one warp: lane l holds the 8 elements from column 8·l, and again
// from every 256 columns further on. A warp so reads 512 contiguous bytes of bf16 with one instruction.
#ifndef TINYGPT_ROWS_CUH
#define TINYGPT_ROWS_CUH

#define ROW_VECTORS ((C / 8 + 31) / 32)

// First column of the lane's vector `i`; not below C for the lanes that a short last vector leaves over.
DEVICE u32 row_column(int i) {
    return (i * 32 + threadIdx.x % 32) * 8;
}

// What a layer norm reads and writes. `bias` is null in a model without biases; `mean` and `rstd` are null
// when no backward pass follows.
struct Norm {
    const float* weight;
    const float* bias;
    act_t* out;
    float* mean;
    float* rstd;
};

// Mean and 1 / sqrt(variance + 1e-5). The variance is taken around the mean, as on the CPU: mean(x²) - mean²
// would cancel, and a second pass over registers costs no traffic.
DEVICE void row_statistics(const float x[ROW_VECTORS][8], float* mean, float* rstd) {
    float sum = 0.0f;
    UNROLL
    for (int i = 0; i < ROW_VECTORS; i++) {
        if (row_column(i) >= C) continue;
        UNROLL
        for (int j = 0; j < 8; j++) sum += x[i][j];
    }
    *mean = warp_sum(sum) * (1.0f / C);
    float squares = 0.0f;
    UNROLL
    for (int i = 0; i < ROW_VECTORS; i++) {
        if (row_column(i) >= C) continue;
        UNROLL
        for (int j = 0; j < 8; j++) squares = fmaf(x[i][j] - *mean, x[i][j] - *mean, squares);
    }
    *rstd = 1.0f / sqrtf(warp_sum(squares) * (1.0f / C) + 1e-5f);
}

// Normalizes the row `x` into row `row` of `norm.out` and keeps its statistics.
DEVICE void normalize_row(const float x[ROW_VECTORS][8], const Norm& norm, u64 row) {
    float mean, rstd;
    row_statistics(x, &mean, &rstd);
    UNROLL
    for (int i = 0; i < ROW_VECTORS; i++) {
        const u32 column = row_column(i);
        if (column >= C) continue;
        float weight[8], shift[8] = {}, y[8];
        load8(weight, norm.weight + column);
        if (norm.bias != nullptr) load8(shift, norm.bias + column);
        UNROLL
        for (int j = 0; j < 8; j++) y[j] = fmaf((x[i][j] - mean) * rstd, weight[j], shift[j]);
        store8(norm.out + row * C + column, y);
    }
    if (norm.mean != nullptr && threadIdx.x % 32 == 0) {
        norm.mean[row] = mean;
        norm.rstd[row] = rstd;
    }
}

// Writes 8 elements of the stream and leaves in `x` what was stored, rounded: the layer norm that follows
// and the backward pass then see the same numbers.
DEVICE void store_stream(stream_t* address, float x[8]) {
    store8(address, x);
    UNROLL
    for (int j = 0; j < 8; j++) x[j] = to_float(from_float<stream_t>(x[j]));
}

#endif
