// The names of device.cuh as plain C++, so that a kernel compiles with the host's compiler.
//
// Every thread of a block is a fiber: a stack of its own, left only where the thread has to wait for
// others. A barrier, a shuffle or an mma stores the operands, switches to the next fiber, and the last
// thread to arrive does the work for all. A thread runs alone between two such places, so the order in
// which threads run decides what a data race gives: run a kernel in several orders and compare the bits.
//
// What a kernel must not rely on is filled with NaN bits: shared memory at the start of a block, and the
// target of cp_async until the wait. This file is what kernels see; fibers.h runs them.
#ifndef TINYGPT_EMULATED_H
#define TINYGPT_EMULATED_H

#include <link.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#ifndef DEVICE
#define DEVICE inline __attribute__((always_inline))
#endif

#define __device__
#define __host__
#define __global__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __grid_constant__
// One copy for each thread of the host that runs blocks; fibers of a block share it.
#define __shared__ static thread_local

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;

struct dim3 {
    u32 x, y, z;
    constexpr dim3(u32 x = 1, u32 y = 1, u32 z = 1) : x(x), y(y), z(z) {}
};

// Code that works for other threads of the block: no races of the kernel.
#define UNCHECKED __attribute__((no_sanitize("thread")))
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

namespace emulated {

struct Lane;
struct Warp;
struct Block;

// Where a kernel called one of the functions below.
struct Place {
    const char* file;
    int line;
};

// What the lanes of a warp do together once all of them have arrived; `lanes` are those that take part.
typedef void (*Together)(Warp& warp, u32 lanes);

struct Copy {
    void* target;
    const void* source;
    u32 group;
    bool valid;
};

constexpr u32 MOST_COPIES = 256;

struct Lane {
    dim3 thread;
    u32 index; // within the warp
    Block* block;
    Warp* warp;
    // The meeting this lane waits in, or was in last.
    Together together;
    u32 lanes;
    void* operands;
    Place place;
    bool at_block_barrier, returned;
    // Copies that were started and not waited for, oldest first, and the number of the open group.
    u32 copies, copy_group;
    Copy* copy;
    void* stack_pointer;
    void* sanitizer;
};

struct Warp {
    Lane* lane[32];
    u32 waiting, present; // bits of lanes: in a meeting of the warp; started and not returned
};

struct Block {
    dim3 index, size, grid;
    u8* shared;
    size_t shared_bytes;
    u8* static_shared;
    size_t static_shared_bytes;
    // Lets other fibers run until this one is released.
    void (*wait)(Lane&);
    // Puts waiting lanes of a warp back among those that can run.
    void (*release)(Warp&, u32 lanes);
    void (*barrier)(Lane&);
    // Ends the launch with a message.
    void (*fail)(Lane&, const char* format, ...) __attribute__((format(printf, 2, 3), noreturn));
    // For the thread sanitizer: a meeting that orders memory.
    void (*ordered_before)(void* meeting);
    void (*ordered_after)(void* meeting);
};

// The fiber that runs on this thread of the host. Each module has its own.
static thread_local Lane* current __attribute__((unused));

inline bool in_shared_memory(const Block& block, const void* address, size_t bytes) {
    const u8* p = static_cast<const u8*>(address);
    return (p >= block.shared && p + bytes <= block.shared + block.shared_bytes)
        || (p >= block.static_shared && p + bytes <= block.static_shared + block.static_shared_bytes);
}

// Meets the other lanes of `lanes` that call with the same `together`; the last one does it for all.
UNCHECKED inline void meet(Together together, u32 lanes, void* operands, Place place) {
    Lane& me = *current;
    Warp& warp = *me.warp;
    if (!(lanes >> me.index & 1)) {
        me.block->fail(me, "%s:%d: the mask %08x does not name the calling lane %u", place.file, place.line, lanes,
                       me.index);
    }
    me.together = together;
    me.lanes = lanes;
    me.operands = operands;
    me.place = place;
    warp.waiting |= 1u << me.index;
    const u32 needed = lanes & warp.present;
    bool complete = (warp.waiting & needed) == needed;
    for (u32 rest = needed; complete && rest; rest &= rest - 1) {
        const Lane& other = *warp.lane[__builtin_ctz(rest)];
        complete = other.together == together && other.lanes == lanes;
    }
    if (!complete) return me.block->wait(me);
    together(warp, needed);
    warp.waiting &= ~needed;
    me.block->release(warp, needed & ~(1u << me.index));
}

// ---- shuffles and votes ----

struct Exchange {
    u32 in, out, argument;
};

template <int SHUFFLE>
UNCHECKED void shuffle_together(Warp& warp, u32 lanes) {
    for (u32 rest = lanes; rest; rest &= rest - 1) {
        const u32 i = __builtin_ctz(rest);
        Exchange& mine = *static_cast<Exchange*>(warp.lane[i]->operands);
        u32 source = SHUFFLE == 0 ? mine.argument & 31 : SHUFFLE == 1 ? i ^ mine.argument
                   : SHUFFLE == 2 ? i + mine.argument : i - mine.argument;
        if (source > 31 && SHUFFLE != 1) source = i; // the instruction then returns the own value
        // A lane that does not take part has no value to give.
        mine.out = source < 32 && (lanes >> source & 1) ? static_cast<Exchange*>(warp.lane[source]->operands)->in
                                                        : 0xffffffffu;
    }
}

UNCHECKED inline void vote_together(Warp& warp, u32 lanes) {
    u32 votes = 0;
    for (u32 rest = lanes; rest; rest &= rest - 1) {
        const u32 i = __builtin_ctz(rest);
        votes |= (static_cast<Exchange*>(warp.lane[i]->operands)->in ? 1u : 0u) << i;
    }
    for (u32 rest = lanes; rest; rest &= rest - 1) {
        static_cast<Exchange*>(warp.lane[__builtin_ctz(rest)]->operands)->out = votes;
    }
}

UNCHECKED inline void nothing_together(Warp&, u32) {}

template <int SHUFFLE, class T>
inline T shuffle(u32 lanes, T value, u32 argument, Place place) {
    static_assert(sizeof(T) == 4, "shuffles move 32 bits");
    Exchange exchange = {0, 0, argument};
    memcpy(&exchange.in, &value, 4);
    meet(shuffle_together<SHUFFLE>, lanes, &exchange, place);
    memcpy(&value, &exchange.out, 4);
    return value;
}

inline u32 vote(u32 lanes, bool yes, Place place) {
    Exchange exchange = {yes, 0, 0};
    meet(vote_together, lanes, &exchange, place);
    return exchange.out;
}

// ---- tensor cores ----

inline float float_of(u32 bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

struct Product {
    float* d;
    const u32* a;
    const u32* b;
};

// Eight columns of a row of the result at once; without such registers the compiler splits it.
typedef float Row8 __attribute__((vector_size(32)));

UNCHECKED inline void whole_warp(Warp& warp, u32 lanes, const char* what) {
    if (lanes != 0xffffffffu) {
        Lane& one = *warp.lane[__builtin_ctz(lanes)];
        one.block->fail(one, "%s:%d: %s needs all 32 lanes of the warp, these came: %08x", one.place.file,
                        one.place.line, what, lanes);
    }
}

// d = a (16 x K) · b (K x 8), four rows at a time so that they stay in registers.
template <int K>
UNCHECKED DEVICE void multiply_here(const float (*a)[K], const float (*b)[8], float (*d)[8]) {
    for (int row = 0; row < 16; row += 4) {
        Row8 sum0 = {}, sum1 = {}, sum2 = {}, sum3 = {};
        for (int k = 0; k < K; k++) {
            Row8 right;
            memcpy(&right, b[k], sizeof right);
            sum0 += a[row][k] * right;
            sum1 += a[row + 1][k] * right;
            sum2 += a[row + 2][k] * right;
            sum3 += a[row + 3][k] * right;
        }
        memcpy(d[row], &sum0, sizeof sum0);
        memcpy(d[row + 1], &sum1, sizeof sum1);
        memcpy(d[row + 2], &sum2, sizeof sum2);
        memcpy(d[row + 3], &sum3, sizeof sum3);
    }
}

#ifdef __x86_64__
// Products of bf16 or tf32 are exact in f32, so a fused multiply-add gives the same bits.
template <int K>
__attribute__((target("avx2,fma"))) UNCHECKED void multiply_avx2(const float (*a)[K], const float (*b)[8], float (*d)[8]) {
    multiply_here<K>(a, b, d);
}
#endif

template <int K>
UNCHECKED void multiply(Warp& warp, const float (*a)[K], const float (*b)[8]) {
    float product[16][8];
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) multiply_avx2<K>(a, b, product);
    else
#endif
        multiply_here<K>(a, b, product);
    for (int lane = 0; lane < 32; lane++) {
        float* d = static_cast<Product*>(warp.lane[lane]->operands)->d;
        const float* top = &product[lane / 4][lane % 4 * 2];
        const float* bottom = &product[lane / 4 + 8][lane % 4 * 2];
        d[0] += top[0];
        d[1] += top[1];
        d[2] += bottom[0];
        d[3] += bottom[1];
    }
}

// m16n8k16. Lane 4·g + p holds of a: rows g and g + 8, columns 2p, 2p + 1 and those + 8; of b: column g,
// rows 2p, 2p + 1 and those + 8; of d: rows g and g + 8, columns 2p and 2p + 1.
UNCHECKED inline void mma_bf16_together(Warp& warp, u32 lanes) {
    whole_warp(warp, lanes, "mma_bf16");
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const Product& mine = *static_cast<Product*>(warp.lane[lane]->operands);
        const int g = lane / 4, p = lane % 4;
        for (int i = 0; i < 4; i++) {
            float* low = &a[g + i % 2 * 8][2 * p + i / 2 * 8];
            low[0] = float_of(mine.a[i] << 16);
            low[1] = float_of(mine.a[i] & 0xffff0000u);
        }
        for (int i = 0; i < 2; i++) {
            b[2 * p + 8 * i][g] = float_of(mine.b[i] << 16);
            b[2 * p + 8 * i + 1][g] = float_of(mine.b[i] & 0xffff0000u);
        }
    }
    multiply<16>(warp, a, b);
}

