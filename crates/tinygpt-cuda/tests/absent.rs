//! Without a driver: a typed error at once, and no panic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "what was tested where, and tables")]

use std::time::{Duration, Instant};

use tinygpt_cuda::{CudaError, Gpu, LibraryName, Search, Setup};

#[test]
fn a_machine_without_a_driver_gets_a_typed_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let error =
        Gpu::open_with(0, &Setup { search: Search::only(folder.path()), ..Setup::default() });
    let error = error.expect_err("there is no driver in an empty folder");
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    let CudaError::LibraryMissing { library, searched, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*library, LibraryName::Driver);
    assert_eq!(*searched, [folder.path().display().to_string()]);
    assert_eq!(error.to_string(), "the NVIDIA driver was not found");
    assert!(error.hint().unwrap().contains("driver"));
}

#[test]
fn a_file_that_is_not_a_library_is_reported_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let name = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
    std::fs::write(folder.path().join(name), b"not a library").unwrap();
    let setup = Setup { search: Search::only(folder.path()), ..Setup::default() };
    let error = Gpu::open_with(0, &setup).expect_err("the file is not a library");
    let CudaError::LibraryMissing { searched, .. } = &error else { panic!("{error:?}") };
    assert_eq!(searched.len(), 2, "{searched:?}");
    assert!(searched[1].contains(name) && searched[1].len() > name.len() + 5, "{searched:?}");
}

/// The real environment: a machine with a GPU opens it, one without says why in under 100 ms.
#[test]
fn the_environment_opens_or_gives_a_typed_error() {
    let start = Instant::now();
    match Gpu::open(0) {
        Ok(gpu) => println!("GPU: {:?}", gpu.info()),
        Err(error @ CudaError::LibraryMissing { library: LibraryName::Driver, .. }) => {
            assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
            println!("no GPU: {error}");
        }
        Err(error) => println!("no GPU: {error}"),
    }
}
