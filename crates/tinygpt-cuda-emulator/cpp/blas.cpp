// The stand-in for cublasLt: products from the very descriptors that the library would get.
//
// Everything is column-major: D = epilogue(alpha · op(A) · op(B) + beta · C), D of m rows and n columns,
// a matrix of r rows and c columns has element (i, j) at i + j·ld. Sums are f32, in the order of k, the
// same for every number of threads.
#include "device.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include <algorithm>

using device::complain;

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum Type { R_32F = 0, R_16BF = 14 };
enum Compute { COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77 };
enum Epilogue { DEFAULT = 1, BIAS = 4, GELU_AUX_BIAS = 164, DGELU = 192, BGRADA = 256 };
enum DescAttribute { TRANSA = 3, TRANSB = 4, EPILOGUE = 7, BIAS_POINTER = 8, AUX_POINTER = 11, AUX_LD = 12, AUX_TYPE = 22, BIAS_TYPE = 26 };
enum PreferenceAttribute { MOST_WORKSPACE = 1, REDUCTIONS = 3, ALIGNMENT_A = 5, ALIGNMENT_D = 8 };

enum Kind : uint32_t { HANDLE = 0xb1a50001, DESC, LAYOUT, PREFERENCE };

struct Object {
    uint32_t kind;
};

struct Desc : Object {
    int compute, scale, op_a, op_b, epilogue, bias_type, aux_type;
    void *bias, *aux;
    int64_t aux_ld;
};

struct Layout : Object {
    int type;
    uint64_t rows, columns;
    int64_t ld;
};

struct Preference : Object {
    uint64_t workspace;
    uint32_t alignment[4]; // of A, B, C and D, in bytes
};

// The 64 opaque bytes: which product they were made for.
struct Algorithm {
    uint64_t magic, product, alignment[4], unused[2];
};
constexpr uint64_t MAGIC = 0x746c626c6f676c61;

