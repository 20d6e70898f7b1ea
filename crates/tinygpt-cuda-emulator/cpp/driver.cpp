// The stand-in for the CUDA driver: the functions that tinygpt-cuda calls, as cuda.h declares them.
//
// A stream runs every operation at once, on the calling thread, so a failed launch is reported by its own
// call (as with CUDA_LAUNCH_BLOCKING=1). With TINYGPT_EMULATOR_LATE=1 it runs them when the host waits for
// the stream: pinned memory that is changed too early, or read before the wait, then gives wrong numbers.
#include "emulated.h"

#include "device.h"
#include "memory.h"

#include <dlfcn.h>
#include <time.h>

#include <algorithm>
#include <mutex>

using namespace device;
using emulated::Lane;

namespace {

// Handles point to objects that start with one of these; a destroyed object keeps its memory and loses it.
enum Kind : u32 { CONTEXT = 0x1c7c0001, STREAM, MODULE, FUNCTION, EVENT, GRAPH, GRAPH_EXEC };

struct Object {
    u32 kind;
};

struct Graph : Object {
    std::vector<Operation> operations;
};

struct Stream : Object {
    std::mutex lock;
    std::vector<Operation> pending;
    bool capturing = false, invalidated = false;
    std::vector<Operation> captured;
};

struct Module : Object {
    void* library;
    Lane** (*current)();
    void (*static_shared)(u8**, size_t*);
    std::vector<struct Function*> functions;
};

struct Function : Object {
    std::string name;
    Module* module;
    void (*run)(const void*);
    u32 args_bytes, most_threads;
    size_t most_dynamic_shared;
};

struct Event : Object {
    Stream* stream; // that it was recorded in last
    bool timed, recorded;
    double milliseconds;
};

Object context = {CONTEXT};
thread_local Object* current_context;
// The stream that this thread captures: calls that cannot be captured end the capture.
thread_local Stream* capturing_stream;
int retained;
bool initialized;

template <class T>
T* as(void* handle, Kind kind) {
    T* object = static_cast<T*>(handle);
    return object && object->kind == kind ? object : nullptr;
}

// A call that needs a context; one that `captured` says cannot happen during a capture ends it.
int begin(const char* name, int usual, bool forbidden_in_capture = false) {
    if (const int code = enter(name, usual)) return code;
    if (!current_context) {
        complain("%s: no context is current on this thread", name);
        return INVALID_CONTEXT;
    }
    if (forbidden_in_capture && capturing_stream) {
        complain("%s: not permitted while this thread captures a stream", name);
        capturing_stream->invalidated = true;
        return CAPTURE_UNSUPPORTED;
    }
    return SUCCESS;
}

double milliseconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return double(now.tv_sec) * 1e3 + double(now.tv_nsec) * 1e-6;
}

bool late() {
    static const bool late = number_of_environment("TINYGPT_EMULATOR_LATE", 0) != 0;
    return late;
}

int run(const Operation& operation) {
    const int code = operation.run();
    if (code) return code;
    return check_margins(operation.name.c_str()) ? SUCCESS : ILLEGAL_ADDRESS;
}

int run_all(const std::vector<Operation>& operations) {
    for (const Operation& operation : operations) {
        if (const int code = run(operation)) return code;
    }
    return SUCCESS;
}

// Runs what a stream still has to do.
int finish(Stream& stream) {
    std::lock_guard<std::mutex> guard(stream.lock);
    std::vector<Operation> operations;
    operations.swap(stream.pending);
    return run_all(operations);
}

Stream default_stream; // for handles that are null
std::mutex streams_lock;
std::vector<Stream*> streams;

// What a call does that waits for the whole device.
int finish_all() {
    std::lock_guard<std::mutex> guard(streams_lock);
    for (Stream* stream : streams) {
        if (const int code = finish(*stream)) return code;
    }
    return finish(default_stream);
}

Stream* stream_of(void* handle) {
    if (!handle) {
        default_stream.kind = STREAM;
        return &default_stream;
    }
    return as<Stream>(handle, STREAM);
}

