// The stand-in for NVRTC: "compiling for the GPU" is compiling with the host's C++ compiler, and the
// "cubin" is the source with its headers and defines.
#include "device.h"

#include <string.h>

namespace {

enum Status { SUCCESS = 0, INVALID_INPUT = 3, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6 };

constexpr uint32_t PROGRAM = 0x6d677270;

struct Program {
    uint32_t magic = PROGRAM;
    device::Source source;
    std::string log, image;
};

Program* program_of(void* handle) {
    Program* program = static_cast<Program*>(handle);
    return program && program->magic == PROGRAM ? program : nullptr;
}

bool starts_with(const std::string& text, const char* start) {
    return text.compare(0, strlen(start), start) == 0;
}

// Takes an option of NVRTC; false if NVRTC would not know it. The host's compiler sees only defines.
bool take_option(const std::string& option, bool& target, device::Source& source) {
    for (const char* define : {"-D", "--define-macro="}) {
        if (starts_with(option, define)) {
            source.defines.push_back(option.substr(strlen(define)));
            return true;
        }
    }
    for (const char* arch : {"--gpu-architecture=", "-arch="}) {
        if (starts_with(option, arch)) {
            // Only a real architecture gives a cubin; compute_80 would give PTX.
            target = starts_with(option, (std::string(arch) + "sm_").c_str());
            return true;
        }
    }
    for (const char* ignored : {"-std=", "--std=", "-Xptxas", "--ptxas-options", "--fmad=", "-fmad=", "--use_fast_math",
                                "-default-device", "--device-as-default-execution-space", "-lineinfo",
                                "--generate-line-info", "--restrict", "-restrict", "--maxrregcount=", "--extra-device-vectorization",
                                "--disable-warnings", "-w", "--diag-suppress=", "-diag-suppress=", "--split-compile=",
                                "--minimal", "--no-cache", "-no-cache"}) {
        if (starts_with(option, ignored)) return true;
    }
    return false;
}

} // namespace

extern "C" {

int nvrtcVersion(int* major, int* minor) {
    if (const int code = device::enter("nvrtcVersion", 11)) return code;
    // No real one: a cache of cubins is shared with a GPU of this machine.
    const uint64_t version = device::number_of_environment("TINYGPT_EMULATOR_NVRTC", 13990);
    *major = int(version / 1000);
    *minor = int(version % 1000 / 10);
    return SUCCESS;
}

const char* nvrtcGetErrorString(int code) {
    const char* const names[] = {"NVRTC_SUCCESS", "NVRTC_ERROR_OUT_OF_MEMORY", "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
                                 "NVRTC_ERROR_INVALID_INPUT", "NVRTC_ERROR_INVALID_PROGRAM", "NVRTC_ERROR_INVALID_OPTION",
                                 "NVRTC_ERROR_COMPILATION", "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE"};
    return code >= 0 && code < 8 ? names[code] : "NVRTC_ERROR_INTERNAL_ERROR";
}

int nvrtcCreateProgram(void** handle, const char* text, const char* name, int headers, const char* const* header_texts,
                       const char* const* header_names) {
    if (const int code = device::enter("nvrtcCreateProgram", 2)) return code;
    if (!handle || !text || headers < 0 || (headers > 0 && (!header_texts || !header_names))) return INVALID_INPUT;
    Program* program = new Program;
    program->source.name = name && *name ? name : "default_program";
    program->source.text = text;
    for (int i = 0; i < headers; i++) program->source.headers.emplace_back(header_names[i], header_texts[i]);
    *handle = program;
    return SUCCESS;
}

int nvrtcDestroyProgram(void** handle) {
    if (const int code = device::enter("nvrtcDestroyProgram", 4)) return code;
    Program* program = handle ? program_of(*handle) : nullptr;
    if (!program) return INVALID_PROGRAM;
    program->magic = 0;
    delete program;
    *handle = nullptr;
    return SUCCESS;
}

int nvrtcCompileProgram(void* handle, int options, const char* const* option) {
    if (const int code = device::enter("nvrtcCompileProgram", COMPILATION)) return code;
    Program* program = program_of(handle);
    if (!program) return INVALID_PROGRAM;
    program->source.defines.clear();
    program->image.clear();
    bool target = false;
    for (int i = 0; i < options; i++) {
        if (!take_option(option[i], target, program->source)) {
            program->log = std::string("nvrtc: error: unrecognized option ") + option[i] + "\n";
            return INVALID_OPTION;
        }
    }
    const std::string built = device::build(program->source, program->log);
    if (built.empty()) return COMPILATION;
    if (target) program->image = device::write_image(program->source);
    return SUCCESS;
}

int nvrtcGetCUBINSize(void* handle, size_t* bytes) {
    if (const int code = device::enter("nvrtcGetCUBINSize", 4)) return code;
    const Program* program = program_of(handle);
    if (!program) return INVALID_PROGRAM;
    // 0 for a program that was compiled for a virtual architecture, as NVRTC gives it.
    *bytes = program->image.empty() ? 0 : program->image.size() + 1;
    return SUCCESS;
}

int nvrtcGetCUBIN(void* handle, char* bytes) {
    if (const int code = device::enter("nvrtcGetCUBIN", 4)) return code;
    const Program* program = program_of(handle);
    if (!program || program->image.empty()) return INVALID_PROGRAM;
    memcpy(bytes, program->image.c_str(), program->image.size() + 1);
    return SUCCESS;
}

int nvrtcGetProgramLogSize(void* handle, size_t* bytes) {
    if (const int code = device::enter("nvrtcGetProgramLogSize", 4)) return code;
    const Program* program = program_of(handle);
    if (!program) return INVALID_PROGRAM;
    *bytes = program->log.size() + 1;
    return SUCCESS;
}

int nvrtcGetProgramLog(void* handle, char* text) {
    if (const int code = device::enter("nvrtcGetProgramLog", 4)) return code;
    const Program* program = program_of(handle);
    if (!program) return INVALID_PROGRAM;
    memcpy(text, program->log.c_str(), program->log.size() + 1);
    return SUCCESS;
}

} // extern "C"
