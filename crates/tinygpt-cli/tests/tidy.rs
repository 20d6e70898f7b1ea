//! Checks the rules of the repository that concern more than one line.
//!
//! Lints check single files. These tests check the length of files, the dependencies between crates and
//! between modules, and whether README, configurations and changelog agree with the programs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/code.rs"]
mod code;

/// The most lines of a file, tests included.
const MAX_LINES: usize = 600;

/// The most lines of a file before its tests.
const MAX_CODE_LINES: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below a folder that end in `extension`: paths from the root with `/`, and their text.
fn files_below(folder: &str, extension: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// The Rust files of all crates.
fn rust_files() -> Vec<(String, String)> {
    let files = files_below("crates", "rs");
    assert!(files.len() > 20, "the crates were not found");
    files
}

/// The documents that people read: at the root, in `docs`, and next to the recipes of datasets.
fn documents() -> Vec<(String, String)> {
    let mut files = files_below("docs", "md");
    files.extend(files_below("data", "md"));
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            let text = read(&name);
            files.push((name, text));
        }
    }
    files
}

/// Fails with all faults at once.
#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn files_start_with_a_description() {
    let faults: Vec<String> = rust_files()
        .iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(name, _)| format!("{name}: does not start with `//!`"))
        .collect();
    assert_none(&faults);
}

#[test]
fn files_are_short() {
    let mut faults = Vec::new();
    for (name, text) in rust_files() {
        let lines = text.lines().count();
        let code = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > MAX_LINES {
            faults.push(format!("{name}: {lines} lines, at most {MAX_LINES} with tests"));
        }
        if name.contains("/src/") && code > MAX_CODE_LINES {
            faults.push(format!("{name}: {code} lines of code, at most {MAX_CODE_LINES}"));
        }
    }
    assert_none(&faults);
}

/// Where `unsafe` may be: vector instructions, and calls of MPI and of the CUDA libraries or their stand-ins.
const UNSAFE_FOLDERS: [&str; 5] = [
    "crates/tinygpt-cli/src/ranks/",
    "crates/tinygpt-kernels/src/",
    "crates/tinygpt-cuda/",
    "crates/tinygpt-cuda-emulator/",
    "crates/tinygpt-model/src/cuda/",
];

/// Where `unsafe` is, and how often, so that adding one changes this table.
const UNSAFE: [(&str, usize); 37] = [
    ("crates/tinygpt-cli/src/ranks/mpi.rs", 9),
    ("crates/tinygpt-cuda-emulator/src/control.rs", 3),
    ("crates/tinygpt-cuda/src/blas.rs", 3),
    ("crates/tinygpt-cuda/src/ceilings.rs", 1),
    ("crates/tinygpt-cuda/src/compiler.rs", 9),
    ("crates/tinygpt-cuda/src/context.rs", 4),
    ("crates/tinygpt-cuda/src/copies.rs", 4),
    ("crates/tinygpt-cuda/src/driver.rs", 9),
    ("crates/tinygpt-cuda/src/event.rs", 5),
    ("crates/tinygpt-cuda/src/gpu.rs", 3),
    ("crates/tinygpt-cuda/src/graph.rs", 7),
    ("crates/tinygpt-cuda/src/kernels/arguments.rs", 1),
    ("crates/tinygpt-cuda/src/kernels/attention.rs", 3),
    ("crates/tinygpt-cuda/src/kernels/classifier.rs", 3),
    ("crates/tinygpt-cuda/src/kernels/decode.rs", 6),
    ("crates/tinygpt-cuda/src/kernels/embedding.rs", 3),
    ("crates/tinygpt-cuda/src/kernels/gelu.rs", 3),
    ("crates/tinygpt-cuda/src/kernels/norm.rs", 3),
    ("crates/tinygpt-cuda/src/kernels/optimizer.rs", 7),
    ("crates/tinygpt-cuda/src/kernels/sums.rs", 2),
    ("crates/tinygpt-cuda/src/load.rs", 9),
    ("crates/tinygpt-cuda/src/matmul.rs", 10),
    ("crates/tinygpt-cuda/src/memory.rs", 5),
    ("crates/tinygpt-cuda/src/module.rs", 7),
    ("crates/tinygpt-cuda/src/staging.rs", 6),
    ("crates/tinygpt-cuda/src/sys.rs", 3),
    ("crates/tinygpt-cuda/tests/device/graphs.rs", 1),
    ("crates/tinygpt-cuda/tests/device/kernel.rs", 1),
    ("crates/tinygpt-cuda/tests/device/products.rs", 3),
    ("crates/tinygpt-kernels/src/gemm/fallback.rs", 1),
    ("crates/tinygpt-kernels/src/gemm/mod.rs", 1),
    ("crates/tinygpt-kernels/src/gemm/tile.rs", 4),
    ("crates/tinygpt-kernels/src/simd/bytes.rs", 2),
    ("crates/tinygpt-kernels/src/simd/mod.rs", 3),
    ("crates/tinygpt-kernels/src/simd/portable.rs", 2),
    ("crates/tinygpt-kernels/src/simd/x86.rs", 48),
    ("crates/tinygpt-model/src/cuda/products.rs", 1),
];

