// Runs a kernel: blocks on a few threads of the host, the threads of a block as fibers of one of them.
//
// A host thread has a Worker: a stack for every thread of a block, the queue of those that can run, and
// the block's shared memory between two pages that cannot be touched. A fiber that has to wait switches
// straight to the next one. A fault of a kernel (a message of emulated.h, an address out of bounds, abort)
// leaves all fibers where they are, and the launch ends with a message.
//
// For a small program of its own, without any library:
//
//     #include "device.cuh" ... KERNEL(scale, ScaleArgs, 128, 1) { ... }
//     int main() { emulated_launch(dim3(blocks), dim3(128), shared_bytes, scale, args); }
#ifndef TINYGPT_FIBERS_H
#define TINYGPT_FIBERS_H

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

// What the address and the thread sanitizer want to know about fibers. They are there if the program, or
// the kernels of a program that has them preloaded, were compiled with -fsanitize.
extern "C" {
__attribute__((weak)) void __asan_unpoison_memory_region(void const volatile* address, size_t bytes);
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t bytes);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* saved, const void** bottom, size_t* bytes);
__attribute__((weak)) void* __tsan_get_current_fiber();
__attribute__((weak)) void* __tsan_create_fiber(unsigned flags);
__attribute__((weak)) void __tsan_destroy_fiber(void* fiber);
__attribute__((weak)) void __tsan_switch_to_fiber(void* fiber, unsigned flags);
__attribute__((weak)) void __tsan_acquire(void* address);
__attribute__((weak)) void __tsan_release(void* address);
}

// ---- switching stacks ----

// Stores the registers that a function has to preserve on the stack, writes the stack pointer to `*from`
// and continues where `to` was left.
#if defined(__x86_64__)
asm(R"(
    .pushsection .text
    .type emulated_switch_stacks, @function
emulated_switch_stacks:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .cfi_endproc
    .size emulated_switch_stacks, .-emulated_switch_stacks
    .popsection
)");
#elif defined(__aarch64__)
asm(R"(
    .pushsection .text
    .type emulated_switch_stacks, %function
emulated_switch_stacks:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size emulated_switch_stacks, .-emulated_switch_stacks
    .popsection
)");
#endif