struct Heuristic {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

template <class T>
T* as(const void* handle, Kind kind) {
    T* object = static_cast<T*>(const_cast<void*>(handle));
    return object && object->kind == kind ? object : nullptr;
}

template <class T>
int make(void** handle, T object) {
    *handle = new T(object);
    return SUCCESS;
}

int destroy(const char* name, void* handle, Kind kind) {
    if (const int code = device::enter(name, INVALID_VALUE)) return code;
    Object* object = as<Object>(handle, kind);
    if (!object) return INVALID_VALUE;
    object->kind = 0; // the memory stays, so that a later use is found
    return SUCCESS;
}

template <class T>
int set(T& field, const void* value, size_t bytes) {
    if (bytes != sizeof(T) || !value) return INVALID_VALUE;
    memcpy(&field, value, bytes);
    return SUCCESS;
}

size_t size_of(int type) {
    return type == R_32F ? 4 : 2;
}

// ---- what a product is ----

struct Product {
    uint64_t m, n, k;
    int compute, epilogue;
    bool transpose_a, transpose_b;
    int type_ab, type_d, type_c, type_bias, type_aux;
    int64_t lda, ldb, ldc, ldd, ld_aux;
};

// Checks what cublasLt checks before it looks for an algorithm.
int read_product(const Desc* desc, const Layout* a, const Layout* b, const Layout* c, const Layout* d, Product& product) {
    if (!desc || !a || !b || !c || !d) return INVALID_VALUE;
    Product p = {};
    p.transpose_a = desc->op_a == 1;
    p.transpose_b = desc->op_b == 1;
    p.m = d->rows;
    p.n = d->columns;
    p.k = p.transpose_a ? a->rows : a->columns;
    const bool fit = (p.transpose_a ? a->columns : a->rows) == p.m && (p.transpose_b ? b->columns : b->rows) == p.k
        && (p.transpose_b ? b->rows : b->columns) == p.n && c->rows == p.m && c->columns == p.n;
    if (!fit) {
        complain("cublasLt: op(A) is %llu x %llu, op(B) %llu x %llu, C %llu x %llu, D %llu x %llu: they do not fit",
                 (unsigned long long)(p.transpose_a ? a->columns : a->rows), (unsigned long long)p.k,
                 (unsigned long long)(p.transpose_b ? b->columns : b->rows),
                 (unsigned long long)(p.transpose_b ? b->rows : b->columns), (unsigned long long)c->rows,
                 (unsigned long long)c->columns, (unsigned long long)d->rows, (unsigned long long)d->columns);
        return INVALID_VALUE;
    }
    const struct {
        const char* name;
        const Layout* layout;
    } operands[] = {{"A", a}, {"B", b}, {"C", c}, {"D", d}};
    for (const auto& [name, layout] : operands) {
        if (layout->ld >= 0 && uint64_t(layout->ld) >= layout->rows && layout->rows > 0 && layout->columns > 0) continue;
        complain("cublasLt: %s has %llu rows and %llu columns and a leading dimension of %lld", name,
                 (unsigned long long)layout->rows, (unsigned long long)layout->columns, (long long)layout->ld);
        return INVALID_VALUE;
    }
    p.compute = desc->compute;
    p.epilogue = desc->epilogue;
    p.type_ab = a->type;
    p.type_c = c->type;
    p.type_d = d->type;
    p.type_bias = desc->bias_type < 0 ? d->type : desc->bias_type;
    p.type_aux = desc->aux_type < 0 ? d->type : desc->aux_type;
    p.lda = a->ld;
    p.ldb = b->ld;
    p.ldc = c->ld;
    p.ldd = d->ld;
    p.ld_aux = desc->aux_ld;
    const bool known_types = (a->type == R_32F || a->type == R_16BF) && a->type == b->type
        && (d->type == R_32F || (d->type == R_16BF && a->type == R_16BF)) && c->type == d->type;
    const bool known_compute = (p.compute == COMPUTE_32F || (p.compute == COMPUTE_32F_FAST_TF32 && a->type == R_32F)) && desc->scale == R_32F;
    bool known_epilogue = p.epilogue == DEFAULT || p.epilogue == BIAS || p.epilogue == GELU_AUX_BIAS || p.epilogue == DGELU || p.epilogue == BGRADA;
    // A vector of biases has the type of D.
    const bool has_vector = p.epilogue == BIAS || p.epilogue == GELU_AUX_BIAS || p.epilogue == BGRADA;
    if (has_vector && p.type_bias != d->type) known_epilogue = false;
    if (p.epilogue == GELU_AUX_BIAS || p.epilogue == DGELU) {
        if (p.type_aux != d->type) known_epilogue = false;
        if (p.ld_aux < int64_t(p.m) || p.ld_aux % 8 != 0) {
            complain("cublasLt: the leading dimension %lld of the auxiliary matrix has to be a multiple of 8, at least %llu",
                     (long long)p.ld_aux, (unsigned long long)p.m);
            return INVALID_VALUE;
        }
    }
    if (!known_types || !known_compute || !known_epilogue) {
        complain("cublasLt: types A %d, B %d, C %d, D %d, bias %d, compute %d, scale %d, epilogue %d: not supported here", a->type,
                 b->type, c->type, d->type, p.type_bias, p.compute, desc->scale, p.epilogue);
        return NOT_SUPPORTED;
    }
    product = p;
    return SUCCESS;
}

uint64_t hash_of(const Product& p) {
    const uint64_t words[] = {p.m, p.n, p.k, uint64_t(p.compute), uint64_t(p.epilogue), p.transpose_a, p.transpose_b,
                              uint64_t(p.type_ab), uint64_t(p.type_d), uint64_t(p.lda), uint64_t(p.ldb), uint64_t(p.ldc),
                              uint64_t(p.ldd), uint64_t(p.ld_aux)};
    uint64_t h = 0xcbf29ce484222325u;
    for (uint64_t word : words) h = (h ^ word) * 0x9e3779b97f4a7c15u, h ^= h >> 29;
    return h;
}

// ---- numbers ----

float from_bf16(uint16_t bits) {
    const uint32_t word = uint32_t(bits) << 16;
    float x;
    memcpy(&x, &word, 4);
    return x;
}

uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7fff;
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float to_tf32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7f800000) != 0x7f800000) bits = (bits + 0x1000) & 0xffffe000u;
    memcpy(&x, &bits, 4);
    return x;
}

float load(const void* base, int type, size_t i) {
    if (type == R_32F) return static_cast<const float*>(base)[i];
    return from_bf16(static_cast<const uint16_t*>(base)[i]);
}