// m16n8k8. Lane 4·g + p holds of a: rows g and g + 8, columns p and p + 4; of b: column g, rows p and
// p + 4; of d what it holds above. The hardware does not read the 13 low bits of an operand.
UNCHECKED inline void mma_tf32_together(Warp& warp, u32 lanes) {
    whole_warp(warp, lanes, "mma_tf32");
    float a[16][8], b[8][8];
    for (int lane = 0; lane < 32; lane++) {
        const Product& mine = *static_cast<Product*>(warp.lane[lane]->operands);
        const int g = lane / 4, p = lane % 4;
        for (int i = 0; i < 4; i++) a[g + i % 2 * 8][p + i / 2 * 4] = float_of(mine.a[i] & 0xffffe000u);
        for (int i = 0; i < 2; i++) b[p + 4 * i][g] = float_of(mine.b[i] & 0xffffe000u);
    }
    multiply<8>(warp, a, b);
}

// ---- ldmatrix ----

struct Matrices {
    u32* result;
    const void* row;
};

template <int MATRICES, bool TRANSPOSED>
UNCHECKED void ldmatrix_together(Warp& warp, u32 lanes) {
    whole_warp(warp, lanes, "ldmatrix");
    u16 element[MATRICES][8][8];
    for (int row = 0; row < 8 * MATRICES; row++) {
        Lane& lane = *warp.lane[row];
        const void* address = static_cast<Matrices*>(lane.operands)->row;
        if (reinterpret_cast<size_t>(address) % 16) {
            lane.block->fail(lane, "%s:%d: ldmatrix: the row %p of lane %d is not aligned to 16 bytes", lane.place.file,
                             lane.place.line, address, row);
        }
        if (!in_shared_memory(*lane.block, address, 16)) {
            lane.block->fail(lane, "%s:%d: ldmatrix: the row %p of lane %d is not in shared memory (dynamic: %p, %zu bytes)",
                             lane.place.file, lane.place.line, address, row, static_cast<void*>(lane.block->shared),
                             lane.block->shared_bytes);
        }
        memcpy(element[row / 8][row % 8], address, 16);
    }
    for (int lane = 0; lane < 32; lane++) {
        u32* result = static_cast<Matrices*>(warp.lane[lane]->operands)->result;
        const int g = lane / 4, p = lane % 4;
        for (int i = 0; i < MATRICES; i++) {
            const u16 low = TRANSPOSED ? element[i][2 * p][g] : element[i][g][2 * p];
            const u16 high = TRANSPOSED ? element[i][2 * p + 1][g] : element[i][g][2 * p + 1];
            result[i] = low | u32(high) << 16;
        }
    }
}

