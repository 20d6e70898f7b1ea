// The driver and NVRTC as a program uses them. The argument names the case; each ends with "ok".
#include "cuda.h"

#include <math.h>
#include <pthread.h>
#include <unistd.h>

static const char* const KERNELS = R"(
#include "emulated.h"
#include "scale.cuh"
struct Args { float* x; float factor; u32 n; };
KERNEL(scale, Args, 64, 1) {
    const u32 i = blockIdx.x * 64 + threadIdx.x;
    if (i < p.n) p.x[i] = scaled(p.x[i], p.factor) + OFFSET;
}
KERNEL(beyond, Args, 64, 1) { p.x[p.n + threadIdx.x] = 1.0f; }
KERNEL(large, Args, 64, 1) { DYNAMIC_SHARED(float, tile); tile[threadIdx.x] = 1.0f; p.x[threadIdx.x] = tile[threadIdx.x]; }
KERNEL(race, Args, 64, 1) {
    DYNAMIC_SHARED(float, tile);
    __shared__ float fixed[64];
    const u32 i = threadIdx.x, next = (i + 1) % 64, lane = (i & ~31u) | ((i + 1) & 31u);
    u32 r[2];
    tile[i] = fixed[i] = 1.0f;
    switch (p.n) {
    case 0: __syncthreads(); p.x[i] = tile[next] + fixed[next]; break;
    case 1: __syncwarp(); p.x[i] = tile[lane]; break;
    case 2: __syncthreads(); ldmatrix_x2(r, tile + i % 16 * 4); p.x[i] = float(r[0]); break;
    case 10: p.x[i] = tile[next]; break;
    case 11: p.x[i] = fixed[next]; break;
    case 12: __shfl_sync(0xffffffffu, 1.0f, 0); p.x[i] = tile[lane]; break; // orders no memory
    case 13: __syncwarp(); p.x[i] = tile[next]; break; // of another warp
    case 14: ldmatrix_x2(r, tile + i % 16 * 4); p.x[i] = float(r[0]); break;
    case 15: p.x[i / 2] = float(i); break;
    case 16: __syncthreads(); p.x[i] = tile[next]; tile[i] = 2.0f; break; // written while others read
    }
}
KERNEL(order, Args, 64, 1) { if (p.x[0] != p.x[0]) p.x[0] = float(threadIdx.x); }
)";
static const char* const HEADER = "DEVICE float scaled(float x, float factor) { return x * factor; }\n";

struct Args {
    uint64_t x;
    float factor;
    unsigned n;
};

static int compile(const char* text, const char* option, std::vector<char>& image, std::string& log) {
    void* program;
    const char* const names[] = {"scale.cuh"};
    EXPECT(nvrtcCreateProgram(&program, text, "test.cu", 1, &HEADER, names), 0);
    const char* const options[] = {"--gpu-architecture=sm_90", "-DOFFSET=1", option};
    const int code = nvrtcCompileProgram(program, option ? 3 : 2, options);
    size_t bytes;
    EXPECT(nvrtcGetProgramLogSize(program, &bytes), 0);
    std::vector<char> text_of_log(bytes);
    EXPECT(nvrtcGetProgramLog(program, text_of_log.data()), 0);
    log = text_of_log.data();
    EXPECT(nvrtcGetCUBINSize(program, &bytes), 0);
    image.resize(bytes);
    if (bytes) EXPECT(nvrtcGetCUBIN(program, image.data()), 0);
    EXPECT(nvrtcDestroyProgram(&program), 0);
    EXPECT(program == nullptr, true);
    return code;
}

static void* module;

static void* kernel(const char* name) {
    if (!module) {
        std::vector<char> image;
        std::string log;
        EXPECT(compile(KERNELS, nullptr, image, log), 0);
        EXPECT(cuModuleLoadData(&module, image.data()), 0);
    }
    void* function;
    EXPECT(cuModuleGetFunction(&function, module, name), 0);
    return function;
}

static int launch(void* function, Args args, unsigned blocks = 1, unsigned threads = 64, unsigned shared_bytes = 0) {
    void* arguments[] = {&args};
    const int code = cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, shared_bytes, stream, arguments, nullptr);
    args = Args{1, 0, 1u << 31}; // a launch keeps its own copy
    return code;
}