emulated::Settings& settings_of_process() {
    static emulated::Settings settings = emulated::settings_of_environment();
    return settings;
}

thread_local emulated::Settings settings_of_thread;
thread_local bool has_settings_of_thread;

u32 capability() {
    static const u32 capability = u32(number_of_environment("TINYGPT_EMULATOR_CAPABILITY", 90));
    return capability;
}

size_t most_shared() {
    const u32 version = capability();
    return version == 80 ? 166912 : version == 86 || version == 89 || version >= 120 ? 101376 : 232448;
}

std::mutex pinned_lock;
std::vector<std::pair<u8*, size_t>> pinned;

bool is_pinned(const void* address, size_t bytes) {
    std::lock_guard<std::mutex> guard(pinned_lock);
    const u8* at = static_cast<const u8*>(address);
    for (const auto& [begin, size] : pinned) {
        if (at >= begin && at + bytes <= begin + size) return true;
    }
    return false;
}

} // namespace

namespace device {

int submit(void* handle, Operation operation) {
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    std::lock_guard<std::mutex> guard(stream->lock);
    if (stream->invalidated) return CAPTURE_INVALIDATED;
    if (stream->capturing) stream->captured.push_back(std::move(operation));
    else if (late()) stream->pending.push_back(std::move(operation));
    else return run(operation);
    return SUCCESS;
}

} // namespace device

extern "C" {

// "up", "down" or "shuffled:<seed>" for launches of the calling thread; an empty text restores the
// environment's. 1 if the text cannot be read.
int tinygpt_emulator_order(const char* text) {
    settings_of_thread = settings_of_process();
    has_settings_of_thread = *text != 0;
    return !*text || emulated::read_order(text, settings_of_thread) ? 0 : 1;
}

// ---- driver, device, context ----

int cuInit(unsigned) {
    if (const int code = enter("cuInit", NO_DEVICE)) return code;
    if (number_of_environment("TINYGPT_EMULATOR_DEVICES", 1) == 0) return NO_DEVICE;
    initialized = true;
    return SUCCESS;
}

int cuDriverGetVersion(int* version) {
    if (const int code = enter("cuDriverGetVersion", INVALID_VALUE)) return code;
    *version = int(number_of_environment("TINYGPT_EMULATOR_DRIVER", 13000));
    return SUCCESS;
}

namespace {
const struct {
    int code;
    const char *name, *text;
} errors[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "stream capture was not started on this stream"},
};
} // namespace

int cuGetErrorName(int code, const char** name) {
    for (const auto& error : errors) {
        if (error.code != code) continue;
        *name = error.name;
        return SUCCESS;
    }
    *name = nullptr;
    return INVALID_VALUE;
}

// Of a kernel that failed, the emulator's message, which names block, thread and place.
int cuGetErrorString(int code, const char** text) {
    for (const auto& error : errors) {
        if (error.code != code) continue;
        const char* message = tinygpt_emulator_message();
        *text = *message && (code == ILLEGAL_ADDRESS || code == LAUNCH_FAILED) ? message : error.text;
        return SUCCESS;
    }
    *text = nullptr;
    return INVALID_VALUE;
}

int cuDeviceGetCount(int* count) {
    if (const int code = enter("cuDeviceGetCount", NOT_INITIALIZED)) return code;
    if (!initialized) return NOT_INITIALIZED;
    *count = int(number_of_environment("TINYGPT_EMULATOR_DEVICES", 1));
    return SUCCESS;
}

int cuDeviceGet(int* device, int index) {
    int count = 0;
    if (const int code = enter("cuDeviceGet", INVALID_DEVICE)) return code;
    if (const int code = cuDeviceGetCount(&count)) return code;
    if (index < 0 || index >= count) return INVALID_DEVICE;
    *device = index;
    return SUCCESS;
}

