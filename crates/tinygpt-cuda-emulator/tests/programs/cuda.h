// The functions of the stand-ins that test programs call.
#ifndef CUDA_H
#define CUDA_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

extern "C" {
int cuInit(unsigned);
int cuGetErrorName(int, const char**);
int cuGetErrorString(int, const char**);
int cuDevicePrimaryCtxRetain(void**, int);
int cuCtxSetCurrent(void*);
int cuStreamCreate(void**, unsigned);
int cuStreamSynchronize(void*);
int cuStreamDestroy_v2(void*);
int cuMemGetInfo_v2(size_t*, size_t*);
int cuMemAlloc_v2(uint64_t*, size_t);
int cuMemFree_v2(uint64_t);
int cuMemHostAlloc(void**, size_t, unsigned);
int cuMemFreeHost(void*);
int cuMemcpyHtoDAsync_v2(uint64_t, const void*, size_t, void*);
int cuMemcpyDtoHAsync_v2(void*, uint64_t, size_t, void*);
int cuMemcpyDtoDAsync_v2(uint64_t, uint64_t, size_t, void*);
int cuMemsetD8Async(uint64_t, unsigned char, size_t, void*);
int cuModuleLoadData(void**, const void*);
int cuModuleUnload(void*);
int cuModuleGetFunction(void**, void*, const char*);
int cuFuncGetAttribute(int*, int, void*);
int cuFuncSetAttribute(void*, int, int);
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
int cuEventCreate(void**, unsigned);
int cuEventDestroy_v2(void*);
int cuEventRecord(void*, void*);
int cuEventSynchronize(void*);
int cuEventElapsedTime(float*, void*, void*);
int cuStreamBeginCapture_v2(void*, int);
int cuStreamEndCapture(void*, void**);
int cuGraphInstantiateWithFlags(void**, void*, unsigned long long);
int cuGraphLaunch(void*, void*);
int cuGraphDestroy(void*);
int cuGraphExecDestroy(void*);

int nvrtcCreateProgram(void**, const char*, const char*, int, const char* const*, const char* const*);
int nvrtcDestroyProgram(void**);
int nvrtcCompileProgram(void*, int, const char* const*);
int nvrtcGetCUBINSize(void*, size_t*);
int nvrtcGetCUBIN(void*, char*);
int nvrtcGetProgramLogSize(void*, size_t*);
int nvrtcGetProgramLog(void*, char*);

struct Heuristic {
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};
int cublasLtCreate(void**);
int cublasLtMatmulDescCreate(void**, int, int);
int cublasLtMatmulDescSetAttribute(void*, int, const void*, size_t);
int cublasLtMatrixLayoutCreate(void**, int, uint64_t, uint64_t, int64_t);
int cublasLtMatmulPreferenceCreate(void**);
int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t);
int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, Heuristic*, int*);
int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*, void*, void*,
                   void*, const uint64_t*, void*, size_t, void*);

int tinygpt_emulator_fail(const char*);
int tinygpt_emulator_order(const char*);
const char* tinygpt_emulator_message();
}

inline void expect(long long found, long long expected, const char* text, const char* file, int line) {
    if (found == expected) return;
    printf("%s:%d: %s is %lld, not %lld: %s\n", file, line, text, found, expected, tinygpt_emulator_message());
    exit(3);
}

#define EXPECT(found, expected) expect((long long)(found), (long long)(expected), #found, __FILE__, __LINE__)
#define CHECK(condition) EXPECT(bool(condition), true)
#define COMPLAINED(text)                                                                                      \
    do {                                                                                                      \
        if (!strstr(tinygpt_emulator_message(), text)) printf("%s:%d: no \"%s\" in \"%s\"\n", __FILE__, __LINE__, text, tinygpt_emulator_message()), exit(3); \
    } while (0)

inline void* stream;

inline void open_device() {
    void* context;
    EXPECT(cuInit(0), 0);
    EXPECT(cuDevicePrimaryCtxRetain(&context, 0), 0);
    EXPECT(cuCtxSetCurrent(context), 0);
    EXPECT(cuStreamCreate(&stream, 1), 0);
}

inline uint64_t alloc(size_t bytes) {
    uint64_t address = 0;
    EXPECT(cuMemAlloc_v2(&address, bytes), 0);
    return address;
}

template <class T>
uint64_t upload(const std::vector<T>& values) {
    const uint64_t address = alloc(values.size() * sizeof(T));
    EXPECT(cuMemcpyHtoDAsync_v2(address, values.data(), values.size() * sizeof(T), stream), 0);
    return address;
}

template <class T>
std::vector<T> download(uint64_t address, size_t count) {
    std::vector<T> values(count);
    EXPECT(cuMemcpyDtoHAsync_v2(values.data(), address, count * sizeof(T), stream), 0);
    EXPECT(cuStreamSynchronize(stream), 0);
    return values;
}

#endif