template <int MATRICES, bool TRANSPOSED>
inline void ldmatrix(u32* result, const void* row, Place place) {
#ifdef __SANITIZE_THREAD__
    // The last lane reads the rows of all; each lane answers for its own.
    for (int i = 0; i < 16; i++) static_cast<void>(static_cast<const volatile u8*>(row)[i]);
#endif
    Matrices matrices = {result, row};
    meet(ldmatrix_together<MATRICES, TRANSPOSED>, 0xffffffffu, &matrices, place);
}

// ---- cp.async ----

inline void start_copy(void* target, const void* source, bool valid, Place place) {
    Lane& me = *current;
    if (reinterpret_cast<size_t>(target) % 16 || (valid && reinterpret_cast<size_t>(source) % 16)) {
        me.block->fail(me, "%s:%d: cp_async16: %p to %p: both have to be aligned to 16 bytes", place.file, place.line,
                       source, target);
    }
    if (!in_shared_memory(*me.block, target, 16)) {
        me.block->fail(me, "%s:%d: cp_async16: the target %p is not in shared memory (dynamic: %p, %zu bytes)", place.file,
                       place.line, target, static_cast<void*>(me.block->shared), me.block->shared_bytes);
    }
    if (me.copies == MOST_COPIES) {
        me.block->fail(me, "%s:%d: more than %u cp_async16 without a wait", place.file, place.line, MOST_COPIES);
    }
    me.place = place;
    // An address out of bounds is found here, where the kernel names it, and not at the wait.
    if (valid) {
        static_cast<void>(*static_cast<const volatile u8*>(source));
        static_cast<void>(*(static_cast<const volatile u8*>(source) + 15));
    }
    memset(target, 0xff, 16);
    me.copy[me.copies++] = Copy{target, source, me.copy_group, valid};
}