#[test]
fn unsafe_code_is_counted_and_only_in_kernels_and_calls_of_the_gpu() {
    // In two parts, so that this very file does not match.
    let unsafe_places =
        [concat!("un", "safe {"), concat!("un", "safe fn "), concat!("un", "safe impl ")];
    let mut found = Vec::new();
    for (name, text) in rust_files() {
        let n: usize = unsafe_places.iter().map(|place| text.matches(place).count()).sum();
        if n > 0 {
            let is_allowed = UNSAFE_FOLDERS.iter().any(|folder| name.starts_with(folder));
            assert!(is_allowed, "{name}: unsafe code belongs to the kernels and calls of the GPU");
            found.push((name, n));
        }
    }
    let found: Vec<(&str, usize)> = found.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(found, UNSAFE, "the number of unsafe blocks, functions and impls of each file");
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let allowed: [(&str, &[&str]); 9] = [
        ("fs", &[]),
        ("kernels", &[]),
        ("cuda-emulator", &[]),
        // `cuda-emulator`, the stand-in for a GPU, is a dev-dependency everywhere; so is the oracle of `cuda`.
        ("cuda", &["fs", "cuda-emulator", "kernels"]),
        ("model", &["fs", "kernels", "cuda", "cuda-emulator"]),
        ("data", &["fs"]),
        ("train", &["fs", "kernels", "model", "data"]),
        ("serve", &["model", "data"]),
        ("cli", &["fs", "kernels", "cuda-emulator", "model", "data", "train", "serve"]),
    ];
    let mut faults = Vec::new();
    for (name, allowed_edges) in allowed {
        let manifest = read(&format!("crates/tinygpt-{name}/Cargo.toml"));
        for dependency in dependencies(&manifest) {
            let tensors = dependency.starts_with("candle")
                && matches!(name, "fs" | "kernels" | "cuda" | "cuda-emulator" | "data");
            let stranger = dependency
                .strip_prefix("tinygpt-")
                .is_some_and(|dependency| !allowed_edges.contains(&dependency));
            if tensors || stranger {
                faults.push(format!("tinygpt-{name} must not depend on {dependency}"));
            }
        }
    }
    assert_none(&faults);
}

/// The names in a manifest's dependency tables, of every kind and for every target.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            inside = table.trim_end_matches(']').ends_with("dependencies");
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            names.extend(line.split(['.', ' ', '=']).next());
        }
    }
    names
}

/// Crates whose messages speak of keys; the command line translates them.
const FLAGLESS: [&str; 5] = ["fs", "data", "model", "train", "serve"];

#[test]
fn libraries_name_no_flags_and_no_commands() {
    let mut faults = Vec::new();
    for name in FLAGLESS {
        for (file, text) in files_below(&format!("crates/tinygpt-{name}/src"), "rs") {
            let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
            let is_test = file.ends_with("tests.rs");
            for (i, line) in code.enumerate().filter(|_| !is_test) {
                if !line.trim_start().starts_with("//") && names_a_flag(line) {
                    faults.push(format!("{file}:{}: names a flag or a command: {line}", i + 1));
                }
            }
        }
    }
    assert_none(&faults);
}

/// Whether a line holds a long flag, one of the binaries in backticks, or an environment variable.
fn names_a_flag(line: &str) -> bool {
    let is_flag = line.match_indices("--").any(|(at, _)| {
        line[..at].ends_with([' ', '`', '"', '(']) && line[at + 2..].starts_with(char::is_lowercase)
    });
    let others = ["`prepare", "`train ", "`sample ", "HF_", "HTTPS_PROXY"];
    is_flag || others.iter().any(|other| line.contains(other))
}

