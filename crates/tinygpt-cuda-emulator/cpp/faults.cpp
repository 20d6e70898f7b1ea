// Calls that fail on purpose, messages, and the settings of the environment.
//
// A fault is `function:call[:code][:lost]`: the call with this number, counted from 1, returns the code,
// and with `lost` every later call of the driver does too, as after a GPU that has vanished. Faults of
// TINYGPT_EMULATOR_FAIL, separated by commas, count the calls of the process; those of tinygpt_emulator_fail
// count the calls of the thread that asked, so that tests of one process do not meet.
#include "device.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mutex>

namespace device {
namespace {

struct Fault {
    std::string function;
    uint64_t remaining;
    int code;
    bool lost;
};

struct Faults {
    std::vector<Fault> faults;
    int lost = 0;

    int meet(const char* function, int usual) {
        if (lost && strncmp(function, "cu", 2) == 0 && strncmp(function, "cublas", 6) != 0) return lost;
        for (Fault& fault : faults) {
            if (fault.function != function || fault.remaining == 0 || --fault.remaining > 0) continue;
            const int code = fault.code ? fault.code : usual;
            if (fault.lost) lost = code;
            return code;
        }
        return 0;
    }
};

bool read_faults(const std::string& text, std::vector<Fault>& faults) {
    for (size_t at = 0; at < text.size();) {
        const size_t comma = text.find(',', at);
        std::string one = text.substr(at, comma == std::string::npos ? comma : comma - at);
        at = comma == std::string::npos ? text.size() : comma + 1;
        Fault fault = {"", 0, 0, false};
        if (one.size() > 5 && one.compare(one.size() - 5, 5, ":lost") == 0) {
            fault.lost = true;
            one.resize(one.size() - 5);
        }
        const size_t colon = one.find(':');
        if (colon == std::string::npos) return false;
        fault.function = one.substr(0, colon);
        char* end;
        fault.remaining = strtoull(one.c_str() + colon + 1, &end, 10);
        if (*end == ':') fault.code = int(strtol(end + 1, &end, 10));
        if (*end || fault.remaining == 0) return false;
        faults.push_back(fault);
    }
    return true;
}

std::mutex lock;
thread_local Faults of_thread;
thread_local std::string last_message;

Faults& of_process() {
    static Faults faults = [] {
        Faults made;
        const char* text = getenv("TINYGPT_EMULATOR_FAIL");
        if (text && !read_faults(text, made.faults)) {
            fprintf(stderr, "TINYGPT_EMULATOR_FAIL=%s: use function:call[:code][:lost],...\n", text);
            exit(2);
        }
        return made;
    }();
    return faults;
}

} // namespace

int enter(const char* function, int usual) {
    if (const int code = of_thread.meet(function, usual)) return code;
    std::lock_guard<std::mutex> guard(lock);
    return of_process().meet(function, usual);
}

void complain(const char* format, ...) {
    char text[4096];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    last_message = text;
    if (!getenv("TINYGPT_EMULATOR_QUIET")) fprintf(stderr, "cuda emulator: %s\n", text);
}

uint64_t number_of_environment(const char* variable, uint64_t usual) {
    const char* text = getenv(variable);
    if (!text || !*text) return usual;
    char* end;
    const uint64_t number = strtoull(text, &end, 10);
    if (*end) {
        fprintf(stderr, "%s=%s: not a number\n", variable, text);
        exit(2);
    }
    return number;
}

uint32_t host_threads() {
    static const uint64_t threads = number_of_environment("TINYGPT_EMULATOR_THREADS", uint64_t(sysconf(_SC_NPROCESSORS_ONLN)));
    return threads < 1 ? 1 : threads > 16 ? 16 : uint32_t(threads);
}

} // namespace device

extern "C" {

// Adds faults for the calling thread; an empty text removes all of them. 1 if the text cannot be read.
int tinygpt_emulator_fail(const char* text) {
    if (!*text) device::of_thread = {};
    return device::read_faults(text, device::of_thread.faults) ? 0 : 1;
}

// The last complaint on the calling thread, or an empty text; valid until the next one.
const char* tinygpt_emulator_message() {
    return device::last_message.c_str();
}

} // extern "C"