// Carries out all copies but those of the `newest` groups that were committed last and of the open one.
inline void finish_copies(u32 newest) {
    Lane& me = *current;
    u32 done = 0;
    while (done < me.copies && me.copy[done].group + newest < me.copy_group) {
        const Copy& copy = me.copy[done++];
        if (copy.valid) memcpy(copy.target, copy.source, 16);
        else memset(copy.target, 0, 16);
    }
    me.copies -= done;
    memmove(me.copy, me.copy + done, me.copies * sizeof(Copy));
}

} // namespace emulated

// The place of the call, as arguments that nobody writes.
#define EMULATED_PLACE const char* file = __builtin_FILE(), int line = __builtin_LINE()
#define EMULATED_HERE (emulated::Place{file, line})

#define threadIdx (emulated::current->thread)
#define blockIdx (emulated::current->block->index)
#define blockDim (emulated::current->block->size)
#define gridDim (emulated::current->block->grid)
#define warpSize 32

// The body is a function of its own, so that `return` ends the thread only.
#define KERNEL(name, Args, threads, min_blocks)                              \
    static void name##_body(const Args& p);                                       \
    extern "C" const u32 name##_args_size = sizeof(Args);                         \
    extern "C" const u32 name##_threads = threads;                                \
    extern "C" void name(const void* args) {                                      \
        name##_body(*static_cast<const Args*>(args));                             \
    }                                                                             \
    static void name##_body(const Args& p)

#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulated::current->block->shared)