void store(void* base, int type, size_t i, float x) {
    if (type == R_32F) static_cast<float*>(base)[i] = x;
    else static_cast<uint16_t*>(base)[i] = to_bf16(x);
}

constexpr float SQRT_2_OVER_PI = 0.7978845608028654f, CUBIC = 0.044715f;

float gelu(float x) {
    return 0.5f * x * (1.0f + tanhf(SQRT_2_OVER_PI * (x + CUBIC * x * x * x)));
}

float gelu_derivative(float x) {
    const float t = tanhf(SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * SQRT_2_OVER_PI * (1.0f + 3.0f * CUBIC * x * x);
}

// ---- the product ----

// Tiles: ROWS x COLUMNS sums stay in registers while k runs.
constexpr int ROWS = 16, COLUMNS = 4;
typedef float Vector __attribute__((vector_size(32)));
constexpr int VECTORS = ROWS * 4 / sizeof(Vector);

struct Task {
    const Product* product;
    const void *a, *b, *c;
    void *d, *bias, *aux;
    float alpha, beta;
    const float* packed_a; // op(A) as f32, in strips of ROWS rows: strip, k, row
    uint64_t from, to; // columns of D
};

#define INLINE inline __attribute__((always_inline))

INLINE void tile(const float* a, const float* b, uint64_t depth, float (*sum)[ROWS]) {
    Vector total[COLUMNS][VECTORS];
    memcpy(total, sum, sizeof total);
    for (uint64_t k = 0; k < depth; k++) {
        Vector left[VECTORS];
        memcpy(left, a + k * ROWS, sizeof left);
        for (int j = 0; j < COLUMNS; j++) {
            for (int v = 0; v < VECTORS; v++) total[j][v] += left[v] * b[k * COLUMNS + j];
        }
    }
    memcpy(sum, total, sizeof total);
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) void tile_avx2(const float* a, const float* b, uint64_t depth, float (*sum)[ROWS]) {
    tile(a, b, depth, sum);
}
#endif
void tile_plain(const float* a, const float* b, uint64_t depth, float (*sum)[ROWS]) {
    tile(a, b, depth, sum);
}

typedef void (*Tile)(const float*, const float*, uint64_t, float (*)[ROWS]);
Tile tile_of_machine() {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return tile_avx2;
#endif
    return tile_plain;
}

float operand(const Product& p, const void* base, bool transposed, int64_t ld, uint64_t row, uint64_t column) {
    const float x = load(base, p.type_ab, transposed ? column + row * uint64_t(ld) : row + column * uint64_t(ld));
    return p.compute == COMPUTE_32F_FAST_TF32 ? to_tf32(x) : x;
}

std::vector<float> pack_a(const Product& p, const void* a) {
    const uint64_t strips = (p.m + ROWS - 1) / ROWS;
    std::vector<float> packed(strips * ROWS * p.k);
    for (uint64_t strip = 0; strip < strips; strip++) {
        float* to = &packed[strip * ROWS * p.k];
        for (uint64_t k = 0; k < p.k; k++) {
            for (uint64_t row = 0; row < ROWS; row++) {
                const uint64_t i = strip * ROWS + row;
                to[k * ROWS + row] = i < p.m ? operand(p, a, p.transpose_a, p.lda, i, k) : 0.0f;
            }
        }
    }
    return packed;
}

void finish_element(const Task& task, uint64_t i, uint64_t j, float sum) {
    const Product& p = *task.product;
    float x = task.alpha * sum;
    if (task.beta != 0.0f) x += task.beta * load(task.c, p.type_c, i + j * uint64_t(p.ldc));
    if (p.epilogue == BIAS || p.epilogue == GELU_AUX_BIAS) x += load(task.bias, p.type_bias, i);
    const uint64_t at_aux = i + j * uint64_t(p.ld_aux);
    if (p.epilogue == GELU_AUX_BIAS) {
        store(task.aux, p.type_aux, at_aux, x);
        x = gelu(x);
    }
    if (p.epilogue == DGELU) x *= gelu_derivative(load(task.aux, p.type_aux, at_aux));
    store(task.d, p.type_d, i + j * uint64_t(p.ldd), x);
}

void* run_columns(void* argument) {
    const Task& task = *static_cast<Task*>(argument);
    const Product& p = *task.product;
    const Tile tile = tile_of_machine();
    const uint64_t strips = (p.m + ROWS - 1) / ROWS;
    std::vector<float> packed_b(p.k * COLUMNS), sums(strips * COLUMNS * ROWS);
    for (uint64_t column = task.from; column < task.to; column += COLUMNS) {
        for (uint64_t k = 0; k < p.k; k++) {
            for (uint64_t j = 0; j < COLUMNS; j++) {
                packed_b[k * COLUMNS + j] = column + j < task.to ? operand(p, task.b, p.transpose_b, p.ldb, k, column + j) : 0.0f;
            }
        }
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (uint64_t strip = 0; strip < strips; strip++) {
            float(*sum)[ROWS] = reinterpret_cast<float(*)[ROWS]>(&sums[strip * COLUMNS * ROWS]);
            tile(task.packed_a + strip * ROWS * p.k, packed_b.data(), p.k, sum);
            for (uint64_t j = 0; j < COLUMNS && column + j < task.to; j++) {
                for (uint64_t row = 0; row < ROWS && strip * ROWS + row < p.m; row++) {
                    finish_element(task, strip * ROWS + row, column + j, sum[j][row]);
                }
            }
        }
    }
    return nullptr;
}

void multiply(Task task) {
    const Product& p = *task.product;
    const std::vector<float> packed = pack_a(p, task.a);
    task.packed_a = packed.data();
    const uint64_t work = p.m * p.n * p.k;
    uint64_t parts = work < (uint64_t(1) << 22) ? 1 : device::host_threads();
    std::vector<Task> tasks;
    const uint64_t columns = ((p.n + parts - 1) / parts + COLUMNS - 1) / COLUMNS * COLUMNS;
    for (uint64_t from = 0; from < p.n; from += columns) {
        task.from = from;
        task.to = from + columns < p.n ? from + columns : p.n;
        tasks.push_back(task);
    }
    std::vector<pthread_t> threads;
    for (size_t i = 1; i < tasks.size(); i++) {
        pthread_t thread;
        if (pthread_create(&thread, nullptr, run_columns, &tasks[i]) == 0) threads.push_back(thread);
        else run_columns(&tasks[i]);
    }
    run_columns(&tasks[0]);
    for (pthread_t thread : threads) pthread_join(thread, nullptr);
    if (p.epilogue != BGRADA) return;
    // The sum of each row of op(A).
    for (uint64_t i = 0; i < p.m; i++) {
        float sum = 0.0f;
        for (uint64_t k = 0; k < p.k; k++) {
            sum += load(task.a, p.type_ab, p.transpose_a ? k + i * uint64_t(p.lda) : i + k * uint64_t(p.lda));
        }
        store(task.bias, p.type_bias, i, sum);
    }
}

// ---- pointers ----

bool check_matrix(const char* name, const void* base, int type, uint64_t rows, uint64_t columns, int64_t ld, uint64_t alignment) {
    if (reinterpret_cast<uintptr_t>(base) % alignment) {
        complain("cublasLtMatmul: %s at %p is not aligned to the %llu bytes of the plan", name, base, (unsigned long long)alignment);
        return false;
    }
    const uint64_t elements = (columns - 1) * uint64_t(ld) + rows;
    return device::check_region("cublasLtMatmul", name, base, elements * size_of(type));
}

bool overlap(const void* a, size_t a_bytes, const void* b, size_t b_bytes) {
    const uintptr_t first = reinterpret_cast<uintptr_t>(a), second = reinterpret_cast<uintptr_t>(b);
    return first < second + b_bytes && second < first + a_bytes;
}

} // namespace

