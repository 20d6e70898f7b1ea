// What every kernel is written in: the types, the instructions and the few helpers that all of them use.
//
// A kernel file includes this one first and then compiles in two ways, unchanged:
//
//  - by NVRTC, for a card: the functions below are single PTX instructions. NVRTC has no system headers,
//    so nothing here includes one, and bf16 is a struct of 16 bits with conversions of our own;
//  - by the host's C++ compiler with TINYGPT_EMULATED, for a test: `emulated.h` gives the same names as
//    plain functions and runs the threads of a block as fibers.
//
// A kernel takes one struct by value, so the Rust side has one `#[repr(C)]` struct per kernel and a
// launch copies it once. Defines that choose the variant: ACT_BF16, STREAM_BF16, FAST_MATH, C, HEAD_DIM.
#ifndef TINYGPT_DEVICE_CUH
#define TINYGPT_DEVICE_CUH

#ifdef TINYGPT_EMULATED
#define DEVICE inline __attribute__((always_inline))
#define UNROLL
#define UNROLL_BY(n)
#include "emulated.h"

DEVICE float float_of_bits(u32 bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}
DEVICE u32 bits_of_float(float x) {
    u32 bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}
DEVICE float rcp_approx(float x) {
    return 1.0f / x;
}
DEVICE void hide(u32x4&) {
}
DEVICE u32x4 load_global16(const void* address) {
    return load16(address);
}
DEVICE void store_global16(void* address, u32x4 v) {
    store16(address, v);
}
#else
#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define UNROLL_TEXT(text) _Pragma(#text)
#define UNROLL_BY(n) UNROLL_TEXT(unroll n)

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;

#define KERNEL(name, Args, threads, min_blocks) \
    extern "C" __global__ void __launch_bounds__(threads, min_blocks) name(const __grid_constant__ Args p)

// The block's dynamic shared memory. All kernels of a module share the one symbol.
#define DYNAMIC_SHARED(type, name) \
    extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[]; \
    type* name = reinterpret_cast<type*>(dynamic_shared_bytes)

// ---- bf16: the upper half of an f32 ----

struct bf16 {
    u16 bits;
};

// Two f32 to two bf16, rounded to nearest even; `low` lies at the lower address.
DEVICE u32 pack_bf16(float low, float high) {
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

DEVICE bf16 to_bf16(float x) {
    bf16 rounded;
    rounded.bits = (u16)pack_bf16(x, 0.0f);
    return rounded;
}

DEVICE float to_float(bf16 x) {
    return __uint_as_float((u32)x.bits << 16);
}
DEVICE float to_float(float x) {
    return x;
}

DEVICE float float_of_bits(u32 bits) {
    return __uint_as_float(bits);
}
DEVICE u32 bits_of_float(float x) {
    return __float_as_uint(x);
}

// ---- 16-byte accesses: one instruction a thread, 512 contiguous bytes a warp ----

struct alignas(16) u32x4 {
    u32 x, y, z, w;
};

DEVICE u32x4 load16(const void* address) {
    const uint4 v = *static_cast<const uint4*>(address);
    return u32x4{v.x, v.y, v.z, v.w};
}

DEVICE void store16(void* address, u32x4 v) {
    *static_cast<uint4*>(address) = make_uint4(v.x, v.y, v.z, v.w);
}

// The same for global memory only, and always that one instruction, at this place: the compiler otherwise moves a
// load down to its use, behind the branches between them, and then one load waits for the other.
DEVICE u32x4 load_global16(const void* address) {
    u32x4 v;
    asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(__cvta_generic_to_global(address)) : "memory");
    return v;
}

DEVICE void store_global16(void* address, u32x4 v) {
    asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};"
                 :: "l"(__cvta_generic_to_global(address)), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// Makes the compiler forget what it knows of `v`: it then computes from the 4 registers again instead of
// keeping the results of the last time in more of them.
DEVICE void hide(u32x4& v) {
    asm volatile("" : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w));
}

// ---- approximations of the special function unit, relative error about 2^-22, tanh 2^-11 ----