int cuDeviceGetName(char* name, int bytes, int) {
    if (const int code = enter("cuDeviceGetName", INVALID_DEVICE)) return code;
    snprintf(name, size_t(bytes), "CUDA emulator");
    return SUCCESS;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
    if (const int code = enter("cuDeviceGetAttribute", INVALID_DEVICE)) return code;
    switch (attribute) {
    case 1: *value = 1024; return SUCCESS; // threads per block
    case 8: *value = 49152; return SUCCESS; // shared memory per block without opting in
    case 10: *value = 32; return SUCCESS; // threads per warp
    case 16: *value = int(number_of_environment("TINYGPT_EMULATOR_MULTIPROCESSORS", 4)); return SUCCESS;
    case 75: *value = int(capability() / 10); return SUCCESS;
    case 76: *value = int(capability() % 10); return SUCCESS;
    case 97: *value = int(most_shared()); return SUCCESS;
    default: complain("cuDeviceGetAttribute: attribute %d has no value here", attribute); return INVALID_VALUE;
    }
}

int cuDeviceTotalMem_v2(size_t* bytes, int) {
    if (const int code = enter("cuDeviceTotalMem_v2", INVALID_DEVICE)) return code;
    *bytes = total_memory();
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void** handle, int) {
    if (const int code = enter("cuDevicePrimaryCtxRetain", OUT_OF_MEMORY)) return code;
    if (!initialized) return NOT_INITIALIZED;
    __atomic_add_fetch(&retained, 1, __ATOMIC_SEQ_CST);
    *handle = &context;
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int) {
    if (const int code = enter("cuDevicePrimaryCtxRelease_v2", INVALID_CONTEXT)) return code;
    if (__atomic_sub_fetch(&retained, 1, __ATOMIC_SEQ_CST) >= 0) return SUCCESS;
    complain("cuDevicePrimaryCtxRelease: released more often than retained");
    return INVALID_CONTEXT;
}

int cuCtxSetCurrent(void* handle) {
    if (const int code = enter("cuCtxSetCurrent", INVALID_CONTEXT)) return code;
    if (handle && !as<Object>(handle, CONTEXT)) return INVALID_CONTEXT;
    current_context = static_cast<Object*>(handle);
    return SUCCESS;
}

// ---- streams ----

int cuStreamCreate(void** handle, unsigned) {
    if (const int code = begin("cuStreamCreate", OUT_OF_MEMORY)) return code;
    Stream* stream = new Stream;
    stream->kind = STREAM;
    std::lock_guard<std::mutex> guard(streams_lock);
    streams.push_back(stream);
    *handle = stream;
    return SUCCESS;
}

int cuStreamSynchronize(void* handle) {
    if (const int code = begin("cuStreamSynchronize", LAUNCH_FAILED)) return code;
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capturing) {
        complain("cuStreamSynchronize: the stream is being captured");
        stream->invalidated = true;
        return CAPTURE_UNSUPPORTED;
    }
    return finish(*stream);
}

int cuStreamDestroy_v2(void* handle) {
    if (const int code = begin("cuStreamDestroy_v2", INVALID_HANDLE)) return code;
    Stream* stream = as<Stream>(handle, STREAM);
    if (!stream) return INVALID_HANDLE;
    const int code = finish(*stream);
    stream->kind = 0;
    std::lock_guard<std::mutex> guard(streams_lock);
    streams.erase(std::remove(streams.begin(), streams.end(), stream), streams.end());
    return code;
}

// ---- memory ----

int cuMemGetInfo_v2(size_t* free, size_t* total) {
    if (const int code = begin("cuMemGetInfo_v2", INVALID_CONTEXT)) return code;
    *free = free_memory();
    *total = total_memory();
    return SUCCESS;
}

int cuMemAlloc_v2(u64* address, size_t bytes) {
    if (const int code = begin("cuMemAlloc_v2", OUT_OF_MEMORY, true)) return code;
    void* made = nullptr;
    const int code = allocate(&made, bytes);
    *address = u64(made);
    return code;
}

