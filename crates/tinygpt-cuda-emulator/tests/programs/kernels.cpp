// Small kernels, each of which shows one rule. The argument names the case; what goes wrong is printed by
// the launch, what is right is compared here and ends with "ok".
#include "emulated.h"

#include <vector>

#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) printf("%s:%d: %s\n", __FILE__, __LINE__, #condition), exit(3);   \
    } while (0)

struct Args {
    float* out;
    const float* in;
    u32 what;
};

static u64 state = 1;
static float noise() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return float(i32(state >> 40) - (1 << 23)) / float(1 << 23);
}

// ---- tensor cores ----

struct ProductArgs {
    float* d;
    const float *a, *b; // of the whole tile, row by row
};

KERNEL(product_bf16, ProductArgs, 64, 1) {
    const u32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warp = threadIdx.x / 32;
    const float *a = p.a + warp * 256, *b = p.b + warp * 128;
    u32 left[4], right[2];
    for (u32 i = 0; i < 4; i++) {
        const float* pair = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
        left[i] = pack_bf16(pair[0], pair[1]);
    }
    for (u32 i = 0; i < 2; i++) right[i] = pack_bf16(b[(2 * t + 8 * i) * 8 + g], b[(2 * t + 8 * i + 1) * 8 + g]);
    float d[4];
    for (u32 i = 0; i < 4; i++) d[i] = p.d[warp * 128 + (g + i / 2 * 8) * 8 + 2 * t + i % 2];
    mma_bf16(d, left, right);
    for (u32 i = 0; i < 4; i++) p.d[warp * 128 + (g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

KERNEL(product_tf32, ProductArgs, 64, 1) {
    const u32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warp = threadIdx.x / 32;
    const float *a = p.a + warp * 128, *b = p.b + warp * 64;
    u32 left[4], right[2];
    for (u32 i = 0; i < 4; i++) left[i] = to_tf32(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
    for (u32 i = 0; i < 2; i++) right[i] = to_tf32(b[(t + 4 * i) * 8 + g]);
    float d[4];
    for (u32 i = 0; i < 4; i++) d[i] = p.d[warp * 128 + (g + i / 2 * 8) * 8 + 2 * t + i % 2];
    mma_tf32(d, left, right);
    for (u32 i = 0; i < 4; i++) p.d[warp * 128 + (g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

static float rounded(float x, bool bf16_type) {
    return bf16_type ? to_float(to_bf16(x)) : __uint_as_float(to_tf32(x));
}

static void products(bool bf16_type) {
    const int k = bf16_type ? 16 : 8;
    std::vector<float> a(2 * 16 * k), b(2 * k * 8), d(2 * 128);
    for (auto* values : {&a, &b, &d}) {
        for (float& x : *values) x = noise();
    }
    const std::vector<float> before = d;
    const ProductArgs args = {d.data(), a.data(), b.data()};
    if (bf16_type) emulated_launch(dim3(1), dim3(64), 0, product_bf16, args);
    else emulated_launch(dim3(1), dim3(64), 0, product_tf32, args);
    for (int warp = 0; warp < 2; warp++) {
        for (int i = 0; i < 128; i++) {
            double sum = before[warp * 128 + i];
            for (int j = 0; j < k; j++) {
                sum += double(rounded(a[(warp * 16 + i / 8) * k + j], bf16_type)) * rounded(b[(warp * k + j) * 8 + i % 8], bf16_type);
            }
            CHECK(fabs(d[warp * 128 + i] - sum) < 1e-5);
        }
    }
}

KERNEL(not_rounded, Args, 32, 1) {
    const u32 one = __float_as_uint(1.0f + 0x1p-11f); // tf32 has 10 bits of mantissa
    const u32 a[4] = {one, one, one, one}, b[2] = {__float_as_uint(1.0f), 0};
    float d[4] = {};
    mma_tf32(d, a, b);
    p.out[threadIdx.x] = d[0];
}

// ---- ldmatrix ----

KERNEL(matrices, Args, 32, 1) {
    DYNAMIC_SHARED(u16, tile); // four matrices of 8 x 8, row by row: element = its index
    for (u32 i = threadIdx.x; i < 256; i += 32) tile[i] = u16(i);
    __syncthreads();
    const u32 lane = threadIdx.x;
    u32 r[4], right[2];
    if (p.what == 0) ldmatrix_x4(r, tile + lane * 8);
    if (p.what == 1) ldmatrix_x4_trans(r, tile + lane * 8);
    if (p.what == 2) ldmatrix_x2(right, tile + lane % 16 * 8);
    if (p.what == 3) ldmatrix_x2_trans(right, tile + lane % 16 * 8);
    if (p.what == 4) ldmatrix_x4(r, p.in);
    if (p.what == 5) ldmatrix_x4(r, tile + lane * 8 + 1);
    for (u32 i = 0; i < (p.what < 2 ? 4u : 2u); i++) {
        const u32 word = p.what < 2 ? r[i] : right[i];
        p.out[(lane * 4 + i) * 2] = float(word & 0xffff);
        p.out[(lane * 4 + i) * 2 + 1] = float(word >> 16);
    }
}

static void ldmatrix_layouts() {
    std::vector<float> out(256);
    for (u32 what = 0; what < 4; what++) {
        emulated_launch(dim3(1), dim3(32), 512, matrices, (Args{out.data(), nullptr, what}));
        for (u32 lane = 0; lane < 32; lane++) {
            for (u32 i = 0; i < (what < 2 ? 4u : 2u); i++) {
                for (u32 half = 0; half < 2; half++) {
                    const u32 row = lane / 4, column = 2 * (lane % 4) + half;
                    const u32 expected = i * 64 + (what % 2 ? column * 8 + row : row * 8 + column);
                    CHECK(out[(lane * 4 + i) * 2 + half] == float(expected));
                }
            }
        }
    }
}

// ---- cp.async ----

KERNEL(copies, Args, 32, 1) {
    DYNAMIC_SHARED(float, tile);
    const u32 lane = threadIdx.x;
    float* mine = tile + lane * 12;
    for (u32 i = 0; i < 12; i++) mine[i] = 7.0f; // of an earlier round
    cp_async16(mine, p.in + lane * 8, true);
    cp_async_commit();
    cp_async16(mine + 4, p.in + lane * 8 + 4, true);
    cp_async16(mine + 8, nullptr, false);
    cp_async_commit();
    if (p.what == 1) cp_async_wait<1>();
    if (p.what == 2) cp_async_wait<0>();
    if (p.what == 3) {
        cp_async_wait<0>();
        __syncwarp();
    }
    const float* seen = p.what == 4 ? tile + (lane + 1) % 32 * 12 : mine;
    if (p.what == 4) cp_async_wait<0>(); // waits for its own copies and reads another lane's
    for (u32 i = 0; i < 12; i++) p.out[lane * 12 + i] = seen[i];
}

static void copy_waits() {
    std::vector<float> in(256), out(32 * 12);
    for (u32 i = 0; i < 256; i++) in[i] = float(i + 1);
    for (u32 what = 0; what < 5; what++) {
        emulated_launch(dim3(1), dim3(32), 32 * 12 * 4, copies, (Args{out.data(), in.data(), what}));
        u32 poisoned = 0;
        for (u32 i = 0; i < 32 * 12; i++) {
            const u32 lane = i / 12, j = i % 12;
            if (isnan(out[i])) poisoned++;
            else if (what < 4) CHECK(out[i] == (j < 8 ? in[lane * 8 + j] : 0.0f));
        }
        if (what == 0) CHECK(poisoned == 32 * 12);
        if (what == 1) CHECK(poisoned == 32 * 8);
        if (what == 2 || what == 3) CHECK(poisoned == 0);
        if (what == 4) CHECK(poisoned > 0);
    }
}

// ---- warps ----

KERNEL(warps, Args, 32, 1) {
    const u32 lane = threadIdx.x;
    const float x = float(lane);
    const u32 all = 0xffffffffu;
    CHECK(__shfl_xor_sync(all, x, 5) == float(lane ^ 5));
    CHECK(__shfl_sync(all, x, 7) == 7.0f);
    CHECK(__shfl_sync(all, lane, 31 - lane) == 31 - lane);
    CHECK(__shfl_down_sync(all, i32(lane), 4) == i32(lane < 28 ? lane + 4 : lane));
    CHECK(__ballot_sync(all, lane % 3 == 0) == 0x49249249u);
    // Halves of a warp can meet apart.
    if (lane < 16) CHECK(__ballot_sync(0xffffu, lane < 4) == 0xfu);
    else CHECK(__ballot_sync(0xffff0000u, lane < 20) == 0xf0000u);
    if (lane < 8) CHECK(isnan(__shfl_xor_sync(0xffu, x, 8))); // lane + 8 does not take part
    p.out[lane] = 1.0f;
}

KERNEL(last_lane_returns, Args, 32, 1) {
    if (threadIdx.x == 31) return;
    p.out[threadIdx.x] = float(__ballot_sync(0xffffffffu, true) == 0x7fffffffu);
}

// ---- barriers and memory ----

KERNEL(neighbours, Args, 256, 1) {
    __shared__ float fixed[256];
    DYNAMIC_SHARED(float, tile);
    const u32 i = threadIdx.x;
    tile[i] = fixed[i] = float(i + blockIdx.x);
    if (p.what) __syncthreads();
    const float left = tile[(i + 255) % 256], right = fixed[(i + 1) % 256];
    p.out[blockIdx.x * 256 + i] = left + right;
}

KERNEL(unwritten, Args, 64, 1) {
    __shared__ float fixed[64];
    DYNAMIC_SHARED(float, tile);
    const float found = tile[threadIdx.x], also = fixed[threadIdx.x];
    tile[threadIdx.x] = fixed[threadIdx.x] = 1.0f;
    p.out[blockIdx.x * 64 + threadIdx.x] = isnan(found) && isnan(also) ? 1.0f : 0.0f;
}

struct Wide {
    float values[40];
};

__attribute__((noinline)) static float deep(const Args& p, u32 levels) {
    volatile float frame[1000];
    for (u32 i = 0; i < 1000; i++) frame[i] = float(levels);
    return levels == 0 ? frame[999] : frame[levels % 1000] + deep(p, levels - 1);
}

KERNEL(wrong, Args, 64, 1) {
    DYNAMIC_SHARED(float, tile);
    const u32 i = threadIdx.x;
    tile[i] = 0.0f;
    switch (p.what) {
    case 0: // one thread waits for its warp, the others for the block
        if (i == 5) __syncwarp();
        else __syncthreads();
        break;
    case 1:
        if (i < 32) __syncthreads();
        else
            __syncthreads();
        break;
    case 2:
        if (i == 40) return;
        __syncthreads();
        break;
    case 3: tile[i + 1] = 1.0f; break;
    case 4: p.out[1 << 20] = 1.0f; break;
    case 5: p.out[i] = deep(p, 1000); break;
    case 6: {
        volatile u32 zero = 0;
        p.out[i] = float(7 / zero);
        break;
    }
    case 7: abort();
    case 8: load16(tile + 1); break;
    case 9: __shfl_sync(0xfu, 1.0f, 0); break;
    case 10:
        if (i < 31) __syncwarp(0x7fffffffu);
        else if (i == 31) return;
        {
            float d[4] = {};
            const u32 a[4] = {}, b[2] = {};
            mma_bf16(d, a, b);
        }
        break;
    case 11: cp_async16(p.out + 4 * i, p.in, false); break;
    case 13: tile[i32(i) - 1] = 1.0f; break;
    case 12: reinterpret_cast<u8*>(tile)[257] = 1; break; // between the end and the next multiple of 16
    }
}

static int wrong_case(u32 what, size_t shared_bytes, u32 threads) {
    // The end of the array is the end of the pages.
    float* out = static_cast<float*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    emulated_launch(dim3(2), dim3(threads), shared_bytes, wrong, (Args{out, nullptr, what}));
    printf("ok\n");
    return 0;
}

int main(int count, char** arguments) {
    if (count < 2) return 2;
    const char* name = arguments[1];
    const u32 what = count > 2 ? u32(atoi(arguments[2])) : 0;
    std::vector<float> out(8 * 256);
    if (!strcmp(name, "products")) products(true), products(false);
    else if (!strcmp(name, "not_rounded")) {
        emulated_launch(dim3(1), dim3(32), 0, not_rounded, (Args{out.data(), nullptr, 0}));
        CHECK(out[0] == 4.0f); // and not 4 + 2^-9
    } else if (!strcmp(name, "ldmatrix")) ldmatrix_layouts();
    else if (!strcmp(name, "ldmatrix_wrong")) {
        emulated_launch(dim3(1), dim3(32), 512, matrices, (Args{out.data(), out.data(), what}));
    } else if (!strcmp(name, "copies")) copy_waits();
    else if (!strcmp(name, "warps")) {
        emulated_launch(dim3(1), dim3(32), 0, warps, (Args{out.data(), nullptr, 0}));
        emulated_launch(dim3(1), dim3(32), 0, last_lane_returns, (Args{out.data() + 32, nullptr, 0}));
        for (u32 i = 0; i < 63; i++) CHECK(out[i] == 1.0f);
    } else if (!strcmp(name, "neighbours")) {
        emulated_launch(dim3(8), dim3(256), 1024, neighbours, (Args{out.data(), nullptr, what}));
        u64 hash = 0;
        for (float x : out) hash = hash * 31 + __float_as_uint(x);
        printf("%llx\n", hash);
    } else if (!strcmp(name, "unwritten")) {
        emulated_launch(dim3(8), dim3(64), 256, unwritten, (Args{out.data(), nullptr, 0}));
        for (u32 i = 0; i < 512; i++) CHECK(out[i] == 1.0f);
    } else if (!strcmp(name, "wrong")) return wrong_case(what, what == 12 ? 257 : 256, 64);
    else if (!strcmp(name, "too_many_threads")) return wrong_case(99, 256, 65);
    else if (!strcmp(name, "wrong_arguments")) emulated_launch(dim3(1), dim3(32), 0, warps, Wide{});
    else return 2;
    printf("ok\n");
}
