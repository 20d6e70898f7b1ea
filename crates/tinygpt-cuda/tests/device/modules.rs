//! Modules: defines, the cache of compiled kernels, several processes.

use std::fs;
use std::path::{Path, PathBuf};

use tinygpt_cuda::{Gpu, KernelSource};

use crate::children::{finish, start};
use crate::{emulator, kernel, numbers, setup};

/// What the kernel computes, to see which code runs.
fn scaled(gpu: &Gpu, factor: u32) -> Vec<f32> {
    let kernel = kernel::load(gpu, factor).unwrap();
    let values = numbers(150, 7);
    let (x, y) = (gpu.alloc(600).unwrap(), gpu.alloc(600).unwrap());
    gpu.upload(x.view(), &values).unwrap();
    kernel::launch(&kernel, y.view(), x.view(), 1.0).unwrap();
    let mut back = vec![0.0; 150];
    gpu.download(y.view(), &mut back).unwrap();
    back
}

fn expected(factor: u32) -> Vec<f32> {
    // The same with and without a fused multiply-add: a factor of 2 or 4 is exact.
    numbers(150, 7).iter().map(|x| factor as f32 * x + 1.0).collect()
}

fn open(cache: &Path) -> Option<Gpu> {
    Some(Gpu::open_with(0, &setup(Some(cache.into()))?).unwrap())
}

fn files(cache: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn kernels_run_with_their_defines() {
    let Some(gpu) = crate::gpu() else { return };
    assert_eq!(scaled(&gpu, 2), expected(2));
    assert_eq!(scaled(&gpu, 4), expected(4));
}

#[test]
fn a_kernel_is_compiled_once_and_a_damaged_entry_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("kernels");
    let Some(gpu) = open(&cache) else { return };
    assert_eq!(scaled(&gpu, 2), expected(2));
    let [file] = &files(&cache)[..] else { panic!("one entry") };
    let written = fs::read(file).unwrap();

    // A marker that a recompiled entry would not have: it is read, not written again.
    let time = fs::metadata(file).unwrap().modified().unwrap();
    assert_eq!(scaled(&open(&cache).unwrap(), 2), expected(2));
    assert_eq!(fs::metadata(file).unwrap().modified().unwrap(), time);

    // Cut, changed and empty: compiled again and replaced.
    let mut changed = written.clone();
    changed[100] ^= 1;
    for damaged in [&written[..written.len() / 2], &changed, &[]] {
        fs::write(file, damaged).unwrap();
        assert_eq!(scaled(&open(&cache).unwrap(), 2), expected(2));
        assert_eq!(fs::read(file).unwrap(), written);
    }
    assert_eq!(scaled(&gpu, 4), expected(4));
    assert_eq!(files(&cache).len(), 2);
}

/// Code with a good checksum that the driver refuses is compiled again too.
#[test]
fn an_entry_that_the_driver_refuses_is_compiled_again() {
    let Some(gpu) = crate::gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [folder.path().join("first"), folder.path().join("second")];
    scaled(&open(&first).unwrap(), 2);
    // Another source has another name; its code under the first name is valid and wrong for the driver.
    let nothing = KernelSource { text: "not an ELF file", ..kernel::SOURCE };
    assert!(gpu.module(&nothing, &[]).is_err());
    let file = files(&first).remove(0);
    fs::create_dir_all(&second).unwrap();
    let entry = second.join(file.file_name().unwrap());
    fs::write(&entry, with_checksum(&fs::read(&file).unwrap()[..16], b"not an ELF file")).unwrap();
    assert_eq!(scaled(&open(&second).unwrap(), 2), expected(2));
    assert_eq!(fs::read(&entry).unwrap(), fs::read(&file).unwrap());
}

fn with_checksum(magic: &[u8], code: &[u8]) -> Vec<u8> {
    use sha2::Digest as _;
    [magic, &sha2::Sha256::digest(code)[..], code].concat()
}

/// A cache that cannot be written costs time and nothing else.
#[test]
fn a_cache_that_cannot_be_written_is_not_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"in the way").unwrap();
    let Some(gpu) = open(&file.join("kernels")) else { return };
    assert_eq!(scaled(&gpu, 2), expected(2));
}

#[test]
fn several_processes_share_a_cache() {
    if emulator().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().to_str().unwrap();
    let children: Vec<_> =
        (0..3).map(|_| start("modules::compile_and_run", &[("TEST_CACHE", cache)])).collect();
    for child in children {
        finish(child);
    }
    // One entry for each of the two factors, and no temporary file.
    assert_eq!(files(folder.path()).len(), 2, "{:?}", files(folder.path()));
}

#[test]
#[ignore = "a child of the test above"]
fn compile_and_run() {
    let Some(cache) = std::env::var_os("TEST_CACHE").map(PathBuf::from) else { return };
    let Some(gpu) = open(&cache) else { return };
    for _ in 0..5 {
        assert_eq!(scaled(&gpu, 2), expected(2));
        assert_eq!(scaled(&gpu, 4), expected(4));
    }
}

#[test]
fn modules_are_compiled_together_and_returned_in_order() {
    let Some(gpu) = crate::gpu() else { return };
    let files: Vec<_> =
        [2, 3].map(|factor| (kernel::SOURCE, kernel::defines(factor).to_vec())).to_vec();
    let modules = gpu.modules(&files).unwrap();
    let x = gpu.alloc(4).unwrap();
    for (module, factor) in modules.iter().zip([2.0, 3.0]) {
        gpu.upload(x.view(), &[1.0f32]).unwrap();
        let kernel = module.kernel("scale", 64, 256).unwrap();
        kernel::launch(&kernel, x.view(), x.view(), 0.0).unwrap();
        let mut back = [0.0f32];
        gpu.download(x.view(), &mut back).unwrap();
        assert_eq!(back, [factor]);
    }
}
