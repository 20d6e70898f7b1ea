// Products of the cublasLt stand-in against a plain sum in f64, for every combination that it supports,
// and what it refuses.
#include "cuda.h"

#include <math.h>

enum { F32 = 0, BF16 = 14, COMPUTE = 68, COMPUTE_TF32 = 77 };
enum { DEFAULT = 1, BIAS = 4, GELU_AUX_BIAS = 164, DGELU = 192, BGRADA = 256 };

static void *blas, *preference;

static float bits_to_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static uint32_t float_to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static uint16_t bf16_of(float x) {
    const uint32_t bits = float_to_bits(x);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static uint64_t state = 1;
static float noise() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return float(int32_t(state >> 40) - (1 << 23)) / float(1 << 23);
}

// A column-major matrix on the device, with NaN between its columns, and its values as f64.
struct Matrix {
    int type;
    int64_t rows, columns, ld;
    uint64_t address;
    std::vector<double> values; // rows · columns, by column
    void* layout;

    Matrix(int type, int64_t rows, int64_t columns, int64_t ld) : type(type), rows(rows), columns(columns), ld(ld) {
        values.resize(size_t(rows * columns));
        const size_t elements = size_t((columns - 1) * ld + rows);
        std::vector<float> f32(elements, NAN);
        std::vector<uint16_t> bf16(elements, 0xffff);
        for (int64_t j = 0; j < columns; j++) {
            for (int64_t i = 0; i < rows; i++) {
                const float x = noise();
                f32[size_t(i + j * ld)] = x;
                bf16[size_t(i + j * ld)] = bf16_of(x);
                values[size_t(i + j * rows)] = type == F32 ? x : bits_to_float(uint32_t(bf16_of(x)) << 16);
            }
        }
        address = type == F32 ? upload(f32) : upload(bf16);
        EXPECT(cublasLtMatrixLayoutCreate(&layout, type, uint64_t(rows), uint64_t(columns), ld), 0);
    }

    double at(int64_t i, int64_t j) const { return values[size_t(i + j * rows)]; }

    std::vector<double> read() const {
        const size_t elements = size_t((columns - 1) * ld + rows);
        std::vector<double> all(elements);
        if (type == F32) {
            const auto found = download<float>(address, elements);
            for (size_t i = 0; i < elements; i++) all[i] = found[i];
        } else {
            const auto found = download<uint16_t>(address, elements);
            for (size_t i = 0; i < elements; i++) all[i] = bits_to_float(uint32_t(found[i]) << 16);
        }
        std::vector<double> inside;
        for (int64_t j = 0; j < columns; j++) {
            for (int64_t i = 0; i < ld && size_t(i + j * ld) < elements; i++) {
                if (i < rows) inside.push_back(all[size_t(i + j * ld)]);
                else CHECK(isnan(all[size_t(i + j * ld)])); // nothing is written between columns
            }
        }
        return inside;
    }

    ~Matrix() { EXPECT(cuMemFree_v2(address), 0); }
};

template <class T>
static void set(void* desc, int attribute, T value) {
    EXPECT(cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof value), 0);
}

struct Case {
    int type_ab, type_d, compute, op_a, op_b, epilogue;
    float beta;
    int64_t m, n, k, padding;
};

