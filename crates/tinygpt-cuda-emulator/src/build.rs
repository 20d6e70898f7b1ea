//! Compiles the stand-ins, once per compiler and version of the sources.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../cpp/", $name)))),*]
    };
}

const SOURCES: [(&str, &str); 10] = sources![
    "emulated.h",
    "fibers.h",
    "device.h",
    "memory.h",
    "blas.cpp",
    "driver.cpp",
    "faults.cpp",
    "memory.cpp",
    "modules.cpp",
    "nvrtc.cpp",
];

/// The library's names: one file, since the three share the memory of the device.
const NAMES: [&str; 3] = ["libcuda.so.1", "libnvrtc.so.13", "libcublasLt.so.13"];

/// For kernels and for the libraries: kernels read memory as several types.
const FLAGS: &str = "-std=c++17 -O2 -fPIC -shared -fno-strict-aliasing -fstack-clash-protection -Wno-unknown-pragmas";

/// For kernels: what lets a shared library call its own functions directly.
const KERNEL_FLAGS: &str =
    "-fno-exceptions -fno-semantic-interposition -fvisibility-inlines-hidden";

/// A C++ compiler: the program, and what it says about itself.
pub(crate) struct Compiler {
    pub(crate) program: String,
    version: String,
}

/// See [`crate::libraries`].
pub(crate) fn folder() -> Option<PathBuf> {
    if !cfg!(target_os = "linux") {
        report("the CUDA emulator needs Linux");
        return None;
    }
    let Some(compiler) = compiler() else {
        report("the CUDA emulator needs a C++ compiler: install g++, or set CXX");
        return None;
    };
    match build(&compiler) {
        Ok(folder) => Some(folder),
        Err(error) => {
            panic!("the CUDA emulator cannot be built with {}: {error}", compiler.program)
        }
    }
}

#[expect(clippy::print_stderr, reason = "the reason why tests are skipped")]
fn report(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// The first C++ compiler that runs.
pub(crate) fn compiler() -> Option<Compiler> {
    let given = env::var("CXX").ok().filter(|program| !program.trim().is_empty());
    let programs = match given {
        Some(program) => vec![program],
        None => ["g++", "c++", "clang++"].map(str::to_owned).to_vec(),
    };
    programs.into_iter().find_map(|program| {
        let output = command(&program).arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(Compiler { program, version })
    })
}

/// A program with the arguments in its name: `CXX` may be `ccache g++`.
fn command(program: &str) -> Command {
    let mut words = program.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// Compiles into the cache unless it is there, and returns the folder.
fn build(compiler: &Compiler) -> io::Result<PathBuf> {
    // An extension of GCC that would make all kernels share their static variables.
    let unique = if compiler.version.contains("clang") { "" } else { "-fno-gnu-unique" };
    let kernel_flags = format!("{FLAGS} {KERNEL_FLAGS} {unique}");
    let mut hasher = DefaultHasher::new();
    (SOURCES, &compiler.program, &compiler.version, &kernel_flags).hash(&mut hasher);
    let cache = cache_folder();
    let folder = cache.join(format!("{:016x}", hasher.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    fs::create_dir_all(&cache)?;
    // Several processes may start at once; the first one compiles.
    let lock = fs::File::create(cache.join("lock"))?;
    lock.lock()?;
    if !folder.is_dir() {
        let work = cache.join(format!("build-{}", std::process::id()));
        fs::create_dir_all(&work)?;
        let compiled = compile(compiler, &work, &kernel_flags);
        let moved = compiled.and_then(|()| fs::rename(&work, &folder));
        if moved.is_err() {
            // What is left of a failed attempt; the reason of the failure is the error that counts.
            let _ = fs::remove_dir_all(&work);
        }
        moved?;
    }
    Ok(folder)
}

fn compile(compiler: &Compiler, work: &Path, kernel_flags: &str) -> io::Result<()> {
    for (name, text) in SOURCES {
        fs::write(work.join(name), text)?;
    }
    let define = |name: &str, value: &str| format!("-D{name}=\"{value}\"");
    let output = command(&compiler.program)
        .current_dir(work)
        .args(FLAGS.split_whitespace())
        .args(["-Wall", "-Wextra", "-Werror", "-pthread"])
        .arg(define("TINYGPT_EMULATOR_CXX", &compiler.program))
        .arg(define("TINYGPT_EMULATOR_KERNEL_FLAGS", kernel_flags))
        .args(SOURCES.iter().map(|(name, _)| *name).filter(|name| name.ends_with(".cpp")))
        .args(["-o", NAMES[0], "-ldl"])
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(log_of(&output)));
    }
    #[cfg(unix)]
    for name in &NAMES[1..] {
        std::os::unix::fs::symlink(NAMES[0], work.join(name))?;
    }
    Ok(())
}

fn log_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `tinygpt/emulator` in the user's cache folder, else in the folder for temporary files.
fn cache_folder() -> PathBuf {
    let absolute = |variable: &str| {
        env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_absolute())
    };
    if let Some(folder) = absolute("TINYGPT_EMULATOR_CACHE") {
        return folder;
    }
    let user = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let candidates = user.into_iter().chain([env::temp_dir()]);
    let folders = candidates.map(|folder| folder.join("tinygpt").join("emulator"));
    folders
        .into_iter()
        .find(|folder| fs::create_dir_all(folder).is_ok())
        .unwrap_or_else(env::temp_dir)
}
