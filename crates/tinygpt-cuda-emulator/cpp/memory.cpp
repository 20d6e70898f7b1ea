// The memory of the device: pages of the host, each allocation between two that cannot be touched.
//
// An allocation starts as NaN bits. Its start is a multiple of 256, as on a GPU, so up to 255 bytes lie
// between its end and the guard page: they are NaN too, and a write into them is found after the launch.
#include "device.h"
#include "memory.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <mutex>

namespace device {
namespace {

constexpr size_t PAGE = 4096, ALIGNMENT = 256;
constexpr uint8_t POISON = 0xff;
// Large allocations are many private mappings of one file full of NaN: no page exists before it is written.
constexpr size_t LARGE = 1 << 20, CHUNK = 4 << 20;

std::mutex lock;
std::map<const uint8_t*, Allocation> allocations; // by their start
size_t used;

size_t round_up(size_t bytes, size_t to) {
    return (bytes + to - 1) / to * to;
}

int poison_file() {
    static const int file = [] {
        const int made = int(syscall(SYS_memfd_create, "tinygpt-poison", 1u /* close on exec */));
        if (made < 0 || ftruncate(made, CHUNK) != 0) return -1;
        void* bytes = mmap(nullptr, CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED, made, 0);
        if (bytes == MAP_FAILED) return -1;
        memset(bytes, POISON, CHUNK);
        munmap(bytes, CHUNK);
        return made;
    }();
    return file;
}

bool poison(uint8_t* begin, size_t bytes) {
    if (bytes < LARGE || poison_file() < 0) {
        memset(begin, POISON, bytes);
        return true;
    }
    for (size_t at = 0; at < bytes; at += CHUNK) {
        const size_t part = bytes - at < CHUNK ? bytes - at : CHUNK;
        const int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
        if (mmap(begin + at, part, PROT_READ | PROT_WRITE, flags, poison_file(), 0) == MAP_FAILED) return false;
    }
    return true;
}

// The allocation that contains the address, or the one before it; null if there is none.
const Allocation* at_or_before(const uint8_t* address) {
    auto after = allocations.upper_bound(address);
    return after == allocations.begin() ? nullptr : &std::prev(after)->second;
}

size_t margin_of(const Allocation& allocation) {
    return allocation.mapped + allocation.mapped_bytes - PAGE - (allocation.begin + allocation.bytes);
}

} // namespace

size_t total_memory() {
    static const size_t total = number_of_environment("TINYGPT_EMULATOR_MEMORY", size_t(8) << 30);
    return total;
}

size_t free_memory() {
    // What other programs leave on the card.
    static const size_t available = number_of_environment("TINYGPT_EMULATOR_FREE", total_memory());
    std::lock_guard<std::mutex> guard(lock);
    return available > used ? available - used : 0;
}

int allocate(void** address, size_t bytes) {
    if (bytes == 0) return INVALID_VALUE;
    const size_t counted = round_up(bytes, ALIGNMENT);
    if (counted > free_memory()) return OUT_OF_MEMORY;
    const size_t mapped_bytes = round_up(counted, PAGE) + 2 * PAGE;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* mapped = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (mapped == MAP_FAILED) return OUT_OF_MEMORY;
    uint8_t* first = static_cast<uint8_t*>(mapped);
    if (!poison(first + PAGE, mapped_bytes - 2 * PAGE)) {
        munmap(mapped, mapped_bytes);
        return OUT_OF_MEMORY;
    }
    mprotect(first, PAGE, PROT_NONE);
    mprotect(first + mapped_bytes - PAGE, PAGE, PROT_NONE);
    uint8_t* begin = first + mapped_bytes - PAGE - counted;
    std::lock_guard<std::mutex> guard(lock);
    allocations[begin] = Allocation{first, mapped_bytes, begin, bytes};
    used += counted;
    *address = begin;
    return SUCCESS;
}

int release(void* address) {
    Allocation allocation;
    {
        std::lock_guard<std::mutex> guard(lock);
        const auto found = allocations.find(static_cast<uint8_t*>(address));
        if (found == allocations.end()) return INVALID_VALUE;
        allocation = found->second;
        allocations.erase(found);
        used -= round_up(allocation.bytes, ALIGNMENT);
    }
    munmap(allocation.mapped, allocation.mapped_bytes);
    return SUCCESS;
}

bool check_region(const char* function, const char* what, const void* address, size_t bytes) {
    const uint8_t* at = static_cast<const uint8_t*>(address);
    std::lock_guard<std::mutex> guard(lock);
    const Allocation* allocation = at_or_before(at);
    // Compared as distances: a length that overflows is caught too.
    if (allocation && size_t(at - allocation->begin) <= allocation->bytes
        && bytes <= allocation->bytes - size_t(at - allocation->begin)) {
        return true;
    }
    char text[256];
    describe_locked(address, text, sizeof text);
    complain("%s: %s, %zu bytes from %p, is not inside an allocation%s", function, what, bytes, address, text);
    return false;
}

bool check_margins(const char* after) {
    std::lock_guard<std::mutex> guard(lock);
    bool clean = true;
    for (auto& [begin, allocation] : allocations) {
        uint8_t* end = allocation.begin + allocation.bytes;
        const size_t margin = margin_of(allocation);
        size_t written = margin;
        while (written > 0 && end[written - 1] == POISON) written--;
        if (written == 0) continue;
        complain("%s wrote %zu bytes past the end of an allocation of %zu bytes", after, written, allocation.bytes);
        memset(end, POISON, margin); // reported once
        clean = false;
    }
    return clean;
}

void describe_locked(const void* address, char* text, size_t bytes) {
    const uint8_t* at = static_cast<const uint8_t*>(address);
    const Allocation* before = at_or_before(at);
    *text = 0;
    if (before && at < before->begin + before->bytes) {
        snprintf(text, bytes, " (byte %zu of an allocation of %zu bytes)", size_t(at - before->begin), before->bytes);
        return;
    }
    const auto next = allocations.upper_bound(at);
    const size_t past = before ? size_t(at - before->begin) - before->bytes : SIZE_MAX;
    const size_t ahead = next != allocations.end() ? size_t(next->first - at) : SIZE_MAX;
    if (past <= ahead && past != SIZE_MAX) {
        snprintf(text, bytes, " (%zu bytes past the end of an allocation of %zu bytes)", past, before->bytes);
    } else if (ahead != SIZE_MAX) {
        snprintf(text, bytes, " (%zu bytes before an allocation of %zu bytes)", ahead, next->second.bytes);
    }
}

void describe(const void* address, char* text, size_t bytes) {
    // Called for a fault inside a kernel, which holds no lock.
    std::lock_guard<std::mutex> guard(lock);
    describe_locked(address, text, bytes);
}

} // namespace device