namespace emulated {

#if defined(__x86_64__) || defined(__aarch64__)
extern "C" __attribute__((visibility("hidden"))) void emulated_switch_stacks(void** from, void* to);

// A stack whose first switch calls `start`.
inline void* new_stack(u8* bottom, u8* top, void (*start)()) {
    static_cast<void>(bottom);
#if defined(__x86_64__)
    void** slot = reinterpret_cast<void**>(top) - 8;
    memset(slot, 0, 64);
    slot[6] = reinterpret_cast<void*>(start); // popped by `ret`; the stack is then 8 below a multiple of 16
#else
    void** slot = reinterpret_cast<void**>(top - 160);
    memset(slot, 0, 160);
    slot[11] = reinterpret_cast<void*>(start);
#endif
    return slot;
}
#else
struct Context {
    ucontext_t context;
};
inline void emulated_switch_stacks(void** from, void* to) {
    Context here; // on the stack that is left, so it lives as long as it is needed
    *from = &here;
    swapcontext(&here.context, &static_cast<Context*>(to)->context);
}
inline void* new_stack(u8* bottom, u8* top, void (*start)()) {
    Context* made = new (top - sizeof(Context)) Context;
    getcontext(&made->context);
    made->context.uc_stack.ss_sp = bottom;
    made->context.uc_stack.ss_size = top - bottom - sizeof(Context);
    makecontext(&made->context, start, 0);
    return made;
}
#endif

// ---- a launch ----

enum class Order { up, down, shuffled };

struct Launch {
    const char* name;
    void (*function)(const void*);
    const void* args;
    dim3 grid, block;
    size_t shared_bytes;
    // Of the kernel's module.
    Lane** (*current)();
    void (*static_shared)(u8** begin, size_t* bytes);
    Order order;
    u64 seed;
    u32 host_threads;
    // Adds what is known about an address to a message; may be null.
    void (*describe)(const void* address, char* text, size_t bytes);
};

constexpr u32 MOST_THREADS = 1024;
constexpr size_t MOST_SHARED = 256 << 10;
constexpr size_t PAGE = 4096;
constexpr size_t STACK = 128 << 10;

// What the host threads of one launch share.
struct Running {
    const Launch* launch;
    u64 blocks, next;
    int failed; // 0, or 1 once a message is written
    char* message;
    size_t message_bytes;
};

struct Worker {
    Running* running;
    Block block;
    u32 threads, returned, at_barrier;
    Lane** slot; // the module's `current`
    Lane* lane;
    Warp* warp;
    u8 *stacks, *shared_end, *signal_stack;
    Copy* copies;
    // A ring of those that can run.
    Lane* queue[2 * MOST_THREADS];
    u32 head, queued;
    u64 random;
    void *home, *home_sanitizer; // the stack of the host thread itself
    const void* home_bottom;
    size_t home_bytes;
    void* home_race; // its fiber for the thread sanitizer
    void* race[MOST_THREADS]; // and those of the threads of a block
    Worker* next_free;
};

// The worker of this host thread while fibers run.
inline thread_local Worker* working;

inline u64 mix(u64 x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

inline u32 random_below(Worker& worker, u32 n) {
    worker.random += 0x9e3779b97f4a7c15u;
    return u32((mix(worker.random) >> 32) * n >> 32);
}

inline void push_back(Worker& worker, Lane* lane) {
    worker.queue[(worker.head + worker.queued++) % (2 * MOST_THREADS)] = lane;
}

inline void push_front(Worker& worker, Lane* lane) {
    worker.head = (worker.head + 2 * MOST_THREADS - 1) % (2 * MOST_THREADS);
    worker.queue[worker.head] = lane;
    worker.queued++;
}

inline Lane* pop(Worker& worker) {
    if (worker.queued == 0) return nullptr;
    Lane** first = &worker.queue[worker.head];
    if (worker.running->launch->order == Order::shuffled && worker.queued > 1) {
        Lane** any = &worker.queue[(worker.head + random_below(worker, worker.queued)) % (2 * MOST_THREADS)];
        Lane* lane = *any;
        *any = *first;
        *first = lane;
    }
    worker.head = (worker.head + 1) % (2 * MOST_THREADS);
    worker.queued--;
    return *first;
}

// ---- fibers ----

// The thread sanitizer takes fibers for threads that run at the same time, ordered only by barriers.
constexpr unsigned NOT_ORDERED = 1;

// Orders what the caller did before what those do that pass `ordered_after` later.
inline void ordered_before(void* meeting) {
    if (__tsan_release) __tsan_release(meeting);
}
inline void ordered_after(void* meeting) {
    if (__tsan_acquire) __tsan_acquire(meeting);
}

inline void leave_for(Worker& worker, void** from, Lane* lane, void** sanitizer) {
    *worker.slot = lane;
    const size_t number = size_t(lane - worker.lane);
    if (__sanitizer_start_switch_fiber) {
        __sanitizer_start_switch_fiber(sanitizer, worker.stacks + number * STACK + PAGE, STACK - PAGE);
    }
    if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(worker.race[number], NOT_ORDERED);
    emulated_switch_stacks(from, lane->stack_pointer);
    if (__sanitizer_finish_switch_fiber) {
        __sanitizer_finish_switch_fiber(sanitizer ? *sanitizer : nullptr, nullptr, nullptr);
    }
}

[[noreturn]] inline void leave_for_good(Worker& worker) {
    void* nowhere;
    *worker.slot = nullptr;
    if (__sanitizer_start_switch_fiber) {
        __sanitizer_start_switch_fiber(nullptr, worker.home_bottom, worker.home_bytes);
    }
    if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(worker.home_race, NOT_ORDERED);
    emulated_switch_stacks(&nowhere, worker.home);
    __builtin_unreachable();
}

inline int describe_lane(const Worker& worker, const Lane& lane, char* text, size_t bytes) {
    const Block& block = worker.block;
    return snprintf(text, bytes, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u)", worker.running->launch->name,
                    block.index.x, block.index.y, block.index.z, lane.thread.x, lane.thread.y, lane.thread.z);
}

inline bool first_to_fail(Running& running) {
    return __atomic_exchange_n(&running.failed, 1, __ATOMIC_SEQ_CST) == 0;
}

[[noreturn]] __attribute__((format(printf, 2, 3))) inline void fail(Lane& lane, const char* format, ...) {
    Worker& worker = *working;
    Running& running = *worker.running;
    if (first_to_fail(running)) {
        int at = describe_lane(worker, lane, running.message, running.message_bytes);
        at += snprintf(running.message + at, running.message_bytes - at, ": ");
        va_list values;
        va_start(values, format);
        vsnprintf(running.message + at, running.message_bytes - at, format, values);
        va_end(values);
    }
    leave_for_good(worker);
}

inline bool same_place(const Place& a, const Place& b) {
    return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

inline void describe_waiting(const Worker& worker, char* text, size_t bytes) {
    // Lanes that wait at one place in one way are one line.
    bool seen[MOST_THREADS] = {};
    size_t at = 0;
    u32 lines = 0;
    for (u32 i = 0; i < worker.threads && at < bytes && lines < 6; i++) {
        const Lane& one = worker.lane[i];
        if (seen[i] || one.returned) continue;
        u32 alike = 0;
        for (u32 j = i; j < worker.threads; j++) {
            const Lane& other = worker.lane[j];
            if (seen[j] || other.returned || other.at_block_barrier != one.at_block_barrier) continue;
            if (!same_place(other.place, one.place)) continue;
            if (!one.at_block_barrier && other.lanes != one.lanes) continue;
            seen[j] = true;
            alike++;
        }
        lines++;
        at += snprintf(text + at, bytes - at, "%s%u threads, the first (%u, %u, %u), wait at %s:%d", lines > 1 ? "; " : "",
                       alike, one.thread.x, one.thread.y, one.thread.z, one.place.file, one.place.line);
        if (at >= bytes) return;
        if (one.at_block_barrier) at += snprintf(text + at, bytes - at, " (__syncthreads)");
        else at += snprintf(text + at, bytes - at, " (for lanes %08x of their warp)", one.lanes);
    }
    if (worker.returned > 0 && at < bytes) snprintf(text + at, bytes - at, "; %u threads have returned", worker.returned);
}

[[noreturn]] inline void deadlock(Worker& worker, Lane& lane) {
    char text[1024];
    describe_waiting(worker, text, sizeof text);
    fail(lane, "deadlock: no thread of the block can continue: %s", text);
}

inline void wait(Lane& lane) {
    Worker& worker = *working;
    Lane* next = pop(worker);
    if (!next) deadlock(worker, lane);
    leave_for(worker, &lane.stack_pointer, next, &lane.sanitizer);
}

inline void release(Warp& warp, u32 lanes) {
    Worker& worker = *working;
    const bool down = worker.running->launch->order == Order::down;
    while (lanes) {
        const u32 i = down ? u32(__builtin_ctz(lanes)) : 31u - u32(__builtin_clz(lanes));
        lanes &= ~(1u << i);
        push_front(worker, warp.lane[i]);
    }
}

inline void fill_queue(Worker& worker, const Lane* without) {
    const bool down = worker.running->launch->order == Order::down;
    for (u32 i = 0; i < worker.threads; i++) {
        Lane* lane = &worker.lane[down ? worker.threads - 1 - i : i];
        lane->at_block_barrier = false;
        if (lane != without) push_back(worker, lane);
    }
}

inline void barrier(Lane& lane) {
    Worker& worker = *working;
    lane.at_block_barrier = true;
    if (worker.returned > 0) {
        fail(lane, "%s:%d: waits at __syncthreads, but %u threads of the block have returned", lane.place.file,
             lane.place.line, worker.returned);
    }
    ordered_before(&worker.at_barrier);
    if (++worker.at_barrier < worker.threads) {
        wait(lane);
        return ordered_after(&worker.at_barrier);
    }
    for (u32 i = 0; i < worker.threads; i++) {
        const Lane& other = worker.lane[i];
        if (!same_place(other.place, lane.place)) {
            fail(lane, "different barriers: waits at __syncthreads of %s:%d, thread (%u, %u, %u) at that of %s:%d",
                 lane.place.file, lane.place.line, other.thread.x, other.thread.y, other.thread.z, other.place.file,
                 other.place.line);
        }
    }
    worker.at_barrier = 0;
    fill_queue(worker, &lane);
    // The last to arrive need not be the first to continue.
    push_back(worker, &lane);
    Lane* next = pop(worker);
    if (next != &lane) leave_for(worker, &lane.stack_pointer, next, &lane.sanitizer);
    ordered_after(&worker.at_barrier);
}

// A meeting of the warp that waited only for the lane that has returned.
inline void complete_without(Warp& warp) {
    for (u32 rest = warp.waiting; rest; rest &= rest - 1) {
        Lane& one = *warp.lane[__builtin_ctz(rest)];
        const u32 needed = one.lanes & warp.present;
        bool complete = (warp.waiting & needed) == needed;
        for (u32 others = needed; complete && others; others &= others - 1) {
            const Lane& other = *warp.lane[__builtin_ctz(others)];
            complete = other.together == one.together && other.lanes == one.lanes;
        }
        if (!complete) continue;
        one.together(warp, needed);
        warp.waiting &= ~needed;
        release(warp, needed);
        return complete_without(warp);
    }
}

inline void run_lane() {
    Worker& worker = *working;
    if (__sanitizer_finish_switch_fiber) {
        const void* bottom;
        size_t bytes;
        __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
        if (!worker.home_bottom) worker.home_bottom = bottom, worker.home_bytes = bytes;
    }
    Lane& lane = **worker.slot;
    ordered_after(&worker.block);
    worker.running->launch->function(worker.running->launch->args);
    ordered_before(&worker.returned);
    lane.returned = true;
    if (worker.at_barrier > 0) {
        char text[1024];
        describe_waiting(worker, text, sizeof text);
        fail(lane, "returns while others wait at __syncthreads: %s", text);
    }
    worker.returned++;
    lane.warp->present &= ~(1u << lane.index);
    if (lane.warp->waiting) complete_without(*lane.warp);
    Lane* next = pop(worker);
    if (!next) {
        if (worker.returned < worker.threads) deadlock(worker, lane);
        leave_for_good(worker);
    }
    void* nowhere;
    leave_for(worker, &nowhere, next, nullptr);
    __builtin_unreachable();
}

// ---- blocks ----

inline dim3 coordinates(u64 i, dim3 size) {
    return dim3(u32(i % size.x), u32(i / size.x % size.y), u32(i / size.x / size.y));
}

constexpr u8 POISON = 0xff; // NaN as f32, bf16, f64; -1 as an integer
constexpr size_t BEFORE = 256; // bytes before dynamic shared memory that must stay as they are

inline void poison_static(Worker& worker) {
    Block& block = worker.block;
    if (block.static_shared_bytes <= 2 * sizeof(void*)) return;
    Worker* const me = working;
    memset(block.static_shared, POISON, block.static_shared_bytes);
    working = me; // in a program of its own it is one of those variables
    *worker.slot = nullptr;
}

inline bool is_poison(const u8* bytes, size_t count) {
    while (count > 0 && bytes[count - 1] == POISON) count--;
    return count == 0;
}

inline void run_block(Worker& worker, u64 number) {
    const Launch& launch = *worker.running->launch;
    Block& block = worker.block;
    block.index = coordinates(number, launch.grid);
    const size_t slack = (16 - launch.shared_bytes % 16) % 16;
    block.shared = worker.shared_end - slack - launch.shared_bytes;
    memset(block.shared - BEFORE, POISON, BEFORE + launch.shared_bytes + slack);
    poison_static(worker);
    worker.returned = worker.at_barrier = worker.head = worker.queued = 0;
    worker.random = mix(launch.seed + 0x632be59bd9b4e019u * (number + 1));
    for (u32 i = 0; i < worker.threads; i++) {
        Lane& lane = worker.lane[i];
        lane.thread = coordinates(i, launch.block);
        lane.index = i % 32;
        lane.block = &block;
        lane.warp = &worker.warp[i / 32];
        lane.place = Place{"its start", 0};
        lane.at_block_barrier = lane.returned = false;
        lane.copies = lane.copy_group = 0;
        lane.copy = worker.copies + size_t(i) * MOST_COPIES;
        if (lane.index == 0) lane.warp->waiting = lane.warp->present = 0;
        lane.warp->present |= 1u << lane.index;
        lane.warp->lane[lane.index] = &lane;
        // Tops of stacks at different offsets in their pages share the caches better.
        u8* stack = worker.stacks + size_t(i) * STACK;
        // Frames of fibers that never returned.
        if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(stack + PAGE, STACK - PAGE);
        if (__tsan_create_fiber && !worker.race[i]) worker.race[i] = __tsan_create_fiber(0);
        lane.stack_pointer = new_stack(stack + PAGE, stack + STACK - i % 16 * 256, run_lane);
    }
    fill_queue(worker, nullptr);
    ordered_before(&block);
    leave_for(worker, &worker.home, pop(worker), &worker.home_sanitizer);
    ordered_after(&worker.returned);
    if (__atomic_load_n(&worker.running->failed, __ATOMIC_RELAXED)) return;
    const bool before = !is_poison(block.shared - BEFORE, BEFORE);
    if (!before && is_poison(worker.shared_end - slack, slack)) return;
    if (!first_to_fail(*worker.running)) return;
    snprintf(worker.running->message, worker.running->message_bytes,
             "kernel %s, block (%u, %u, %u): wrote %s the %zu bytes of dynamic shared memory", launch.name, block.index.x,
             block.index.y, block.index.z, before ? "before" : "past", launch.shared_bytes);
}

inline void run_blocks(Worker& worker, Running& running) {
    const Launch& launch = *running.launch;
    worker.running = &running;
    worker.threads = launch.block.x * launch.block.y * launch.block.z;
    worker.slot = launch.current();
    worker.home_bottom = nullptr;
    if (__tsan_get_current_fiber) worker.home_race = __tsan_get_current_fiber();
    Block& block = worker.block;
    block.size = launch.block;
    block.grid = launch.grid;
    block.shared_bytes = launch.shared_bytes;
    launch.static_shared(&block.static_shared, &block.static_shared_bytes);
    block.wait = wait;
    block.release = release;
    block.barrier = barrier;
    block.fail = fail;
    block.ordered_before = ordered_before;
    block.ordered_after = ordered_after;
    stack_t signals = {}, before = {};
    signals.ss_sp = worker.signal_stack;
    signals.ss_size = STACK;
    sigaltstack(&signals, &before);
    Worker* const outer = working;
    working = &worker;
    for (;;) {
        const u64 i = __atomic_fetch_add(&running.next, 1, __ATOMIC_RELAXED);
        if (i >= running.blocks || __atomic_load_n(&running.failed, __ATOMIC_RELAXED)) break;
        u64 number = launch.order == Order::down ? running.blocks - 1 - i : i;
        // Multiplying by an odd number permutes the numbers below a power of two; others are not hit.
        if (launch.order == Order::shuffled) {
            u64 range = 1;
            while (range < running.blocks) range *= 2;
            u64 j = i; // follow the cycle until it is back below the number of blocks
            do j = (j * 5 + (mix(launch.seed) | 1)) % range;
            while (j >= running.blocks);
            number = j;
        }
        run_block(worker, number);
    }
    working = outer;
    sigaltstack(&before, nullptr);
    // A fiber that was left in the middle of a kernel is of no more use to the thread sanitizer.
    for (u32 i = 0; running.failed && i < MOST_THREADS; i++) {
        if (worker.race[i]) __tsan_destroy_fiber(worker.race[i]);
        worker.race[i] = nullptr;
    }
}

// ---- faults ----

inline struct sigaction previous_action[32];

inline void on_fault(int signal, siginfo_t* info, void* context) {
    Worker* worker = working;
    if (!worker || !*worker->slot) {
        const struct sigaction& previous = previous_action[signal];
        if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
        if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
        struct sigaction fatal = {};
        fatal.sa_handler = SIG_DFL;
        sigaction(signal, &fatal, nullptr);
        if (signal == SIGABRT) raise(signal);
        return; // the instruction faults again
    }
    Lane& lane = **worker->slot;
    char about[512] = "";
    const char* what = "abort";
    if (signal == SIGFPE) what = "an integer division by zero";
    if (signal == SIGILL) what = "__trap or an illegal instruction";
    if (signal == SIGSEGV || signal == SIGBUS) {
        what = "an address out of bounds";
        const u8* address = static_cast<const u8*>(info->si_addr);
        const u8* stack = worker->stacks + (&lane - worker->lane) * STACK;
        const Block& block = worker->block;
        if (address >= worker->stacks && address < stack + STACK) {
            what = "its stack (128 KiB) is full";
        } else if (address >= worker->shared_end && address < worker->shared_end + PAGE) {
            snprintf(about, sizeof about, ": %zu bytes past the end of the %zu bytes of dynamic shared memory",
                     size_t(address - block.shared - block.shared_bytes), block.shared_bytes);
        } else if (address < block.shared && address >= worker->shared_end - MOST_SHARED - 2 * PAGE) {
            snprintf(about, sizeof about, ": %zu bytes before the start of dynamic shared memory",
                     size_t(block.shared - address));
        } else {
            const int at = snprintf(about, sizeof about, ": %p", info->si_addr);
            if (worker->running->launch->describe) {
                worker->running->launch->describe(address, about + at, sizeof about - at);
            }
        }
    }
    if (lane.place.line) fail(lane, "%s%s (last seen at %s:%d)", what, about, lane.place.file, lane.place.line);
    fail(lane, "%s%s", what, about);
}

inline void install_handlers() {
    static int installed = [] {
        const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
        for (int signal : faults) {
            // The address sanitizer reports more.
            if (__asan_unpoison_memory_region && (signal == SIGSEGV || signal == SIGBUS)) continue;
            struct sigaction action = {};
            action.sa_sigaction = on_fault;
            action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
            sigaction(signal, &action, &previous_action[signal]);
        }
        return 1;
    }();
    static_cast<void>(installed);
}

// ---- workers ----

inline pthread_mutex_t free_workers_lock = PTHREAD_MUTEX_INITIALIZER;
inline Worker* free_workers;

inline u8* reserve(size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<u8*>(memory);
}

// A worker that is free, or a new one; null when there is not enough memory.
inline Worker* take_worker() {
    pthread_mutex_lock(&free_workers_lock);
    Worker* worker = free_workers;
    if (worker) free_workers = worker->next_free;
    pthread_mutex_unlock(&free_workers_lock);
    if (worker) return worker;
    worker = static_cast<Worker*>(calloc(1, sizeof(Worker)));
    if (!worker) return nullptr;
    worker->lane = static_cast<Lane*>(calloc(MOST_THREADS, sizeof(Lane)));
    worker->warp = static_cast<Warp*>(calloc(MOST_THREADS / 32, sizeof(Warp)));
    worker->stacks = reserve(MOST_THREADS * STACK);
    worker->copies = reinterpret_cast<Copy*>(reserve(sizeof(Copy) * MOST_THREADS * MOST_COPIES));
    worker->signal_stack = reserve(STACK);
    u8* shared = reserve(MOST_SHARED + 3 * PAGE);
    if (!worker->lane || !worker->warp || !worker->stacks || !worker->copies || !worker->signal_stack || !shared) {
        return nullptr;
    }
    worker->shared_end = shared + 2 * PAGE + MOST_SHARED;
    mprotect(shared, PAGE, PROT_NONE);
    mprotect(worker->shared_end, PAGE, PROT_NONE);
    for (u32 i = 0; i < MOST_THREADS; i++) mprotect(worker->stacks + i * STACK, PAGE, PROT_NONE);
    return worker;
}

inline void give_worker(Worker* worker) {
    pthread_mutex_lock(&free_workers_lock);
    worker->next_free = free_workers;
    free_workers = worker;
    pthread_mutex_unlock(&free_workers_lock);
}

inline void* run_on_thread(void* running) {
    if (Worker* worker = take_worker()) {
        run_blocks(*worker, *static_cast<Running*>(running));
        give_worker(worker);
    }
    return nullptr;
}

// Runs a launch to its end; false, with a message, if the kernel failed.
inline bool run(const Launch& launch, char* message, size_t message_bytes) {
    const u64 threads = u64(launch.block.x) * launch.block.y * launch.block.z;
    const u64 blocks = u64(launch.grid.x) * launch.grid.y * launch.grid.z;
    if (threads == 0 || threads > MOST_THREADS || blocks == 0 || launch.shared_bytes > MOST_SHARED) {
        snprintf(message, message_bytes, "kernel %s: %llu blocks of %llu threads with %zu bytes of shared memory cannot run",
                 launch.name, blocks, threads, launch.shared_bytes);
        return false;
    }
    install_handlers();
    Running running = {&launch, blocks, 0, 0, message, message_bytes};
    Worker* worker = take_worker();
    if (!worker) {
        snprintf(message, message_bytes, "kernel %s: not enough host memory for the stacks of a block", launch.name);
        return false;
    }
    // A thread costs about as much as a thousand fibers.
    u64 helpers = blocks * threads >= 1024 ? blocks - 1 : 0;
    if (helpers > 15) helpers = 15;
    if (helpers >= launch.host_threads) helpers = launch.host_threads ? launch.host_threads - 1 : 0;
    pthread_t helper[16];
    u64 started = 0;
    while (started < helpers && pthread_create(&helper[started], nullptr, run_on_thread, &running) == 0) started++;
    run_blocks(*worker, running);
    for (u64 i = 0; i < started; i++) pthread_join(helper[i], nullptr);
    give_worker(worker);
    return !running.failed;
}

// ---- settings ----

struct Settings {
    Order order;
    u64 seed;
    u32 host_threads;
};

// "up", "down" or "shuffled:<seed>"; false for other texts.
inline bool read_order(const char* text, Settings& settings) {
    const bool shuffled = strncmp(text, "shuffled", 8) == 0 && (text[8] == ':' || text[8] == 0);
    if (!shuffled && strcmp(text, "up") != 0 && strcmp(text, "down") != 0) return false;
    settings.order = shuffled ? Order::shuffled : *text == 'u' ? Order::up : Order::down;
    settings.seed = shuffled && text[8] == ':' ? strtoull(text + 9, nullptr, 10) : 0;
    return true;
}

inline Settings settings_of_environment() {
    Settings settings = {Order::up, 0, 0};
    const char* order = getenv("TINYGPT_EMULATOR_ORDER");
    if (order && !read_order(order, settings)) {
        fprintf(stderr, "TINYGPT_EMULATOR_ORDER=%s: use up, down or shuffled:<seed>\n", order);
        exit(2);
    }
    const char* threads = getenv("TINYGPT_EMULATOR_THREADS");
    const long processors = threads ? atol(threads) : sysconf(_SC_NPROCESSORS_ONLN);
    settings.host_threads = processors < 1 ? 1 : processors > 16 ? 16 : u32(processors);
    return settings;
}

// ---- for programs of their own ----

inline Settings& settings() {
    static Settings settings = settings_of_environment();
    return settings;
}

inline bool try_launch(const char* name, dim3 grid, dim3 block, size_t shared_bytes, void (*function)(const void*),
                       const void* args, u32 most_threads, char* message, size_t message_bytes) {
    const u64 threads = u64(block.x) * block.y * block.z;
    if (threads > most_threads) {
        snprintf(message, message_bytes, "kernel %s: %llu threads, but it is declared for %u", name, threads, most_threads);
        return false;
    }
    Launch launch = {name, function, args, grid, block, shared_bytes, emulated_current, emulated_static_shared,
                     settings().order, settings().seed, settings().host_threads, nullptr};
    return run(launch, message, message_bytes);
}

template <class Args>
inline void launch_or_exit(const char* name, dim3 grid, dim3 block, size_t shared_bytes, void (*function)(const void*),
                           const Args& args, u32 most_threads, u32 args_size) {
    char message[2048];
    if (sizeof(Args) != args_size) {
        fprintf(stderr, "kernel %s takes %u bytes of arguments, got %zu\n", name, args_size, sizeof(Args));
        exit(1);
    }
    if (!try_launch(name, grid, block, shared_bytes, function, &args, most_threads, message, sizeof message)) {
        fprintf(stderr, "%s\n", message);
        exit(1);
    }
}

} // namespace emulated

// Runs a kernel of this file; prints the message and ends the program if it fails.
#define emulated_launch(grid, block, shared_bytes, kernel, args) \
    emulated::launch_or_exit(#kernel, grid, block, shared_bytes, kernel, args, kernel##_threads, kernel##_args_size)

// The order in which threads and blocks run from now on: "up", "down" or "shuffled:<seed>".
inline void emulated_order(const char* order) {
    if (emulated::read_order(order, emulated::settings())) return;
    fprintf(stderr, "emulated_order(\"%s\"): use up, down or shuffled:<seed>\n", order);
    exit(1);
}

#endif