extern "C" {

size_t cublasLtGetVersion() {
    return device::number_of_environment("TINYGPT_EMULATOR_CUBLAS", 130000);
}

int cublasLtCreate(void** handle) {
    if (const int code = device::enter("cublasLtCreate", NOT_INITIALIZED)) return code;
    return make(handle, Object{HANDLE});
}

int cublasLtDestroy(void* handle) {
    return destroy("cublasLtDestroy", handle, HANDLE);
}

int cublasLtMatmulDescCreate(void** handle, int compute, int scale) {
    if (const int code = device::enter("cublasLtMatmulDescCreate", ALLOC_FAILED)) return code;
    return make(handle, Desc{{DESC}, compute, scale, 0, 0, DEFAULT, -1, -1, nullptr, nullptr, 0});
}

int cublasLtMatmulDescDestroy(void* handle) {
    return destroy("cublasLtMatmulDescDestroy", handle, DESC);
}

int cublasLtMatmulDescSetAttribute(void* handle, int attribute, const void* value, size_t bytes) {
    if (const int code = device::enter("cublasLtMatmulDescSetAttribute", INVALID_VALUE)) return code;
    Desc* desc = as<Desc>(handle, DESC);
    if (!desc) return INVALID_VALUE;
    switch (attribute) {
    case TRANSA: return set(desc->op_a, value, bytes);
    case TRANSB: return set(desc->op_b, value, bytes);
    case EPILOGUE: return set(desc->epilogue, value, bytes);
    case BIAS_POINTER: return set(desc->bias, value, bytes);
    case BIAS_TYPE: return set(desc->bias_type, value, bytes);
    case AUX_POINTER: return set(desc->aux, value, bytes);
    case AUX_LD: return set(desc->aux_ld, value, bytes);
    case AUX_TYPE: return set(desc->aux_type, value, bytes);
    default: complain("cublasLtMatmulDescSetAttribute: attribute %d is not known here", attribute); return INVALID_VALUE;
    }
}

int cublasLtMatrixLayoutCreate(void** handle, int type, uint64_t rows, uint64_t columns, int64_t ld) {
    if (const int code = device::enter("cublasLtMatrixLayoutCreate", ALLOC_FAILED)) return code;
    return make(handle, Layout{{LAYOUT}, type, rows, columns, ld});
}

int cublasLtMatrixLayoutDestroy(void* handle) {
    return destroy("cublasLtMatrixLayoutDestroy", handle, LAYOUT);
}

int cublasLtMatmulPreferenceCreate(void** handle) {
    if (const int code = device::enter("cublasLtMatmulPreferenceCreate", ALLOC_FAILED)) return code;
    return make(handle, Preference{{PREFERENCE}, 0, {256, 256, 256, 256}});
}

int cublasLtMatmulPreferenceDestroy(void* handle) {
    return destroy("cublasLtMatmulPreferenceDestroy", handle, PREFERENCE);
}

int cublasLtMatmulPreferenceSetAttribute(void* handle, int attribute, const void* value, size_t bytes) {
    if (const int code = device::enter("cublasLtMatmulPreferenceSetAttribute", INVALID_VALUE)) return code;
    Preference* preference = as<Preference>(handle, PREFERENCE);
    if (!preference) return INVALID_VALUE;
    if (attribute == MOST_WORKSPACE) return set(preference->workspace, value, bytes);
    if (attribute == REDUCTIONS) return bytes == 4 ? SUCCESS : INVALID_VALUE;
    if (attribute >= ALIGNMENT_A && attribute <= ALIGNMENT_D) return set(preference->alignment[attribute - ALIGNMENT_A], value, bytes);
    complain("cublasLtMatmulPreferenceSetAttribute: attribute %d is not known here", attribute);
    return INVALID_VALUE;
}

int cublasLtMatmulAlgoGetHeuristic(void* handle, void* desc, void* a, void* b, void* c, void* d, void* preference_handle,
                                   int asked, Heuristic* results, int* found) {
    if (const int code = device::enter("cublasLtMatmulAlgoGetHeuristic", NOT_SUPPORTED)) return code;
    const Preference* preference = as<Preference>(preference_handle, PREFERENCE);
    if (!as<Object>(handle, HANDLE) || !preference || asked < 1 || !results || !found) return INVALID_VALUE;
    *found = 0;
    Product product;
    const int status = read_product(as<Desc>(desc, DESC), as<Layout>(a, LAYOUT), as<Layout>(b, LAYOUT), as<Layout>(c, LAYOUT),
                                    as<Layout>(d, LAYOUT), product);
    if (status) return status;
    Heuristic result = {};
    result.algorithm.magic = MAGIC;
    result.algorithm.product = hash_of(product);
    for (int i = 0; i < 4; i++) result.algorithm.alignment[i] = preference->alignment[i] ? preference->alignment[i] : 1;
    result.waves = 1.0f;
    // The algorithms of a card often ask for some.
    result.workspace = preference->workspace < 1024 ? 0 : 1024;
    results[0] = result;
    *found = 1;
    return SUCCESS;
}

int cublasLtMatmul(void* handle, void* desc_handle, const void* alpha, const void* a, void* a_layout, const void* b,
                   void* b_layout, const void* beta, const void* c, void* c_layout, void* d, void* d_layout,
                   const Algorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream) {
    if (const int code = device::enter("cublasLtMatmul", EXECUTION_FAILED)) return code;
    const Desc* desc = as<Desc>(desc_handle, DESC);
    Product p;
    if (!as<Object>(handle, HANDLE) || !alpha || !beta || !a || !b || !d) return INVALID_VALUE;
    const int status = read_product(desc, as<Layout>(a_layout, LAYOUT), as<Layout>(b_layout, LAYOUT), as<Layout>(c_layout, LAYOUT),
                                    as<Layout>(d_layout, LAYOUT), p);
    if (status) return status;
    // Without an algorithm the library asks the heuristic itself, with its own preferences.
    const uint64_t usual[4] = {16, 16, 16, 16};
    if (algorithm && (algorithm->magic != MAGIC || algorithm->product != hash_of(p))) {
        complain("cublasLtMatmul: the algorithm was made for another product");
        return INVALID_VALUE;
    }
    const uint64_t* alignment = algorithm ? algorithm->alignment : usual;
    const float scale_ab = *static_cast<const float*>(alpha), scale_c = *static_cast<const float*>(beta);
    const bool reads_c = scale_c != 0.0f;
    const uint64_t a_rows = p.transpose_a ? p.k : p.m, a_columns = p.transpose_a ? p.m : p.k;
    const uint64_t b_rows = p.transpose_b ? p.n : p.k, b_columns = p.transpose_b ? p.k : p.n;
    if (!check_matrix("A", a, p.type_ab, a_rows, a_columns, p.lda, alignment[0])
        || !check_matrix("B", b, p.type_ab, b_rows, b_columns, p.ldb, alignment[1])
        || (reads_c && (!c || !check_matrix("C", c, p.type_c, p.m, p.n, p.ldc, alignment[2])))
        || !check_matrix("D", d, p.type_d, p.m, p.n, p.ldd, alignment[3])) {
        return INVALID_VALUE;
    }
    const size_t d_bytes = ((p.n - 1) * uint64_t(p.ldd) + p.m) * size_of(p.type_d);
    const size_t a_bytes = ((a_columns - 1) * uint64_t(p.lda) + a_rows) * size_of(p.type_ab);
    const size_t b_bytes = ((b_columns - 1) * uint64_t(p.ldb) + b_rows) * size_of(p.type_ab);
    if (overlap(d, d_bytes, a, a_bytes) || overlap(d, d_bytes, b, b_bytes)) {
        complain("cublasLtMatmul: D overlaps an operand");
        return INVALID_VALUE;
    }
    const bool has_vector = p.epilogue == BIAS || p.epilogue == GELU_AUX_BIAS || p.epilogue == BGRADA;
    if (has_vector && (!desc->bias || !check_matrix("the bias", desc->bias, p.type_bias, p.m, 1, int64_t(p.m), 4))) return INVALID_VALUE;
    const bool has_aux = p.epilogue == GELU_AUX_BIAS || p.epilogue == DGELU;
    if (has_aux && (!desc->aux || !check_matrix("the auxiliary matrix", desc->aux, p.type_aux, p.m, p.n, p.ld_aux, 16))) return INVALID_VALUE;
    if (workspace_bytes > 0 && !device::check_region("cublasLtMatmul", "the workspace", workspace, workspace_bytes)) return INVALID_VALUE;
    Task task = {nullptr, a, b, c, d, desc->bias, desc->aux, scale_ab, scale_c, nullptr, 0, 0};
    return device::submit(stream, {"cublasLtMatmul", [=] {
        Task mine = task;
        mine.product = &p;
        multiply(mine);
        // Nobody may rely on what a workspace holds.
        if (workspace_bytes > 0) memset(workspace, 0xff, workspace_bytes < 1024 ? workspace_bytes : 1024);
        return device::SUCCESS;
    }}) ? EXECUTION_FAILED : SUCCESS;
}

} // extern "C"