int cuMemFree_v2(u64 address) {
    if (const int code = begin("cuMemFree_v2", INVALID_VALUE, true)) return code;
    if (!address) return SUCCESS;
    const int finished = finish_all();
    const bool clean = check_margins("something before cuMemFree");
    if (const int code = release(reinterpret_cast<void*>(address))) {
        complain("cuMemFree: %p is not the start of an allocation", reinterpret_cast<void*>(address));
        return code;
    }
    return finished || clean ? finished : ILLEGAL_ADDRESS;
}

int cuMemHostAlloc(void** address, size_t bytes, unsigned) {
    if (const int code = begin("cuMemHostAlloc", OUT_OF_MEMORY, true)) return code;
    if (bytes == 0 || posix_memalign(address, 4096, bytes) != 0) return bytes ? OUT_OF_MEMORY : INVALID_VALUE;
    memset(*address, 0xff, bytes);
    std::lock_guard<std::mutex> guard(pinned_lock);
    pinned.emplace_back(static_cast<u8*>(*address), bytes);
    return SUCCESS;
}

int cuMemFreeHost(void* address) {
    if (const int code = begin("cuMemFreeHost", INVALID_VALUE, true)) return code;
    std::lock_guard<std::mutex> guard(pinned_lock);
    for (size_t i = 0; i < pinned.size(); i++) {
        if (pinned[i].first != address) continue;
        pinned.erase(pinned.begin() + long(i));
        free(address);
        return SUCCESS;
    }
    complain("cuMemFreeHost: %p is not pinned memory", address);
    return INVALID_VALUE;
}

// From pageable memory: the driver has copied the bytes when it returns. From pinned memory it has not.
int cuMemcpyHtoDAsync_v2(u64 to, const void* from, size_t bytes, void* stream) {
    if (const int code = begin("cuMemcpyHtoDAsync_v2", INVALID_VALUE)) return code;
    void* target = reinterpret_cast<void*>(to);
    if (bytes == 0) return SUCCESS;
    if (!check_region("cuMemcpyHtoDAsync", "the target", target, bytes)) return INVALID_VALUE;
    if (late() && !is_pinned(from, bytes)) {
        std::vector<u8> staged(static_cast<const u8*>(from), static_cast<const u8*>(from) + bytes);
        return submit(stream, {"cuMemcpyHtoDAsync", [=] { return memcpy(target, staged.data(), bytes), SUCCESS; }});
    }
    return submit(stream, {"cuMemcpyHtoDAsync", [=] { return memcpy(target, from, bytes), SUCCESS; }});
}

int cuMemcpyDtoHAsync_v2(void* to, u64 from, size_t bytes, void* stream) {
    if (const int code = begin("cuMemcpyDtoHAsync_v2", INVALID_VALUE)) return code;
    const void* source = reinterpret_cast<const void*>(from);
    if (bytes == 0) return SUCCESS;
    if (!check_region("cuMemcpyDtoHAsync", "the source", source, bytes)) return INVALID_VALUE;
    if (const int code = submit(stream, {"cuMemcpyDtoHAsync", [=] { return memcpy(to, source, bytes), SUCCESS; }})) return code;
    Stream* queue = stream_of(stream);
    return late() && !queue->capturing && !is_pinned(to, bytes) ? finish(*queue) : SUCCESS;
}

int cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, void* stream) {
    if (const int code = begin("cuMemcpyDtoDAsync_v2", INVALID_VALUE)) return code;
    void* target = reinterpret_cast<void*>(to);
    const void* source = reinterpret_cast<const void*>(from);
    if (bytes == 0) return SUCCESS;
    if (!check_region("cuMemcpyDtoDAsync", "the target", target, bytes)) return INVALID_VALUE;
    if (!check_region("cuMemcpyDtoDAsync", "the source", source, bytes)) return INVALID_VALUE;
    if (to < from + bytes && from < to + bytes) {
        complain("cuMemcpyDtoDAsync: source and target overlap");
        return INVALID_VALUE;
    }
    return submit(stream, {"cuMemcpyDtoDAsync", [=] { return memcpy(target, source, bytes), SUCCESS; }});
}

