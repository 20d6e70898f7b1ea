// What the stand-ins for the driver, NVRTC and cublasLt share: the memory of the device, its streams,
// faults that are asked for, and messages.
#ifndef TINYGPT_EMULATOR_DEVICE_H
#define TINYGPT_EMULATOR_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <string>
#include <vector>

namespace device {

// Results of the driver, as numbered in cuda.h.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903,
};

// Counts a call; the code that it has to return at once, or 0. `usual` is the code of a fault that was
// asked for without one.
int enter(const char* function, int usual);

// Prints what was wrong and keeps it for tinygpt_emulator_message and cuGetErrorString.
void complain(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Whether all bytes belong to one allocation. Complains if not: `what` names the operand.
bool check_region(const char* function, const char* what, const void* address, size_t bytes);

// Checks the bytes between the end of every allocation and its guard page; complains about `after`.
bool check_margins(const char* after);

struct Operation {
    std::string name;
    std::function<int()> run;
};

// Runs an operation of a stream now or later, or records it into a graph; `stream` is a CUstream.
int submit(void* stream, Operation operation);

// The numbers of the environment, with bounds.
uint64_t number_of_environment(const char* variable, uint64_t usual);
uint32_t host_threads();

// ---- modules.cpp: kernels as shared libraries ----

struct Source {
    std::string name, text;
    std::vector<std::pair<std::string, std::string>> headers;
    std::vector<std::string> defines;
};

// Compiles into the cache unless it is there. The path of the library, or an empty one and the log.
std::string build(const Source& source, std::string& log);

// The "cubin": a text that holds everything that `build` needs. `read_image` is false for other bytes.
std::string write_image(const Source& source);
bool read_image(const char* image, Source& source);

} // namespace device

// What tests call; see faults.cpp and driver.cpp.
extern "C" {
int tinygpt_emulator_fail(const char* text);
int tinygpt_emulator_order(const char* text);
const char* tinygpt_emulator_message();
}

#endif
