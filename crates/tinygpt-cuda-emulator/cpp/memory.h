// The memory of the device; see memory.cpp.
#ifndef TINYGPT_EMULATOR_MEMORY_H
#define TINYGPT_EMULATOR_MEMORY_H

#include <stddef.h>
#include <stdint.h>

namespace device {

struct Allocation {
    uint8_t* mapped; // with the guard pages
    size_t mapped_bytes;
    uint8_t* begin;
    size_t bytes;
};

size_t total_memory();
size_t free_memory();

// A Result: SUCCESS, INVALID_VALUE or OUT_OF_MEMORY.
int allocate(void** address, size_t bytes);
int release(void* address);

// Where an address lies, for a message.
void describe(const void* address, char* text, size_t bytes);
void describe_locked(const void* address, char* text, size_t bytes);

} // namespace device

#endif