int cuMemsetD8Async(u64 to, unsigned char value, size_t bytes, void* stream) {
    if (const int code = begin("cuMemsetD8Async", INVALID_VALUE)) return code;
    void* target = reinterpret_cast<void*>(to);
    if (bytes == 0) return SUCCESS;
    if (!check_region("cuMemsetD8Async", "the target", target, bytes)) return INVALID_VALUE;
    return submit(stream, {"cuMemsetD8Async", [=] { return memset(target, value, bytes), SUCCESS; }});
}

// ---- modules and kernels ----

int cuModuleLoadData(void** handle, const void* image) {
    if (const int code = begin("cuModuleLoadData", INVALID_IMAGE, true)) return code;
    Source source;
    std::string log;
    if (!read_image(static_cast<const char*>(image), source)) return INVALID_IMAGE;
    const std::string path = build(source, log);
    void* library = path.empty() ? nullptr : dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        complain("cuModuleLoadData: %s", path.empty() ? log.c_str() : dlerror());
        return INVALID_IMAGE;
    }
    Module* module = new Module;
    module->kind = MODULE;
    module->library = library;
    module->current = reinterpret_cast<Lane** (*)()>(dlsym(library, "emulated_current"));
    module->static_shared = reinterpret_cast<void (*)(u8**, size_t*)>(dlsym(library, "emulated_static_shared"));
    if (!module->current || !module->static_shared) {
        complain("cuModuleLoadData: %s does not include device.cuh", source.name.c_str());
        return INVALID_IMAGE;
    }
    *handle = module;
    return SUCCESS;
}

int cuModuleUnload(void* handle) {
    if (const int code = begin("cuModuleUnload", INVALID_HANDLE, true)) return code;
    Module* module = as<Module>(handle, MODULE);
    if (!module) return INVALID_HANDLE;
    for (Function* function : module->functions) function->kind = 0;
    module->kind = 0;
    return SUCCESS;
}

int cuModuleGetFunction(void** handle, void* module_handle, const char* name) {
    if (const int code = begin("cuModuleGetFunction", NOT_FOUND)) return code;
    Module* module = as<Module>(module_handle, MODULE);
    if (!module) return INVALID_HANDLE;
    void* run = dlsym(module->library, name);
    const u32* bytes = static_cast<u32*>(dlsym(module->library, (std::string(name) + "_args_size").c_str()));
    const u32* threads = static_cast<u32*>(dlsym(module->library, (std::string(name) + "_threads").c_str()));
    if (!run || !bytes || !threads) return NOT_FOUND;
    Function* function = new Function;
    function->kind = FUNCTION;
    function->name = name;
    function->module = module;
    function->run = reinterpret_cast<void (*)(const void*)>(run);
    function->args_bytes = *bytes;
    function->most_threads = *threads;
    function->most_dynamic_shared = 49152;
    module->functions.push_back(function);
    *handle = function;
    return SUCCESS;
}

namespace {
size_t static_shared_bytes(const Module& module) {
    u8* begin;
    size_t bytes;
    module.static_shared(&begin, &bytes);
    return bytes > sizeof(void*) ? bytes - sizeof(void*) : 0; // without `current`
}
} // namespace

// The attributes that a kernel of the host has: its shared memory and its largest block.
int cuFuncGetAttribute(int* value, int attribute, void* handle) {
    if (const int code = begin("cuFuncGetAttribute", INVALID_VALUE)) return code;
    const Function* function = as<Function>(handle, FUNCTION);
    if (!function) return INVALID_HANDLE;
    switch (attribute) {
    case 0: *value = int(function->most_threads); return SUCCESS;
    case 1: *value = int(static_shared_bytes(*function->module)); return SUCCESS;
    case 3: *value = 0; return SUCCESS; // local memory
    case 4: *value = 32; return SUCCESS; // registers
    case 8: *value = int(function->most_dynamic_shared); return SUCCESS;
    default: complain("cuFuncGetAttribute: attribute %d has no value here", attribute); return INVALID_VALUE;
    }
}