static double gelu(double x) {
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static double gelu_derivative(double x) {
    return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
}

static double rounded(double x, int compute) {
    return compute == COMPUTE_TF32 ? bits_to_float((float_to_bits(float(x)) + 0x1000) & 0xffffe000u) : x;
}

static void close_to(const std::vector<double>& found, const std::vector<double>& expected, int type, const char* what) {
    for (size_t i = 0; i < expected.size(); i++) {
        const double most = (type == BF16 ? 0.01 : 2e-5) * (1 + fabs(expected[i]));
        if (fabs(found[i] - expected[i]) <= most) continue;
        printf("%s[%zu] is %g, not %g\n", what, i, found[i], expected[i]);
        exit(3);
    }
}

static void check(const Case& c) {
    Matrix a(c.type_ab, c.op_a ? c.k : c.m, c.op_a ? c.m : c.k, (c.op_a ? c.k : c.m) + c.padding);
    Matrix b(c.type_ab, c.op_b ? c.n : c.k, c.op_b ? c.k : c.n, (c.op_b ? c.n : c.k) + c.padding);
    Matrix d(c.type_d, c.m, c.n, c.m + c.padding);
    Matrix bias(c.type_d, c.m, 1, c.m), aux(c.type_d, c.m, c.n, (c.m + c.padding + 7) / 8 * 8);
    void* desc;
    EXPECT(cublasLtMatmulDescCreate(&desc, c.compute, F32), 0);
    set(desc, 3, c.op_a);
    set(desc, 4, c.op_b);
    set(desc, 7, c.epilogue);
    if (c.epilogue != DEFAULT && c.epilogue != DGELU) set(desc, 8, bias.address), set(desc, 26, c.type_d);
    if (c.epilogue == GELU_AUX_BIAS || c.epilogue == DGELU) set(desc, 11, aux.address), set(desc, 12, aux.ld), set(desc, 22, c.type_d);
    std::vector<double> expected(size_t(c.m * c.n)), pre = expected, row_sums(static_cast<size_t>(c.m));
    for (int64_t j = 0; j < c.n; j++) {
        for (int64_t i = 0; i < c.m; i++) {
            double sum = 0;
            for (int64_t k = 0; k < c.k; k++) {
                const double left = c.op_a ? a.at(k, i) : a.at(i, k), right = c.op_b ? b.at(j, k) : b.at(k, j);
                sum += rounded(left, c.compute) * rounded(right, c.compute);
                if (j == 0) row_sums[size_t(i)] += left;
            }
            double x = 0.5 * sum + c.beta * d.at(i, j);
            if (c.epilogue == BIAS || c.epilogue == GELU_AUX_BIAS) x += bias.at(i, 0);
            pre[size_t(i + j * c.m)] = x;
            if (c.epilogue == GELU_AUX_BIAS) x = gelu(x);
            if (c.epilogue == DGELU) x *= gelu_derivative(aux.at(i, j));
            expected[size_t(i + j * c.m)] = x;
        }
    }
    Heuristic result;
    int found = 0;
    EXPECT(cublasLtMatmulAlgoGetHeuristic(blas, desc, a.layout, b.layout, d.layout, d.layout, preference, 1, &result, &found), 0);
    EXPECT(found, 1);
    const float alpha = 0.5f;
    EXPECT(cublasLtMatmul(blas, desc, &alpha, (void*)a.address, a.layout, (void*)b.address, b.layout, &c.beta, (void*)d.address,
                          d.layout, (void*)d.address, d.layout, result.algorithm, nullptr, 0, stream), 0);
    close_to(d.read(), expected, c.type_d, "D");
    if (c.epilogue == BGRADA) close_to(bias.read(), row_sums, c.type_d, "bias gradient");
    if (c.epilogue == GELU_AUX_BIAS) close_to(aux.read(), pre, c.type_d, "aux");
}

static void combinations() {
    const struct {
        int ab, d, compute;
    } types[] = {{F32, F32, COMPUTE}, {F32, F32, COMPUTE_TF32}, {BF16, BF16, COMPUTE}, {BF16, F32, COMPUTE}};
    int cases = 0;
    for (const auto& type : types) {
        for (int ops = 0; ops < 4; ops++) {
            for (float beta : {0.0f, 1.0f}) {
                for (int epilogue : {DEFAULT, BIAS, GELU_AUX_BIAS, DGELU, BGRADA}) {
                    check({type.ab, type.d, type.compute, ops & 1, ops >> 1, epilogue, beta, 33, 21, 19, 0});
                    check({type.ab, type.d, type.compute, ops & 1, ops >> 1, epilogue, beta, 16, 4, 40, 8});
                    cases += 2;
                }
            }
        }
    }
    // Large enough for several threads, with a last part that is not full.
    check({BF16, F32, COMPUTE, 1, 0, BIAS, 1.0f, 130, 259, 140, 0});
    EXPECT(cases, 320);
}

static int product(void* desc, const Matrix& a, const Matrix& b, const Matrix& d, uint64_t shift, const Heuristic* given = nullptr) {
    Heuristic result;
    int found = 0;
    if (!given) {
        if (const int code = cublasLtMatmulAlgoGetHeuristic(blas, desc, a.layout, b.layout, d.layout, d.layout, preference, 1, &result, &found)) {
            return code;
        }
    }
    const float alpha = 1, beta = 0;
    return cublasLtMatmul(blas, desc, &alpha, (void*)(a.address + shift), a.layout, (void*)b.address, b.layout, &beta, nullptr,
                          d.layout, (void*)d.address, d.layout, given ? given->algorithm : result.algorithm, nullptr, 0, stream);
}

static void refusals() {
    void* desc;
    EXPECT(cublasLtMatmulDescCreate(&desc, COMPUTE, F32), 0);
    const Matrix a(F32, 16, 8, 16), b(F32, 8, 12, 8), d(F32, 16, 12, 16), wide(F32, 8, 12, 8), short_d(F32, 16, 11, 16);
    EXPECT(product(desc, a, b, d, 0), 0);
    EXPECT(product(desc, a, b, d, 4), 7);
    COMPLAINED("A at");
    COMPLAINED("is not aligned to the 16 bytes of the plan");
    EXPECT(product(desc, a, b, d, 16), 7);
    COMPLAINED("A, 512 bytes from");
    EXPECT(product(desc, a, b, short_d, 0), 7);
    COMPLAINED("they do not fit");
    void* narrow;
    EXPECT(cublasLtMatrixLayoutCreate(&narrow, F32, 16, 12, 15), 0);
    Heuristic result;
    int found = 0;
    EXPECT(cublasLtMatmulAlgoGetHeuristic(blas, desc, a.layout, b.layout, narrow, narrow, preference, 1, &result, &found), 7);
    COMPLAINED("a leading dimension of 15");
    EXPECT(found, 0);
    // An algorithm belongs to its product.
    EXPECT(cublasLtMatmulAlgoGetHeuristic(blas, desc, a.layout, b.layout, d.layout, d.layout, preference, 1, &result, &found), 0);
    void* transposed;
    EXPECT(cublasLtMatmulDescCreate(&transposed, COMPUTE, F32), 0);
    set(transposed, 4, 1);
    const Matrix square(F32, 12, 8, 12);
    EXPECT(product(transposed, a, square, d, 0, &result), 7);
    COMPLAINED("the algorithm was made for another product");
    EXPECT(product(transposed, a, square, d, 0), 0);
    // What is not supported, and an attribute that is not known.
    set(desc, 7, 512);
    EXPECT(product(desc, a, b, d, 0), 15);
    set(desc, 7, (int)BIAS);
    set(desc, 26, (int)BF16);
    EXPECT(product(desc, a, b, d, 0), 15);
    const Matrix bf16_a(BF16, 16, 8, 16);
    set(desc, 7, (int)DEFAULT);
    EXPECT(product(desc, bf16_a, b, d, 0), 15);
    const int value = 0;
    EXPECT(cublasLtMatmulDescSetAttribute(desc, 99, &value, 4), 7);
    EXPECT(cublasLtMatmulDescSetAttribute(desc, 3, &value, 8), 7);
    // D must not be an operand, and a missing bias is found.
    EXPECT(product(desc, a, b, a, 0), 7);
    set(desc, 7, (int)BIAS);
    set(desc, 26, (int)F32);
    EXPECT(product(desc, a, b, d, 0), 7);
}

int main(int count, char** arguments) {
    open_device();
    EXPECT(cublasLtCreate(&blas), 0);
    EXPECT(cublasLtMatmulPreferenceCreate(&preference), 0);
    for (int attribute = 5; attribute < 9; attribute++) {
        const uint32_t bytes = 16;
        EXPECT(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &bytes, 4), 0);
    }
    if (count > 1 && !strcmp(arguments[1], "combinations")) combinations();
    else if (count > 1 && !strcmp(arguments[1], "refusals")) refusals();
    else return 2;
    printf("ok\n");
}