#[test]
fn recipes_that_are_compiled_in_are_those_of_the_data_directory() {
    let mut compiled: Vec<(String, String)> =
        files_below("crates/tinygpt-data/src/recipes", "json");
    for (name, _) in &mut compiled {
        let stem = name.rsplit('/').next().unwrap().trim_end_matches(".json").to_owned();
        *name = format!("data/{stem}/dataset.json");
    }
    assert!(!compiled.is_empty(), "no recipes were found");
    for (name, text) in compiled {
        assert_eq!(read(&name), text, "{name} differs from the copy in tinygpt-data/src/recipes");
    }
}

#[test]
fn files_are_embedded_from_their_own_crate_only() {
    let mut faults = Vec::new();
    for (name, text) in rust_files() {
        let (_, inside) = name.strip_prefix("crates/").unwrap().split_once('/').unwrap();
        let depth = inside.matches('/').count();
        // In two parts, so that this very file does not match.
        let embedded = text.split(concat!("include_", "str!(\"")).skip(1);
        let paths = embedded.map(|rest| rest.split('"').next().unwrap_or_default());
        let outside = paths.filter(|path| path.matches("../").count() > depth);
        faults.extend(outside.map(|path| format!("{name}: {path} is outside of the crate")));
    }
    assert_none(&faults);
}

#[test]
fn the_changelog_has_this_version() {
    let heading = format!("\n## {} - ", env!("CARGO_PKG_VERSION"));
    let changelog = read("CHANGELOG.md").replace("\r\n", "\n");
    assert!(changelog.contains(&heading), "CHANGELOG.md lacks `{}`", heading.trim());
    assert!(changelog.contains("\n## Unreleased"), "CHANGELOG.md lacks `## Unreleased`");
}

#[test]
fn commands_in_the_documents_exist() {
    let binaries = [
        ("prepare", env!("CARGO_BIN_EXE_prepare")),
        ("train", env!("CARGO_BIN_EXE_train")),
        ("sample", env!("CARGO_BIN_EXE_sample")),
    ]
    .map(|(name, binary)| {
        let output = Command::new(binary).arg("--help").output().unwrap();
        (name, flags_in(&String::from_utf8_lossy(&output.stdout)))
    });
    let mut faults = Vec::new();
    let mut n_commands = 0;
    for (document, text) in documents() {
        for line in command_lines(&text) {
            n_commands += 1;
            faults.extend(
                faults_of(&line, &binaries).map(|fault| format!("{document}: {fault}: {line}")),
            );
        }
    }
    assert!(n_commands >= 3, "only {n_commands} commands were found");
    assert_none(&faults);
}

/// The `cargo run … --bin NAME …` commands of a document, continued lines joined.
fn command_lines(document: &str) -> Vec<String> {
    let joined = document.replace("\r\n", "\n").replace("\\\n", " ");
    let commands = joined.lines().filter_map(|line| {
        let (_, command) = line.split_once("cargo run ")?;
        let command = command.split(['`', '#', '|']).next()?.trim();
        command.contains("--bin ").then(|| command.to_owned())
    });
    commands.collect()
}

/// The parts of a command that do not exist: its binary, a flag, a configuration.
fn faults_of(line: &str, binaries: &[(&str, BTreeSet<String>)]) -> impl Iterator<Item = String> {
    let (cargo, arguments) = line.split_once(" -- ").unwrap_or((line, ""));
    let name = cargo.split_once("--bin ").map_or("", |(_, after)| after);
    let name = name.split_whitespace().next().unwrap_or_default();
    let mut faults = Vec::new();
    match binaries.iter().find(|(binary, _)| *binary == name) {
        None => faults.push(format!("there is no binary `{name}`")),
        Some((_, known)) => {
            let unknown = flags_in(arguments);
            faults.extend(unknown.difference(known).map(|flag| format!("there is no {flag}")));
        }
    }
    for word in arguments.split_whitespace() {
        if word.starts_with("config/") && !root().join(word).is_file() {
            faults.push(format!("there is no {word}"));
        }
    }
    faults.into_iter()
}

/// The long flags in a text, such as `--out-dir`; `--a=b` counts as `--a`.
fn flags_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| c.is_whitespace() || "[]<>,=`()".contains(c))
        .filter(|word| word.len() > 2 && word.starts_with("--"))
        .map(|word| word.trim_end_matches(['.', ':', ';']).replace('_', "-"))
        .collect()
}