static void launches() {
    const uint64_t x = upload(std::vector<float>{1, 2, 3, 4});
    EXPECT(launch(kernel("scale"), Args{x, 2, 4}), 0);
    CHECK(download<float>(x, 4) == (std::vector<float>{3, 5, 7, 9}));
    void* function;
    EXPECT(cuModuleGetFunction(&function, module, "missing"), 500);
    EXPECT(launch(kernel("scale"), Args{x, 2, 4}, 1, 65), 1);
    COMPLAINED("65 threads per block, at most 64 are allowed");
    EXPECT(launch(kernel("scale"), Args{x, 2, 4}, 0), 1);
    // More than 48 KiB only after asking, and never more than the card has.
    const uint64_t y = alloc(256);
    EXPECT(launch(kernel("large"), Args{y, 0, 0}, 1, 64, 49153), 1);
    void* large = kernel("large");
    EXPECT(cuFuncSetAttribute(large, 8, 100000), 0);
    EXPECT(cuFuncSetAttribute(large, 8, 1 << 20), 1);
    EXPECT(launch(large, Args{y, 0, 0}, 1, 64, 100000), 0);
    EXPECT(cuModuleUnload(module), 0);
    EXPECT(launch(large, Args{y, 0, 0}), 400);
}

static void orders() {
    const char* const names[] = {"up", "down"};
    for (int i = 0; i < 2; i++) {
        EXPECT(tinygpt_emulator_order(names[i]), 0);
        const uint64_t x = alloc(4); // NaN
        EXPECT(launch(kernel("order"), Args{x, 0, 0}), 0);
        EXPECT(download<float>(x, 1)[0], i == 0 ? 0 : 63);
    }
    EXPECT(tinygpt_emulator_order("left"), 1);
}

static void compile_errors() {
    std::vector<char> image;
    std::string log;
    EXPECT(compile("#include \"emulated.h\"\nint broken() { return missing_name; }\n", nullptr, image, log), 6);
    CHECK(log.find("missing_name") != std::string::npos && log.find("test.cu:2") != std::string::npos);
    CHECK(log.find("/build-") == std::string::npos && image.empty());
    EXPECT(compile(KERNELS, "--fast-everything", image, log), 5);
    EXPECT(compile(KERNELS, "--gpu-architecture=compute_90", image, log), 0);
    EXPECT(image.size(), 0);
    EXPECT(cuModuleLoadData(&module, "\177ELF"), 200);
    module = nullptr;
}

static void memory() {
    // TINYGPT_EMULATOR_MEMORY=4000000
    size_t free_bytes, total;
    EXPECT(cuMemGetInfo_v2(&free_bytes, &total), 0);
    EXPECT(total, 4000000);
    uint64_t x = alloc(1000), large = alloc(3000000), more;
    EXPECT(x % 256, 0);
    EXPECT(cuMemAlloc_v2(&more, 1000000), 2);
    for (float value : download<float>(x, 250)) CHECK(isnan(value));
    CHECK(isnan(download<float>(large, 750000)[749999]));
    std::vector<float> values(251);
    EXPECT(cuMemcpyHtoDAsync_v2(x, values.data(), 1004, stream), 1);
    COMPLAINED("cuMemcpyHtoDAsync: the target, 1004 bytes from");
    EXPECT(cuMemcpyDtoHAsync_v2(values.data(), x + 4, 1000, stream), 1);
    EXPECT(cuMemcpyDtoDAsync_v2(x, x + 100, 200, stream), 1);
    COMPLAINED("overlap");
    EXPECT(cuMemsetD8Async(x, 0, 1001, stream), 1);
    EXPECT(cuMemsetD8Async(x, 0, 1000, stream), 0);
    EXPECT(download<float>(x, 250)[249], 0);
    EXPECT(cuMemFree_v2(x + 256), 1);
    EXPECT(cuMemFree_v2(x), 0);
    EXPECT(cuMemFree_v2(x), 1);
    EXPECT(cuMemFree_v2(large), 0);
    EXPECT(cuMemGetInfo_v2(&free_bytes, &total), 0);
    EXPECT(free_bytes, 4000000);
}