inline void __syncthreads(EMULATED_PLACE) {
    emulated::Lane& me = *emulated::current;
    me.place = EMULATED_HERE;
    me.block->barrier(me);
}
inline void __syncwarp(u32 lanes = 0xffffffffu, EMULATED_PLACE) {
#ifdef __SANITIZE_THREAD__
    emulated::Lane& me = *emulated::current;
    me.block->ordered_before(me.warp);
#endif
    emulated::meet(emulated::nothing_together, lanes, nullptr, EMULATED_HERE);
#ifdef __SANITIZE_THREAD__
    me.block->ordered_after(me.warp);
#endif
}
template <class T>
inline T __shfl_sync(u32 lanes, T value, u32 lane, EMULATED_PLACE) {
    return emulated::shuffle<0>(lanes, value, lane, EMULATED_HERE);
}
template <class T>
inline T __shfl_xor_sync(u32 lanes, T value, u32 lane_mask, EMULATED_PLACE) {
    return emulated::shuffle<1>(lanes, value, lane_mask, EMULATED_HERE);
}
template <class T>
inline T __shfl_down_sync(u32 lanes, T value, u32 distance, EMULATED_PLACE) {
    return emulated::shuffle<2>(lanes, value, distance, EMULATED_HERE);
}
template <class T>
inline T __shfl_up_sync(u32 lanes, T value, u32 distance, EMULATED_PLACE) {
    return emulated::shuffle<3>(lanes, value, distance, EMULATED_HERE);
}
inline u32 __ballot_sync(u32 lanes, bool yes, EMULATED_PLACE) {
    return emulated::vote(lanes, yes, EMULATED_HERE);
}
inline bool __any_sync(u32 lanes, bool yes, EMULATED_PLACE) {
    return emulated::vote(lanes, yes, EMULATED_HERE) != 0;
}
inline bool __all_sync(u32 lanes, bool yes, EMULATED_PLACE) {
    return emulated::vote(lanes, !yes, EMULATED_HERE) == 0;
}

// Fibers of a block run one at a time and blocks meet only at the end of a launch or by atomics.
inline void __threadfence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
inline void __threadfence_block() {}
inline u32 atomicAdd(u32* address, u32 value) {
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}
inline i32 atomicAdd(i32* address, i32 value) {
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}
inline u32 atomicOr(u32* address, u32 value) {
    return __atomic_fetch_or(address, value, __ATOMIC_SEQ_CST);
}

// ---- numbers ----

struct bf16 {
    u16 bits;
};

inline u32 __float_as_uint(float x) {
    u32 bits;
    memcpy(&bits, &x, 4);
    return bits;
}
inline float __uint_as_float(u32 bits) {
    return emulated::float_of(bits);
}
template <class T>
inline T __ldg(const T* address) {
    return *address;
}
inline u32 __popc(u32 x) {
    return __builtin_popcount(x);
}
inline u32 __umulhi(u32 a, u32 b) {
    return u32(u64(a) * b >> 32);
}

