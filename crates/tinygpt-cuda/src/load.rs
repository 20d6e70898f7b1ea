//! Loading the libraries: the first file that works, or an error that says what to install.
#![expect(unsafe_code, reason = "shared libraries run code when they are loaded")]

use std::ffi::c_int;
use std::fs;
use std::path::Path;

use libloading::Library;

use crate::CudaError;
use crate::search::{LibraryName, OLDEST, Search};
use crate::sys::{BlasTable, DriverTable, NvrtcTable};

/// A version of CUDA: major and minor.
pub(crate) type Version = (u32, u32);

/// `13.0`
pub(crate) fn show(version: Version) -> String {
    format!("{}.{}", version.0, version.1)
}

/// Loads the driver.
///
/// # Errors
/// [`CudaError::LibraryMissing`].
pub(crate) fn driver(search: &Search) -> Result<DriverTable, CudaError> {
    let candidates = search.candidates(LibraryName::Driver, 1);
    let mut searched = candidates.searched;
    let found = candidates.usable.iter().find_map(|path| {
        let table = open(path).and_then(|library| fill(library, DriverTable::from_library));
        note(path, table, &mut searched)
    });
    found.ok_or_else(|| CudaError::LibraryMissing {
        library: LibraryName::Driver,
        searched,
        hint: "install NVIDIA's driver for this GPU, version 525 or newer".into(),
    })
}

/// Loads NVRTC of at most the driver's major version, and returns its version.
///
/// # Errors
/// [`CudaError::LibraryMissing`], [`CudaError::DriverTooOld`].
pub(crate) fn nvrtc(search: &Search, driver: Version) -> Result<(NvrtcTable, Version), CudaError> {
    find(search, LibraryName::Nvrtc, driver, |library| {
        let table = fill(library, NvrtcTable::from_library)?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: two integers to write to.
        let code = unsafe { (table.version)(&raw mut major, &raw mut minor) };
        if code != 0 {
            return Err(format!("nvrtcVersion returned {code}"));
        }
        Ok((table, (unsigned(major), unsigned(minor))))
    })
}

/// Loads cublasLt of at most the driver's major version, and returns its version.
///
/// # Errors
/// [`CudaError::LibraryMissing`], [`CudaError::DriverTooOld`].
pub(crate) fn blas(search: &Search, driver: Version) -> Result<(BlasTable, Version), CudaError> {
    find(search, LibraryName::CublasLt, driver, |library| {
        let table = fill(library, BlasTable::from_library)?;
        // SAFETY: takes nothing.
        let number = unsafe { (table.version)() };
        // 130100 is 13.1; versions before 13 have the same form.
        let major = u32::try_from(number / 10_000).unwrap_or(0);
        let minor = u32::try_from(number / 100 % 100).unwrap_or(0);
        Ok((table, (major, minor)))
    })
}

/// The first usable file of a library, else the reason why none works.
fn find<T>(
    search: &Search,
    name: LibraryName,
    driver: Version,
    table: impl Fn(Library) -> Result<(T, Version), String>,
) -> Result<(T, Version), CudaError> {
    let candidates = search.candidates(name, driver.0);
    let mut searched = candidates.searched;
    let mut too_new = None;
    for path in candidates.usable.iter().chain(&candidates.newer) {
        if name == LibraryName::Nvrtc {
            open_builtins(path);
        }
        let found = note(path, open(path).and_then(&table), &mut searched);
        match found {
            Some((table, version)) if version.0 <= driver.0 => return Ok((table, version)),
            Some((_, version)) => {
                too_new.get_or_insert((path.clone(), version));
            }
            None => {}
        }
    }
    Err(match too_new {
        Some((path, version)) => CudaError::DriverTooOld {
            driver: show(driver),
            needed_by: format!("{name} ({})", path.display()),
            needed: show((version.0, 0)),
            hint: format!(
                "update NVIDIA's driver, or install libraries for it: {}",
                install(driver)
            ),
        },
        None => CudaError::LibraryMissing { library: name, searched, hint: install(driver) },
    })
}

/// The command that installs both libraries for a driver.
fn install(driver: Version) -> String {
    match driver.0 {
        OLDEST => "pip install nvidia-cuda-nvrtc-cu12 nvidia-cublas-cu12".into(),
        _ => "pip install nvidia-cuda-nvrtc nvidia-cublas".into(),
    }
}

/// The value, or a line in `searched` if a file was there and did not work.
fn note<T>(path: &Path, result: Result<T, String>, searched: &mut Vec<String>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(reason) => {
            if path.is_absolute() || path.exists() {
                searched.push(format!("{}: {reason}", path.display()));
            }
            None
        }
    }
}

/// Loads a file, or a name from the loader path.
fn open(path: &Path) -> Result<Library, String> {
    // SAFETY: NVIDIA's libraries may be loaded at any time from any thread.
    let library = unsafe { open_system(path) };
    library.map_err(|error| {
        // The system's words; the library's own message only repeats the path.
        let source = std::error::Error::source(&error).map(ToString::to_string);
        source.unwrap_or_else(|| error.to_string())
    })
}

#[cfg(unix)]
unsafe fn open_system(path: &Path) -> Result<Library, libloading::Error> {
    use libloading::os::unix;
    // SAFETY: as the caller promises.
    unsafe { unix::Library::open(Some(path), unix::RTLD_NOW | unix::RTLD_LOCAL) }.map(Into::into)
}

#[cfg(windows)]
unsafe fn open_system(path: &Path) -> Result<Library, libloading::Error> {
    use libloading::os::windows;
    // The libraries that it needs are next to it, not next to this program.
    let flags = if path.is_absolute() { windows::LOAD_WITH_ALTERED_SEARCH_PATH } else { 0 };
    // SAFETY: as the caller promises.
    unsafe { windows::Library::load_with_flags(path, flags) }.map(Into::into)
}

#[cfg(not(any(unix, windows)))]
unsafe fn open_system(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: as the caller promises.
    unsafe { Library::new(path) }
}

/// Fills a table and keeps the library loaded until the process ends: its functions are called from
/// anywhere, and NVIDIA's libraries do not survive being unloaded.
fn fill<T>(library: Library, table: fn(&Library) -> Result<T, &'static str>) -> Result<T, String> {
    let table = table(&library).map_err(|symbol| format!("it has no function {symbol}"))?;
    std::mem::forget(library);
    Ok(table)
}

/// Loads the library that NVRTC loads by its bare name when it compiles: in a Python package it is next
/// to NVRTC and not on the loader path, but a library that is loaded already is found by name.
fn open_builtins(nvrtc: &Path) {
    let Some(folder) = nvrtc.parent().filter(|folder| folder.is_dir()) else { return };
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let name = file.to_string_lossy();
        let is_builtins =
            name.starts_with("libnvrtc-builtins.so.") || name.starts_with("nvrtc-builtins64_");
        if is_builtins
            && !name.contains(".alt.")
            && let Ok(library) = open(&entry.path())
        {
            std::mem::forget(library);
        }
    }
}

fn unsigned(value: c_int) -> u32 {
    u32::try_from(value).unwrap_or(0)
}