static void kernels_out_of_bounds() {
    // The last 96 bytes of 256 belong to nobody: NaN, and checked after the launch.
    const uint64_t x = alloc(160);
    EXPECT(launch(kernel("beyond"), Args{x, 0, 40}, 1, 24), 700);
    COMPLAINED("kernel beyond wrote 96 bytes past the end of an allocation of 160 bytes");
    EXPECT(launch(kernel("beyond"), Args{x, 0, 64}), 700);
    COMPLAINED("thread (0, 0, 0): an address out of bounds");
    COMPLAINED("(96 bytes past the end of an allocation of 160 bytes)");
    const char* text;
    EXPECT(cuGetErrorString(700, &text), 0);
    CHECK(strstr(text, "kernel beyond, block (0, 0, 0)"));
    const uint64_t y = upload(std::vector<float>{1});
    EXPECT(cuMemFree_v2(y), 0);
    EXPECT(launch(kernel("scale"), Args{y, 1, 1}), 700);
    // The process and the device are as before.
    const uint64_t z = upload(std::vector<float>{1});
    EXPECT(launch(kernel("scale"), Args{z, 1, 1}), 0);
    EXPECT(download<float>(z, 1)[0], 2);
}

static void graphs() {
    const uint64_t x = upload(std::vector<float>{1, 2}), y = alloc(8);
    EXPECT(launch(kernel("scale"), Args{x, 1, 2}), 0);
    void *graph, *exec;
    EXPECT(cuStreamBeginCapture_v2(stream, 1), 0);
    EXPECT(launch(kernel("scale"), Args{x, 10, 2}), 0);
    EXPECT(cuMemcpyDtoDAsync_v2(y, x, 8, stream), 0);
    EXPECT(cuMemsetD8Async(x, 0, 4, stream), 0);
    EXPECT(cuStreamEndCapture(stream, &graph), 0);
    CHECK(download<float>(x, 2) == (std::vector<float>{2, 3})); // nothing has run
    EXPECT(cuGraphInstantiateWithFlags(&exec, graph, 0), 0);
    EXPECT(cuGraphDestroy(graph), 0);
    EXPECT(cuGraphLaunch(exec, stream), 0);
    CHECK(download<float>(y, 2) == (std::vector<float>{21, 31}));
    CHECK(download<float>(x, 2) == (std::vector<float>{0, 31}));
    EXPECT(cuGraphLaunch(exec, stream), 0);
    CHECK(download<float>(y, 2) == (std::vector<float>{1, 311}));
    EXPECT(cuGraphExecDestroy(exec), 0);
    EXPECT(cuGraphLaunch(exec, stream), 400);
    // What a capture forbids ends it.
    uint64_t more;
    EXPECT(cuStreamBeginCapture_v2(stream, 1), 0);
    EXPECT(cuMemAlloc_v2(&more, 4), 900);
    COMPLAINED("cuMemAlloc_v2: not permitted while this thread captures");
    EXPECT(launch(kernel("scale"), Args{x, 10, 2}), 901);
    EXPECT(cuStreamEndCapture(stream, &graph), 901);
    EXPECT(graph == nullptr, true);
    EXPECT(cuStreamBeginCapture_v2(stream, 1), 0);
    EXPECT(cuStreamSynchronize(stream), 900);
    EXPECT(cuStreamEndCapture(stream, &graph), 901);
    EXPECT(cuStreamEndCapture(stream, &graph), 903);
    EXPECT(cuStreamSynchronize(stream), 0);
    EXPECT(launch(kernel("scale"), Args{x, 10, 2}), 0);
}

static void* on_another_thread(void*) {
    uint64_t address;
    EXPECT(cuMemAlloc_v2(&address, 4), 201);
    COMPLAINED("no context is current on this thread");
    return nullptr;
}

