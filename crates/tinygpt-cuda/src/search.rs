//! Where the CUDA libraries may be, and which files there are theirs.
//!
//! Nothing is started and nothing is asked of Python: folders are listed, which takes well under a
//! millisecond.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// One of the libraries that are loaded at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibraryName {
    /// The CUDA driver, part of NVIDIA's GPU driver.
    Driver,
    /// The run-time compiler.
    Nvrtc,
    /// Matrix products.
    CublasLt,
}

impl fmt::Display for LibraryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "the NVIDIA driver",
            Self::Nvrtc => "NVRTC",
            Self::CublasLt => "cublasLt",
        })
    }
}

impl LibraryName {
    /// The start of its file names, such as `libnvrtc.so` or `nvrtc64_`.
    fn stem(self) -> &'static str {
        match (self, cfg!(windows)) {
            (Self::Driver, false) => "libcuda.so",
            (Self::Driver, true) => "nvcuda",
            (Self::Nvrtc, false) => "libnvrtc.so",
            (Self::Nvrtc, true) => "nvrtc64_",
            (Self::CublasLt, false) => "libcublasLt.so",
            (Self::CublasLt, true) => "cublasLt64_",
        }
    }

    /// The file name of major version `major`: what the loader path is asked for.
    fn file(self, major: u32) -> String {
        match (self, cfg!(windows)) {
            (Self::Driver, false) => "libcuda.so.1".into(),
            (Self::Driver, true) => "nvcuda.dll".into(),
            (_, false) => format!("{}.{major}", self.stem()),
            (Self::Nvrtc, true) => format!("nvrtc64_{major}0_0.dll"),
            (Self::CublasLt, true) => format!("cublasLt64_{major}.dll"),
        }
    }

    /// The major version in a file name of this library; 0 if it has none. None if the file is not
    /// this library.
    fn major_of(self, file: &str) -> Option<u32> {
        let rest = file.strip_prefix(self.stem())?;
        if self == Self::Driver {
            return matches!(rest, "" | ".1" | ".dll").then_some(0);
        }
        let digits = |text: &str| text.split(['.', '_']).next()?.parse::<u32>().ok();
        if !cfg!(windows) {
            return if rest.is_empty() { Some(0) } else { digits(rest.strip_prefix('.')?) };
        }
        // `nvrtc64_130_0.dll` is 13.0; `nvrtc64_130_0.alt.dll` and the builtins are other libraries.
        let version = rest.strip_suffix(".dll").filter(|version| !version.contains('.'))?;
        let number = digits(version)?;
        Some(if self == Self::Nvrtc { number / 10 } else { number })
    }
}

/// Where libraries are searched for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The folder that comes before everything else: `TINYGPT_CUDA_LIBS`.
    pub folder: Option<PathBuf>,
    /// Whether the system's loader is asked, which knows `LD_LIBRARY_PATH` and the installed packages.
    pub loader: bool,
    /// Folders with libraries: of CUDA toolkits, of Python environments, of drivers.
    pub folders: Vec<PathBuf>,
}

impl Search {
    /// What the environment says: `TINYGPT_CUDA_LIBS`, the loader, `CUDA_HOME` and `CUDA_PATH`, the
    /// active Python environment and the usual folders of the system.
    #[must_use]
    pub fn from_env() -> Self {
        let mut folders = Vec::new();
        for variable in ["CUDA_HOME", "CUDA_PATH"] {
            folders.extend(folder_of(variable).into_iter().flat_map(|root| toolkit(&root)));
        }
        for prefix in python_prefixes() {
            folders.extend(python_folders(&prefix));
        }
        if !cfg!(windows) {
            folders.extend(
                ["/usr/local/cuda", "/opt/cuda"].iter().flat_map(|root| toolkit(root.as_ref())),
            );
            // WSL, NixOS, Colab, Kubernetes, and distributions whose loader path lacks them.
            let systems = [
                "/usr/lib/wsl/lib",
                "/run/opengl-driver/lib",
                "/usr/lib64-nvidia",
                "/usr/local/nvidia/lib64",
                "/usr/lib/x86_64-linux-gnu",
                "/usr/lib/aarch64-linux-gnu",
                "/usr/lib64",
            ];
            folders.extend(systems.map(PathBuf::from));
        }
        let mut unique = Vec::new();
        for folder in folders {
            if folder.is_dir() && !unique.contains(&folder) {
                unique.push(folder);
            }
        }
        Self { folder: folder_of("TINYGPT_CUDA_LIBS"), loader: true, folders: unique }
    }

