// Kernel files as shared libraries of the host: compiled once per text, defines and compiler.
//
// They lie in `modules`, next to the library of this file, which is another one for each compiler and
// version of emulated.h. A library is written under another name and renamed, so a process never loads
// half of one; a lock per library keeps two processes from compiling it twice.
#include "device.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>

extern char** environ;

// The compiler that built this library: a program and its flags for kernels, separated by spaces.
#ifndef TINYGPT_EMULATOR_CXX
#define TINYGPT_EMULATOR_CXX "c++"
#endif
#ifndef TINYGPT_EMULATOR_KERNEL_FLAGS
#define TINYGPT_EMULATOR_KERNEL_FLAGS "-O2"
#endif

namespace device {
namespace {

uint64_t hash(uint64_t h, const std::string& text) {
    for (unsigned char c : text) h = (h ^ c) * 0x100000001b3u;
    return (h ^ 0xff) * 0x100000001b3u; // between texts
}

// More flags for kernels, such as a sanitizer's.
const char* extra_flags() {
    const char* flags = getenv("TINYGPT_EMULATOR_CXXFLAGS");
    return flags ? flags : "";
}

// Two hashes with different starts: 128 bits.
std::string name_of(const Source& source) {
    char name[64];
    uint64_t h[2] = {0xcbf29ce484222325u, 0x9ae16a3b2f90404fu};
    for (uint64_t& one : h) {
        one = hash(one, extra_flags());
        one = hash(one, source.name);
        one = hash(one, source.text);
        for (const auto& header : source.headers) one = hash(hash(one, header.first), header.second);
        for (const auto& define : source.defines) one = hash(one, define);
    }
    snprintf(name, sizeof name, "%016llx%016llx", (unsigned long long)h[0], (unsigned long long)h[1]);
    return name;
}

bool write_file(const std::string& path, const std::string& text) {
    FILE* file = fopen(path.c_str(), "wb");
    if (!file) return false;
    const bool whole = fwrite(text.data(), 1, text.size(), file) == text.size();
    return fclose(file) == 0 && whole;
}

std::string read_file(const std::string& path) {
    std::string text;
    if (FILE* file = fopen(path.c_str(), "rb")) {
        char part[4096];
        for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;) text.append(part, n);
        fclose(file);
    }
    return text;
}

std::vector<std::string> words_of(const char* text) {
    std::istringstream stream(text);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    return words;
}

// Runs a program with its output in a file; its exit code, -1 if it did not start.
int run_program(const std::vector<std::string>& words, const std::string& log) {
    std::vector<char*> arguments;
    for (const auto& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    // The compiler starts with no signal blocked, whatever this process blocks.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t nothing;
    sigemptyset(&nothing);
    posix_spawnattr_setsigmask(&attributes, &nothing);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t child;
    const int failed = posix_spawnp(&child, arguments[0], &files, &attributes, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    int status = 0;
    if (failed) return -1;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// The folder of this library, where emulated.h is too.
std::string own_folder() {
    Dl_info found;
    if (!dladdr(reinterpret_cast<void*>(&build), &found) || !found.dli_fname) return ".";
    const std::string path = found.dli_fname;
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string file_name(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string compile(const Source& source, const std::string& name, const std::string& folder, std::string& log) {
    std::string work = folder + "/build-XXXXXX";
    if (!mkdtemp(work.data())) {
        log = "cannot create a folder in " + folder;
        return "";
    }
    std::vector<std::string> files = {file_name(source.name)};
    bool written = write_file(work + "/" + files[0], source.text);
    for (const auto& header : source.headers) {
        files.push_back(file_name(header.first));
        written = written && write_file(work + "/" + files.back(), header.second);
    }
    std::vector<std::string> words = words_of(TINYGPT_EMULATOR_CXX);
    for (const auto& flag : words_of(TINYGPT_EMULATOR_KERNEL_FLAGS)) words.push_back(flag);
    for (const auto& flag : words_of(extra_flags())) words.push_back(flag);
    for (const char* flag : {"-DTINYGPT_EMULATED", "-DTINYGPT_EMULATED_MODULE", "-x", "c++"}) words.push_back(flag);
    for (const auto& define : source.defines) words.push_back("-D" + define);
    words.push_back("-I" + work);
    words.push_back("-I" + own_folder());
    // Messages and places then name the file and not the folder, which differs each time.
    words.push_back("-fmacro-prefix-map=" + work + "/=");
    words.push_back("-fdebug-prefix-map=" + work + "/=");
    words.push_back(work + "/" + files[0]);
    const std::string made = work + "/module.so", log_file = work + "/log";
    words.push_back("-o");
    words.push_back(made);
    const int code = written ? run_program(words, log_file) : -1;
    log = read_file(log_file);
    for (size_t at; (at = log.find(work + "/")) != std::string::npos;) log.erase(at, work.size() + 1);
    std::string path = folder + "/" + name + ".so";
    if (code != 0 || rename(made.c_str(), path.c_str()) != 0) {
        if (log.empty()) log = "the compiler " + words[0] + " did not run, or " + folder + " cannot be written";
        path.clear();
    }
    for (const auto& file : files) unlink((work + "/" + file).c_str());
    unlink(made.c_str());
    unlink(log_file.c_str());
    rmdir(work.c_str());
    return path;
}

} // namespace

std::string build(const Source& source, std::string& log) {
    const std::string folder = own_folder() + "/modules", name = name_of(source);
    const std::string path = folder + "/" + name + ".so", lock_path = folder + "/" + name + ".lock";
    log.clear();
    if (access(path.c_str(), R_OK) == 0) return path;
    if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
        log = "cannot create the folder " + folder;
        return "";
    }
    const int lock = open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock >= 0) {
        while (flock(lock, LOCK_EX) < 0 && errno == EINTR) {
        }
    }
    std::string built = access(path.c_str(), R_OK) == 0 ? path : compile(source, name, folder, log);
    if (lock >= 0) close(lock);
    return built;
}

// ---- images ----

namespace {
const char MAGIC[] = "TINYGPT-EMULATED-MODULE 1\n";

void put(std::string& image, const std::string& text) {
    image += std::to_string(text.size()) + "\n" + text;
}

bool take(const char*& at, std::string& text) {
    char* end;
    const unsigned long long bytes = strtoull(at, &end, 10);
    if (end == at || *end != '\n') return false;
    text.assign(end + 1, bytes);
    at = end + 1 + bytes;
    return true;
}
} // namespace

std::string write_image(const Source& source) {
    std::string image = MAGIC;
    put(image, source.name);
    put(image, source.text);
    put(image, std::to_string(source.headers.size()));
    for (const auto& header : source.headers) {
        put(image, header.first);
        put(image, header.second);
    }
    put(image, std::to_string(source.defines.size()));
    for (const auto& define : source.defines) put(image, define);
    return image;
}

bool read_image(const char* image, Source& source) {
    if (strncmp(image, MAGIC, strlen(MAGIC)) != 0) return false;
    const char* at = image + strlen(MAGIC);
    std::string count;
    if (!take(at, source.name) || !take(at, source.text) || !take(at, count)) return false;
    for (int i = atoi(count.c_str()); i > 0; i--) {
        std::pair<std::string, std::string> header;
        if (!take(at, header.first) || !take(at, header.second)) return false;
        source.headers.push_back(header);
    }
    if (!take(at, count)) return false;
    for (int i = atoi(count.c_str()); i > 0; i--) {
        std::string define;
        if (!take(at, define)) return false;
        source.defines.push_back(define);
    }
    return true;
}

} // namespace device
