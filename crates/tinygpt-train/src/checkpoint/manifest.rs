//! `manifest.json`: size and SHA-256 of every other file of a checkpoint.
//!
//! A checkpoint without a manifest is not finished; one that differs from it by a bit is damaged.
//! Either way it is refused with the file's name. The manifest says nothing about what is in the
//! files.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tinygpt_data::{open_regular, read_regular};
use tinygpt_fs::sync_file;

use super::state::{MAX_BYTES as MAX_STATE_BYTES, OLDEST_VERSION, version_of};
use super::{CONFIG_FILE, FORMAT_VERSION, OPTIMIZER_FILE, STATE_FILE, WEIGHTS_FILE};
use crate::error::TrainError;

/// Name of the file.
pub(super) const FILE_NAME: &str = "manifest.json";

/// The largest manifest, in bytes: it lists ten files.
const MAX_BYTES: u64 = 1 << 20;

/// A directory without these is not a checkpoint.
const REQUIRED: [&str; 4] = [CONFIG_FILE, WEIGHTS_FILE, OPTIMIZER_FILE, STATE_FILE];

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format_version: u32,
    files: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// Syncs the files `names` of `dir`, then writes and syncs the manifest that lists them.
pub(super) fn write(dir: &Path, names: &[String]) -> Result<(), TrainError> {
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let path = dir.join(name);
        sync_file(&path)?;
        let (bytes, sha256) =
            File::open(&path).and_then(size_and_hash).map_err(TrainError::io("read", &path))?;
        files.push(Entry { name: name.clone(), bytes, sha256 });
    }
    let path = dir.join(FILE_NAME);
    let manifest = Manifest { format_version: FORMAT_VERSION, files };
    let json = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| TrainError::io("write", &path)(error.into()))?;
    std::fs::write(&path, json).map_err(TrainError::io("write", &path))?;
    Ok(sync_file(&path)?)
}

/// Reads every file of the checkpoint `dir` and compares it with the manifest.
///
/// # Errors
/// [`TrainError::Corrupt`] naming the first file that is missing, of another size or of another
/// content; [`TrainError::Io`] if the system refuses to read.
pub(super) fn verify(dir: &Path) -> Result<(), TrainError> {
    verify_those(dir, |_| true)
}

/// As [`verify`], but reads the files `names` only.
pub(super) fn verify_some(dir: &Path, names: &[&str]) -> Result<(), TrainError> {
    verify_those(dir, |name| names.contains(&name))
}

fn verify_those(dir: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<(), TrainError> {
    let path = dir.join(FILE_NAME);
    let manifest = read(&path)?;
    for name in REQUIRED {
        if !manifest.files.iter().any(|entry| entry.name == name) {
            return Err(TrainError::corrupt(&path, format!("does not list {name}")));
        }
    }
    for entry in &manifest.files {
        if !is_plain_name(&entry.name) {
            let reason = format!("lists {:?}, which is not a plain file name", entry.name);
            return Err(TrainError::corrupt(&path, reason));
        }
        if is_wanted(&entry.name) {
            verify_file(&dir.join(&entry.name), entry)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Manifest, TrainError> {
    let bytes = match read_regular(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => {
            return Err(TrainError::corrupt(path, "is missing, so the checkpoint is not complete"));
        }
        Err(error) => return Err(TrainError::file(path)(error)),
    };
    match version_of(&bytes) {
        None | Some(OLDEST_VERSION..=FORMAT_VERSION) => {}
        // A single flipped bit can make another version of one file, but not the same of two.
        Some(version) if version > FORMAT_VERSION && version_of_state(path) == Some(version) => {
            return Err(TrainError::NewerFormat { path: path.to_path_buf(), version });
        }
        Some(version) => {
            let reason = format!(
                "is of format {version}, this build reads {OLDEST_VERSION} to {FORMAT_VERSION}"
            );
            return Err(TrainError::corrupt(path, reason));
        }
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| TrainError::corrupt(path, format!("is not a manifest ({error})")))
}

fn version_of_state(manifest: &Path) -> Option<u32> {
    version_of(&read_regular(&manifest.with_file_name(STATE_FILE), MAX_STATE_BYTES).ok()?)
}

fn verify_file(path: &Path, entry: &Entry) -> Result<(), TrainError> {
    let file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Err(TrainError::corrupt(path, "is missing")),
        Err(error) => return Err(TrainError::file(path)(error)),
    };
    // Before the hash, which reads the whole file.
    let bytes = file.metadata().map_err(TrainError::io("read", path))?.len();
    if bytes != entry.bytes {
        let reason = format!("has {bytes} bytes, the manifest says {}", entry.bytes);
        return Err(TrainError::corrupt(path, reason));
    }
    let (_, sha256) = size_and_hash(file.take(bytes)).map_err(TrainError::io("read", path))?;
    if sha256 != entry.sha256 {
        let reason = format!("has SHA-256 {sha256}, the manifest says {}", entry.sha256);
        return Err(TrainError::corrupt(path, reason));
    }
    Ok(())
}

fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}

fn size_and_hash(mut file: impl Read) -> std::io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        bytes += n as u64;
    }
    Ok((bytes, hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn checkpoint(dir: &Path) -> Vec<String> {
        let names: Vec<String> = REQUIRED.iter().map(|name| (*name).to_string()).collect();
        for (i, name) in names.iter().enumerate() {
            std::fs::write(dir.join(name), vec![i as u8; 100 + i]).unwrap();
        }
        write(dir, &names).unwrap();
        names
    }

    #[test]
    fn what_was_written_is_good() {
        let dir = tempfile::tempdir().unwrap();
        checkpoint(dir.path());
        verify(dir.path()).unwrap();
    }

    #[test]
    fn a_missing_file_and_a_missing_manifest_are_named() {
        let dir = tempfile::tempdir().unwrap();
        checkpoint(dir.path());
        std::fs::remove_file(dir.path().join(OPTIMIZER_FILE)).unwrap();
        assert!(verify(dir.path()).unwrap_err().to_string().contains(OPTIMIZER_FILE));
        std::fs::remove_file(dir.path().join(FILE_NAME)).unwrap();
        assert!(verify(dir.path()).unwrap_err().to_string().contains("not complete"));
    }

    #[test]
    fn a_name_that_leaves_the_directory_is_refused() {
        for name in ["../x", "/etc/passwd", "a/b", "..", ""] {
            assert!(!is_plain_name(name), "{name}");
        }
        assert!(is_plain_name("state.json"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_flipped_bit_and_any_cut_is_found(file in 0usize..5, bit in 0usize..20_000, cut: bool) {
            let dir = tempfile::tempdir().unwrap();
            let mut names = checkpoint(dir.path());
            names.push(FILE_NAME.to_string());
            let path = dir.path().join(&names[file]);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = (bit / 8) % bytes.len();
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << (bit % 8);
            }
            std::fs::write(&path, bytes).unwrap();
            prop_assert!(verify(dir.path()).is_err());
        }
    }
}