int cuFuncSetAttribute(void* handle, int attribute, int value) {
    if (const int code = begin("cuFuncSetAttribute", INVALID_VALUE)) return code;
    Function* function = as<Function>(handle, FUNCTION);
    if (!function) return INVALID_HANDLE;
    if (attribute == 9) return SUCCESS; // how the cache is split: a hint
    if (attribute != 8 || value < 0) return INVALID_VALUE;
    if (size_t(value) + static_shared_bytes(*function->module) > most_shared()) return INVALID_VALUE;
    function->most_dynamic_shared = size_t(value);
    return SUCCESS;
}

int cuLaunchKernel(void* handle, u32 grid_x, u32 grid_y, u32 grid_z, u32 block_x, u32 block_y, u32 block_z,
                   u32 shared_bytes, void* stream, void** arguments, void** extra) {
    if (const int code = begin("cuLaunchKernel", LAUNCH_FAILED)) return code;
    const Function* function = as<Function>(handle, FUNCTION);
    if (!function) return INVALID_HANDLE;
    const char* name = function->name.c_str();
    const u64 threads = u64(block_x) * block_y * block_z;
    if (threads == 0 || threads > function->most_threads || block_z > 64) {
        complain("cuLaunchKernel: kernel %s: %llu threads per block, at most %u are allowed", name, threads, function->most_threads);
        return INVALID_VALUE;
    }
    if (grid_x == 0 || grid_y == 0 || grid_z == 0 || grid_x > 0x7fffffff || grid_y > 65535 || grid_z > 65535) {
        complain("cuLaunchKernel: kernel %s: a grid of (%u, %u, %u) blocks", name, grid_x, grid_y, grid_z);
        return INVALID_VALUE;
    }
    if (shared_bytes > function->most_dynamic_shared) {
        complain("cuLaunchKernel: kernel %s: %u bytes of dynamic shared memory, at most %zu are allowed", name, shared_bytes,
                 function->most_dynamic_shared);
        return INVALID_VALUE;
    }
    if (!arguments || !arguments[0] || extra) return INVALID_VALUE;
    const std::vector<u8> bytes(static_cast<u8*>(arguments[0]), static_cast<u8*>(arguments[0]) + function->args_bytes);
    const dim3 grid(grid_x, grid_y, grid_z), block(block_x, block_y, block_z);
    return submit(stream, {"kernel " + function->name, [=] {
        const emulated::Settings& settings = has_settings_of_thread ? settings_of_thread : settings_of_process();
        const emulated::Launch launch = {function->name.c_str(), function->run, bytes.data(), grid, block, shared_bytes,
                                         function->module->current, function->module->static_shared, settings.order,
                                         settings.seed, host_threads(), describe};
        char message[2048];
        if (emulated::run(launch, message, sizeof message)) return int(SUCCESS);
        complain("%s", message);
        return strstr(message, "out of bounds") ? int(ILLEGAL_ADDRESS) : int(LAUNCH_FAILED);
    }});
}

// ---- events ----

int cuEventCreate(void** handle, unsigned flags) {
    if (const int code = begin("cuEventCreate", OUT_OF_MEMORY)) return code;
    Event* event = new Event;
    event->kind = EVENT;
    event->timed = !(flags & 2);
    event->stream = nullptr;
    event->recorded = false;
    event->milliseconds = 0;
    *handle = event;
    return SUCCESS;
}

int cuEventDestroy_v2(void* handle) {
    if (const int code = begin("cuEventDestroy_v2", INVALID_HANDLE)) return code;
    Event* event = as<Event>(handle, EVENT);
    if (!event) return INVALID_HANDLE;
    event->kind = 0;
    return SUCCESS;
}

int cuEventRecord(void* handle, void* stream) {
    if (const int code = begin("cuEventRecord", INVALID_HANDLE)) return code;
    Event* event = as<Event>(handle, EVENT);
    if (!event) return INVALID_HANDLE;
    event->stream = stream_of(stream);
    event->recorded = false;
    return submit(stream, {"cuEventRecord", [=] {
        event->milliseconds = milliseconds();
        event->recorded = true;
        return SUCCESS;
    }});
}