    /// Only this folder: for tests.
    #[must_use]
    pub fn only(folder: &Path) -> Self {
        Self { folder: Some(folder.to_path_buf()), ..Self::default() }
    }

    /// The candidates for a library of at most version `most`, best first, and the files that are newer.
    pub(crate) fn candidates(&self, library: LibraryName, most: u32) -> Candidates {
        let mut candidates = Candidates::default();
        if let Some(folder) = &self.folder {
            candidates.add_folder(library, folder, most);
        }
        if self.loader {
            candidates.searched.push("the loader path".into());
            let oldest = if library == LibraryName::Driver { most } else { OLDEST.min(most) };
            let names = (oldest..=most).rev().map(|major| library.file(major).into());
            candidates.usable.extend(names);
            if !cfg!(windows) {
                candidates.usable.push(library.stem().into());
            }
            if library != LibraryName::Driver {
                candidates.newer.push(library.file(most + 1).into());
            }
        }
        for folder in &self.folders {
            candidates.add_folder(library, folder, most);
        }
        candidates
    }
}

/// The oldest major version of CUDA whose libraries are used.
pub(crate) const OLDEST: u32 = 12;

/// Files to try.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// What the driver can use, in order.
    pub(crate) usable: Vec<PathBuf>,
    /// What needs a newer driver: tried only to say so.
    pub(crate) newer: Vec<PathBuf>,
    /// The places, for the message.
    pub(crate) searched: Vec<String>,
}

impl Candidates {
    /// Adds the files of one folder: the newest first that the driver can use.
    fn add_folder(&mut self, library: LibraryName, folder: &Path, most: u32) {
        self.searched.push(folder.display().to_string());
        let mut found: Vec<(u32, PathBuf)> = entries(folder)
            .into_iter()
            .filter_map(|path| Some((library.major_of(path.file_name()?.to_str()?)?, path)))
            .collect();
        // The shortest name of a version is the one that programs are linked against.
        found.sort_by_key(|(major, path)| (std::cmp::Reverse(*major), path.as_os_str().len()));
        for (major, path) in found {
            if major > most && library != LibraryName::Driver {
                self.newer.push(path);
            } else if major == 0 || major >= OLDEST {
                self.usable.push(path);
            }
        }
    }
}

/// The folder that an environment variable names.
fn folder_of(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The library folders of a CUDA toolkit.
fn toolkit(root: &Path) -> Vec<PathBuf> {
    let names: &[&str] = if cfg!(windows) {
        &["bin/x64", "bin"]
    } else {
        &["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"]
    };
    names.iter().map(|name| root.join(name)).collect()
}

/// The folders that may hold a Python: the active environment, the one of the first `python3` in
/// `PATH`, the user's packages, the system's.
fn python_prefixes() -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(folder_of).collect();
    let programs =
        if cfg!(windows) { ["python.exe", "python3.exe"] } else { ["python3", "python"] };
    let path = env::var_os("PATH").unwrap_or_default();
    let python = env::split_paths(&path)
        .flat_map(|folder| programs.map(|program| folder.join(program)))
        .find(|program| program.is_file());
    if let Some(python) = python {
        let target = python.canonicalize().unwrap_or_else(|_| python.clone());
        for program in [python, target] {
            // `PREFIX/bin/python3`, on Windows `PREFIX\python.exe` or `PREFIX\Scripts\python.exe`.
            prefixes.extend(program.ancestors().skip(1).take(2).map(Path::to_path_buf));
        }
        // pyenv: `ROOT/shims/python3` is a script that chooses among `ROOT/versions`.
        let versions: Vec<PathBuf> =
            prefixes.iter().flat_map(|prefix| entries(&prefix.join("versions"))).collect();
        prefixes.extend(versions);
    }
    if cfg!(windows) {
        let roaming = folder_of("APPDATA").map(|folder| folder.join("Python"));
        prefixes.extend(roaming.into_iter().flat_map(|folder| entries(&folder)));
    } else {
        prefixes.extend(folder_of("HOME").map(|home| home.join(".local")));
        prefixes.extend(["/usr/local", "/usr"].map(PathBuf::from));
    }
    prefixes
}