static void handles() {
    pthread_t thread;
    EXPECT(pthread_create(&thread, nullptr, on_another_thread, nullptr), 0);
    pthread_join(thread, nullptr);
    void *event, *later, *other;
    float elapsed;
    EXPECT(cuEventCreate(&event, 0), 0);
    EXPECT(cuEventCreate(&later, 0), 0);
    EXPECT(cuEventRecord(event, stream), 0);
    EXPECT(cuEventElapsedTime(&elapsed, event, later), 400); // never recorded
    usleep(20000);
    EXPECT(cuEventRecord(later, stream), 0);
    EXPECT(cuEventSynchronize(later), 0);
    EXPECT(cuEventElapsedTime(&elapsed, event, later), 0);
    CHECK(elapsed >= 20.0f && elapsed < 2000.0f);
    EXPECT(cuEventDestroy_v2(event), 0);
    EXPECT(cuEventRecord(event, stream), 400);
    EXPECT(cuStreamCreate(&other, 1), 0);
    EXPECT(cuStreamDestroy_v2(other), 0);
    EXPECT(cuStreamSynchronize(other), 400);
}

static void faults() {
    // TINYGPT_EMULATOR_FAIL=cuMemAlloc_v2:3,cuLaunchKernel:2:700
    const uint64_t x = alloc(4);
    alloc(4);
    uint64_t more;
    EXPECT(cuMemAlloc_v2(&more, 4), 2);
    alloc(4);
    EXPECT(launch(kernel("scale"), Args{x, 1, 1}), 0);
    EXPECT(launch(kernel("scale"), Args{x, 1, 1}), 700);
    EXPECT(launch(kernel("scale"), Args{x, 1, 1}), 0);
    // Of one thread, and a device that stays lost.
    EXPECT(tinygpt_emulator_fail("cuStreamSynchronize:2:719:lost"), 0);
    EXPECT(cuStreamSynchronize(stream), 0);
    EXPECT(cuStreamSynchronize(stream), 719);
    EXPECT(cuStreamSynchronize(stream), 719);
    EXPECT(cuMemFree_v2(x), 719);
    EXPECT(tinygpt_emulator_fail(""), 0);
    EXPECT(cuMemFree_v2(x), 0);
    EXPECT(tinygpt_emulator_fail("cuMemFree_v2"), 1);
}

static void late() {
    // TINYGPT_EMULATOR_LATE=1
    float* pinned;
    EXPECT(cuMemHostAlloc((void**)&pinned, 8, 0), 0);
    const uint64_t x = alloc(4), y = alloc(4);
    float pageable = 5;
    pinned[0] = 1;
    EXPECT(cuMemcpyHtoDAsync_v2(x, pinned, 4, stream), 0);
    EXPECT(cuMemcpyHtoDAsync_v2(y, &pageable, 4, stream), 0);
    pinned[0] = 2; // too early
    pageable = 6; // in time: the driver has its copy
    EXPECT(launch(kernel("scale"), Args{x, 10, 1}), 0);
    EXPECT(cuMemcpyDtoHAsync_v2(pinned + 1, x, 4, stream), 0);
    CHECK(isnan(pinned[1])); // read before the wait
    EXPECT(cuStreamSynchronize(stream), 0);
    EXPECT(pinned[1], 21);
    EXPECT(download<float>(y, 1)[0], 5);
    // An error belongs to the wait.
    EXPECT(launch(kernel("beyond"), Args{x, 0, 1 << 20}), 0);
    EXPECT(cuStreamSynchronize(stream), 700);
    EXPECT(cuMemFreeHost(pinned), 0);
    EXPECT(cuMemFreeHost(pinned), 1);
}

static unsigned which;
static void races() {
    const uint64_t x = alloc(256);
    EXPECT(launch(kernel("race"), Args{x, 0, which}, 2, 64, 256), 0);
}

int main(int count, char** arguments) {
    which = count > 2 ? unsigned(atoi(arguments[2])) : 0;
    const struct {
        const char* name;
        void (*run)();
    } cases[] = {{"launches", launches}, {"orders", orders}, {"compile_errors", compile_errors}, {"memory", memory},
                 {"kernels_out_of_bounds", kernels_out_of_bounds}, {"graphs", graphs}, {"handles", handles},
                 {"faults", faults}, {"late", late}, {"races", races}};
    for (const auto& one : cases) {
        if (count < 2 || strcmp(one.name, arguments[1])) continue;
        open_device();
        one.run();
        printf("ok\n");
        return 0;
    }
    return 2;
}