int cuEventSynchronize(void* handle) {
    if (const int code = begin("cuEventSynchronize", LAUNCH_FAILED, true)) return code;
    const Event* event = as<Event>(handle, EVENT);
    if (!event) return INVALID_HANDLE;
    return event->stream ? finish(*event->stream) : SUCCESS;
}

int cuEventElapsedTime(float* elapsed, void* from_handle, void* to_handle) {
    if (const int code = begin("cuEventElapsedTime", INVALID_HANDLE)) return code;
    const Event *from = as<Event>(from_handle, EVENT), *to = as<Event>(to_handle, EVENT);
    if (!from || !to || !from->timed || !to->timed || !from->stream || !to->stream) return INVALID_HANDLE;
    if (!from->recorded || !to->recorded) return NOT_READY;
    *elapsed = float(to->milliseconds - from->milliseconds);
    return SUCCESS;
}

// CUDA 13 renamed the function; both names do the same.
int cuEventElapsedTime_v2(float* elapsed, void* from, void* to) {
    return cuEventElapsedTime(elapsed, from, to);
}

// ---- graphs ----

int cuStreamBeginCapture_v2(void* handle, int) {
    if (const int code = begin("cuStreamBeginCapture_v2", INVALID_VALUE)) return code;
    Stream* stream = as<Stream>(handle, STREAM); // the default stream cannot be captured
    if (!stream) return handle ? INVALID_HANDLE : CAPTURE_UNSUPPORTED;
    if (stream->capturing || capturing_stream) return INVALID_VALUE;
    if (const int code = finish(*stream)) return code;
    stream->capturing = true;
    stream->invalidated = false;
    stream->captured.clear();
    capturing_stream = stream;
    return SUCCESS;
}

int cuStreamEndCapture(void* handle, void** graph_handle) {
    const int injected = begin("cuStreamEndCapture", CAPTURE_INVALIDATED);
    *graph_handle = nullptr;
    Stream* stream = as<Stream>(handle, STREAM);
    if (!stream) return INVALID_HANDLE;
    if (!stream->capturing) return CAPTURE_UNMATCHED;
    const bool invalidated = stream->invalidated;
    stream->capturing = stream->invalidated = false;
    capturing_stream = nullptr;
    Graph* graph = new Graph;
    graph->kind = GRAPH;
    graph->operations.swap(stream->captured);
    if (injected || invalidated) {
        delete graph;
        return injected ? injected : CAPTURE_INVALIDATED;
    }
    *graph_handle = graph;
    return SUCCESS;
}

int cuGraphInstantiateWithFlags(void** handle, void* graph_handle, unsigned long long) {
    if (const int code = begin("cuGraphInstantiateWithFlags", OUT_OF_MEMORY)) return code;
    const Graph* graph = as<Graph>(graph_handle, GRAPH);
    if (!graph) return INVALID_HANDLE;
    Graph* made = new Graph;
    made->kind = GRAPH_EXEC;
    made->operations = graph->operations;
    *handle = made;
    return SUCCESS;
}

int cuGraphLaunch(void* handle, void* stream) {
    if (const int code = begin("cuGraphLaunch", LAUNCH_FAILED)) return code;
    const Graph* graph = as<Graph>(handle, GRAPH_EXEC);
    if (!graph) return INVALID_HANDLE;
    const std::vector<Operation> operations = graph->operations;
    return submit(stream, {"a graph", [=] { return run_all(operations); }});
}

namespace {
int destroy_graph(void* handle, Kind kind) {
    Graph* graph = as<Graph>(handle, kind);
    if (!graph) return INVALID_HANDLE;
    graph->operations.clear();
    graph->kind = 0;
    return SUCCESS;
}
} // namespace

int cuGraphDestroy(void* handle) {
    if (const int code = begin("cuGraphDestroy", INVALID_HANDLE)) return code;
    return destroy_graph(handle, GRAPH);
}

int cuGraphExecDestroy(void* handle) {
    if (const int code = begin("cuGraphExecDestroy", INVALID_HANDLE)) return code;
    return destroy_graph(handle, GRAPH_EXEC);
}

} // extern "C"
