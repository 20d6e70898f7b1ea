//! The cache of compiled kernels: one file per source, options, compiler and architecture.
//!
//! A file has the checksum of its contents. A damaged or incomplete one counts as missing, is compiled
//! again and replaced, so the cache may be shared, copied, truncated or deleted at any time. Failing to
//! write it is not an error: the next process compiles again.

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use crate::source::KernelSource;

/// The first bytes of a file. A new layout has a new number.
const MAGIC: &[u8; 16] = b"tinygpt cubin 1\n";

/// The cache of compiled kernels in a folder, or none.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: Option<PathBuf>,
}

/// The folder of the user's cache: `TINYGPT_CUDA_CACHE`, else `tinygpt/kernels` in the system's place
/// for caches. None if there is neither, or the variable is empty.
pub(crate) fn folder_from_env() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if env::var_os("TINYGPT_CUDA_CACHE").is_some() {
        return variable("TINYGPT_CUDA_CACHE");
    }
    // Never a folder that all users can write to: the code in it runs on the GPU.
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else {
        variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))
    };
    base.filter(|base| base.is_absolute()).map(|base| base.join("tinygpt").join("kernels"))
}

impl Cache {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// The file of a source with these options, compiled by this version of NVRTC.
    pub(crate) fn file(
        &self,
        source: &KernelSource,
        options: &[String],
        version: (u32, u32),
    ) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            // With its length, so that no two lists of parts have the same bytes.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(MAGIC);
        add(source.name.as_bytes());
        add(source.text.as_bytes());
        for (name, text) in source.headers {
            add(name.as_bytes());
            add(text.as_bytes());
        }
        add(b"options");
        for option in options {
            add(option.as_bytes());
        }
        add(&version.0.to_le_bytes());
        add(&version.1.to_le_bytes());
        Some(folder.join(format!("{}.cubin", hex(&hash.finalize()))))
    }

    /// The machine code in a file; none if it is missing or damaged.
    pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
        let mut bytes = fs::read(path).ok()?;
        let (head, cubin) = bytes.split_at_checked(MAGIC.len() + 32)?;
        let (magic, checksum) = head.split_at(MAGIC.len());
        if magic != MAGIC || checksum != &Sha256::digest(cubin)[..] {
            return None;
        }
        bytes.drain(..MAGIC.len() + 32);
        Some(bytes)
    }

    /// Writes a file whole: processes that read it find the earlier one or this one.
    pub(crate) fn write(path: &Path, cubin: &[u8]) {
        let _ = try_write(path, cubin);
    }
}

/// See [`Cache::write`]; the error is for tests.
fn try_write(path: &Path, cubin: &[u8]) -> Option<()> {
    static PARTS: AtomicUsize = AtomicUsize::new(0);
    let folder = path.parent()?;
    fs::create_dir_all(folder).ok()?;
    // A name of its own, because several processes may compile the same kernel.
    let number = PARTS.fetch_add(1, Ordering::Relaxed);
    let part = folder.join(format!(".{}-{number}.part", process::id()));
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(cubin))?;
        file.write_all(cubin)
    });
    let replaced = written.is_ok() && tinygpt_fs::replace_file(&part, path).is_ok();
    if !replaced {
        let _ = fs::remove_file(&part);
    }
    replaced.then_some(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SOURCE: KernelSource =
        KernelSource { name: "a.cu", text: "text", headers: &[("h", "header")] };

    #[test]
    fn a_file_is_read_back_and_any_changed_byte_makes_it_missing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path().join("deep")));
        let path = cache.file(&SOURCE, &["-DA=1".into()], (13, 0)).unwrap();
        assert!(Cache::read(&path).is_none());
        try_write(&path, b"machine code").unwrap();
        assert_eq!(Cache::read(&path).unwrap(), b"machine code");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(Cache::read(&path).is_none(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(Cache::read(&path).is_none(), "cut to {at} bytes");
        }
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file is left: {names:?}");
    }

    #[test]
    fn everything_that_changes_the_code_changes_the_name() {
        let cache = Cache::new(Some("folder".into()));
        let options = ["-DA=1".to_owned()];
        let name = |source: &KernelSource, options: &[String], version| {
            cache.file(source, options, version).unwrap()
        };
        let first = name(&SOURCE, &options, (13, 0));
        assert_eq!(first, name(&SOURCE, &options, (13, 0)));
        assert_ne!(first, name(&SOURCE, &options, (13, 1)));
        assert_ne!(first, name(&SOURCE, &["-DA=2".to_owned()], (13, 0)));
        assert_ne!(first, name(&KernelSource { text: "other", ..SOURCE }, &options, (13, 0)));
        assert_ne!(
            first,
            name(&KernelSource { headers: &[("h", "x")], ..SOURCE }, &options, (13, 0))
        );
        assert!(Cache::new(None).file(&SOURCE, &options, (13, 0)).is_none());
    }
}