// Results below 2^-126 become 0.
DEVICE float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 1 / x, relative error about 2^-23.
DEVICE float rcp_approx(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float tanh_approx(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- tensor cores ----
//
// Fragments of m16n8k16, with group = lane / 4 and pair = lane % 4: a[0] holds row `group`, columns 2·pair
// and 2·pair + 1; a[1] the same of row group + 8; a[2] and a[3] the same of columns + 8. b[0] holds column
// `group`, rows 2·pair and 2·pair + 1; b[1] rows + 8. d[0], d[1]: row `group`, columns 2·pair and
// 2·pair + 1; d[2], d[3]: row group + 8.

// d (16 x 8) += a (16 x 16) · b (16 x 8).
DEVICE void mma_bf16(float d[4], const u32 a[4], const u32 b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// An f32 rounded to tf32 (10 bits of mantissa), ties away from zero.
DEVICE u32 to_tf32(float x) {
    u32 rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
}

// d (16 x 8) += a (16 x 8) · b (8 x 8); the operands come from to_tf32. a[0]: row `group`, column `pair`;
// a[1]: row + 8; a[2], a[3]: column + 4. b[0]: row `pair`, column `group`; b[1]: row + 4.
DEVICE void mma_tf32(float d[4], const u32 a[4], const u32 b[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE u32 shared_address(const void* pointer) {
    return (u32)__cvta_generic_to_shared(pointer);
}

// Each lane names a row of 16 bytes: lanes 0 to 7 those of the first 8 x 8 matrix, 8 to 15 of the second.
// Register i of a lane then holds the elements 2·(lane % 4), 2·(lane % 4) + 1 of row lane / 4 of matrix i
// (of column lane / 4 with _trans).
DEVICE void ldmatrix_x4(u32 r[4], const void* shared_row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(shared_row)) : "memory");
}
DEVICE void ldmatrix_x4_trans(u32 r[4], const void* shared_row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(shared_row)) : "memory");
}
DEVICE void ldmatrix_x2(u32 r[2], const void* shared_row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(shared_row)) : "memory");
}
DEVICE void ldmatrix_x2_trans(u32 r[2], const void* shared_row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(shared_row)) : "memory");
}

// ---- copies that run while the thread computes ----

// 16 bytes from global to shared memory; zeros if not `valid`, and the source is not read then.
DEVICE void cp_async16(void* shared, const void* global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0) : "memory");
}
DEVICE void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most the N newest groups of this thread are still under way.
template <int N>
DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
}

#endif // TINYGPT_EMULATED

template <class T>
DEVICE T from_float(float x);
template <>
DEVICE float from_float<float>(float x) {
    return x;
}
template <>
DEVICE bf16 from_float<bf16>(float x) {
    return to_bf16(x);
}

// ---- for both ----

// The type of activations and of the weights that products read.
#if ACT_BF16
typedef bf16 act_t;
#else
typedef float act_t;
#endif

// The type of the residual stream.
#if STREAM_BF16
typedef bf16 stream_t;
#else
typedef float stream_t;
#endif

#define ALL_LANES 0xffffffffu

// The sum of the 32 lanes, in every lane, always added in the same tree.
DEVICE float warp_sum(float x) {
    UNROLL
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}

DEVICE float warp_max(float x) {
    UNROLL
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

// Eight neighbouring elements as they lie in global memory, from the address of a multiple of 8 elements: one
// 16-byte access for bf16, two for f32. A loop that loads first and unpacks later has its loads under way together.
template <class T>
struct Raw8;
template <>
struct Raw8<bf16> {
    u32x4 v;
};
template <>
struct Raw8<float> {
    u32x4 low, high;
};

DEVICE Raw8<bf16> load_raw8(const bf16* address) {
    return Raw8<bf16>{load_global16(address)};
}
DEVICE Raw8<float> load_raw8(const float* address) {
    return Raw8<float>{load_global16(address), load_global16(address + 4)};
}

DEVICE void unpack8(float x[8], Raw8<bf16> raw) {
    const u32 words[4] = {raw.v.x, raw.v.y, raw.v.z, raw.v.w};
    UNROLL
    for (int i = 0; i < 4; i++) {
        x[2 * i] = float_of_bits(words[i] << 16);
        x[2 * i + 1] = float_of_bits(words[i] & 0xffff0000u);
    }
}
DEVICE void unpack8(float x[8], Raw8<float> raw) {
    const u32 words[8] = {raw.low.x, raw.low.y, raw.low.z, raw.low.w, raw.high.x, raw.high.y, raw.high.z, raw.high.w};
    UNROLL
    for (int i = 0; i < 8; i++) x[i] = float_of_bits(words[i]);
}

template <class T>
DEVICE void load8(float x[8], const T* address) {
    unpack8(x, load_raw8(address));
}

DEVICE u32x4 pack4(const float x[4]) {
    return u32x4{bits_of_float(x[0]), bits_of_float(x[1]), bits_of_float(x[2]), bits_of_float(x[3])};
}

DEVICE void store8(bf16* address, const float x[8]) {
    store_global16(address, u32x4{pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]),
                                  pack_bf16(x[6], x[7])});
}
DEVICE void store8(float* address, const float x[8]) {
    store_global16(address, pack4(x));
    store_global16(address + 4, pack4(x + 4));
}
DEVICE void store8_shared(float* address, const float x[8]) {
    store16(address, pack4(x));
    store16(address + 4, pack4(x + 4));
}

#endif