DEVICE float to_float(bf16 x) {
    return emulated::float_of(u32(x.bits) << 16);
}
DEVICE float to_float(float x) {
    return x;
}
// To nearest, ties to even; every NaN becomes 0x7fff, as cvt.rn.bf16 writes it.
DEVICE bf16 to_bf16(float x) {
    const u32 bits = __float_as_uint(x);
    if (x != x) return bf16{0x7fff};
    return bf16{u16((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
DEVICE u32 pack_bf16(float low, float high) {
    return to_bf16(low).bits | u32(to_bf16(high).bits) << 16;
}
// To 10 bits of mantissa, ties away from zero.
DEVICE u32 to_tf32(float x) {
    const u32 bits = __float_as_uint(x);
    return (bits & 0x7f800000) == 0x7f800000 ? bits : (bits + 0x1000) & 0xffffe000u;
}

// Results below 2^-126 become 0, as the instruction flushes them.
DEVICE float exp2_approx(float x) {
    const float y = exp2f(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}
DEVICE float tanh_approx(float x) {
    return tanhf(x);
}
DEVICE float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}

// ---- 16-byte accesses ----

struct alignas(16) u32x4 {
    u32 x, y, z, w;
};

namespace emulated {
inline void aligned16(const void* address, Place place) {
    if (reinterpret_cast<size_t>(address) % 16) {
        current->block->fail(*current, "%s:%d: the address %p is not aligned to 16 bytes", place.file, place.line, address);
    }
}
} // namespace emulated

inline u32x4 load16(const void* address, EMULATED_PLACE) {
    emulated::aligned16(address, EMULATED_HERE);
    u32x4 v;
    memcpy(&v, address, 16);
    return v;
}
inline void store16(void* address, u32x4 v, EMULATED_PLACE) {
    emulated::aligned16(address, EMULATED_HERE);
    memcpy(address, &v, 16);
}

// ---- tensor cores and copies ----

inline void mma_bf16(float d[4], const u32 a[4], const u32 b[2], EMULATED_PLACE) {
    emulated::Product product = {d, a, b};
    emulated::meet(emulated::mma_bf16_together, 0xffffffffu, &product, EMULATED_HERE);
}
inline void mma_tf32(float d[4], const u32 a[4], const u32 b[2], EMULATED_PLACE) {
    emulated::Product product = {d, a, b};
    emulated::meet(emulated::mma_tf32_together, 0xffffffffu, &product, EMULATED_HERE);
}
inline void ldmatrix_x4(u32 r[4], const void* shared_row, EMULATED_PLACE) {
    emulated::ldmatrix<4, false>(r, shared_row, EMULATED_HERE);
}
inline void ldmatrix_x4_trans(u32 r[4], const void* shared_row, EMULATED_PLACE) {
    emulated::ldmatrix<4, true>(r, shared_row, EMULATED_HERE);
}
inline void ldmatrix_x2(u32 r[2], const void* shared_row, EMULATED_PLACE) {
    emulated::ldmatrix<2, false>(r, shared_row, EMULATED_HERE);
}
inline void ldmatrix_x2_trans(u32 r[2], const void* shared_row, EMULATED_PLACE) {
    emulated::ldmatrix<2, true>(r, shared_row, EMULATED_HERE);
}
inline void cp_async16(void* shared, const void* global, bool valid, EMULATED_PLACE) {
    emulated::start_copy(shared, global, valid, EMULATED_HERE);
}
inline void cp_async_commit() {
    emulated::current->copy_group++;
}
// Waits until at most the N newest groups of this thread are still under way.
template <int N>
inline void cp_async_wait() {
    emulated::finish_copies(N);
}

// ---- what a loader asks a module for ----

namespace emulated {
struct StaticShared {
    u8* begin;
    size_t bytes;
};

inline int find_static_shared(dl_phdr_info* object, size_t, void* result) {
    const u8* const mark = reinterpret_cast<const u8*>(&find_static_shared);
    bool here = false;
    size_t bytes = 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const auto& part = object->dlpi_phdr[i];
        const u8* begin = reinterpret_cast<const u8*>(object->dlpi_addr + part.p_vaddr);
        if (part.p_type == PT_LOAD && mark >= begin && mark < begin + part.p_memsz) here = true;
        if (part.p_type == PT_TLS) bytes = part.p_memsz;
    }
    if (here) *static_cast<StaticShared*>(result) = {static_cast<u8*>(object->dlpi_tls_data), bytes};
    return here;
}
} // namespace emulated

extern "C" {
// The variable that names the fiber, as the calling thread of the host sees it.
__attribute__((weak)) emulated::Lane** emulated_current() {
    return &emulated::current;
}

// All `__shared__` variables of the module and `current`, as the calling thread of the host sees them.
__attribute__((weak)) void emulated_static_shared(u8** begin, size_t* bytes) {
    emulated::current = nullptr; // the variables exist from their first use on
    emulated::StaticShared found = {};
    dl_iterate_phdr(emulated::find_static_shared, &found);
    *begin = found.begin;
    *bytes = found.begin ? found.bytes : 0;
}
}

#ifndef TINYGPT_EMULATED_MODULE
#include "fibers.h"
#endif

#endif