/// The library folders of NVIDIA's packages in a Python environment, and its own, where conda puts them.
fn python_folders(prefix: &Path) -> Vec<PathBuf> {
    let mut sites = Vec::new();
    if cfg!(windows) {
        sites.extend([prefix.join("Lib/site-packages"), prefix.join("site-packages")]);
    } else {
        for lib in ["lib", "lib64"] {
            let pythons = entries(&prefix.join(lib))
                .into_iter()
                .filter(|path| name_of(path).starts_with("python3"));
            sites.extend(pythons.flat_map(|python| {
                ["site-packages", "dist-packages"].map(|name| python.join(name))
            }));
        }
    }
    let mut folders = Vec::new();
    for package in sites.iter().flat_map(|site| entries(&site.join("nvidia"))) {
        // CUDA 12 has a package for each library (`cublas/lib`), CUDA 13 one for all (`cu13/lib`).
        let names: &[&str] = if cfg!(windows) { &["bin/x86_64", "bin"] } else { &["lib"] };
        folders.extend(names.iter().map(|name| package.join(name)));
    }
    let is_conda = prefix.join("conda-meta").is_dir();
    if is_conda {
        folders.extend(if cfg!(windows) {
            vec![prefix.join("Library/bin")]
        } else {
            toolkit(prefix)
        });
    }
    folders
}

/// What a folder holds, in the order of names; nothing if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(read) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = read.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
#[cfg(not(windows))]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn touch(folder: &Path, names: &[&str]) {
        fs::create_dir_all(folder).unwrap();
        for name in names {
            fs::write(folder.join(name), b"").unwrap();
        }
    }

    #[test]
    fn a_folder_gives_the_newest_version_that_the_driver_can_use() {
        let folder = tempfile::tempdir().unwrap();
        touch(
            folder.path(),
            &[
                "libnvrtc.so",
                "libnvrtc.so.13",
                "libnvrtc.so.12",
                "libnvrtc.so.12.8.93",
                "libnvrtc.so.11.2",
                "libnvrtc.alt.so.13",
                "libnvrtc-builtins.so.13.0",
                "libcublasLt.so.13",
            ],
        );
        let search = Search::only(folder.path());
        let found = search.candidates(LibraryName::Nvrtc, 12);
        let names: Vec<String> = found.usable.iter().map(|path| name_of(path)).collect();
        assert_eq!(names, ["libnvrtc.so.12", "libnvrtc.so.12.8.93", "libnvrtc.so"]);
        let newer: Vec<String> = found.newer.iter().map(|path| name_of(path)).collect();
        assert_eq!(newer, ["libnvrtc.so.13"]);
    }

    #[test]
    fn the_given_folder_comes_before_the_loader_and_the_loader_before_the_folders() {
        let first = tempfile::tempdir().unwrap();
        let last = tempfile::tempdir().unwrap();
        touch(first.path(), &["libcublasLt.so.13"]);
        touch(last.path(), &["libcublasLt.so.13"]);
        let search = Search {
            folder: Some(first.path().into()),
            loader: true,
            folders: vec![last.path().into()],
        };
        let found = search.candidates(LibraryName::CublasLt, 13).usable;
        let expected = [
            first.path().join("libcublasLt.so.13"),
            "libcublasLt.so.13".into(),
            "libcublasLt.so.12".into(),
            "libcublasLt.so".into(),
            last.path().join("libcublasLt.so.13"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn packages_of_both_layouts_are_found() {
        let prefix = tempfile::tempdir().unwrap();
        let site = prefix.path().join("lib/python3.12/site-packages/nvidia");
        touch(&site.join("cu13/lib"), &["libnvrtc.so.13"]);
        touch(&site.join("cuda_nvrtc/lib"), &["libnvrtc.so.12"]);
        let folders = python_folders(prefix.path());
        assert_eq!(folders, [site.join("cu13/lib"), site.join("cuda_nvrtc/lib")]);
    }
}
