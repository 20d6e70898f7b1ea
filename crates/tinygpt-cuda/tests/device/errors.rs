//! What fails, and how it is reported.

use tinygpt_cuda::{CudaError, Gpu, LibraryName, Search, Setup};

use crate::children::{finish, start};
use crate::kernel;
use crate::{emulator, gpu, setup};

/// What opening a GPU prints with this environment of the emulator; none without the emulator.
fn opened(variables: &[(&str, &str)]) -> Option<String> {
    emulator()?;
    Some(finish(start("children::open", variables)))
}

#[track_caller]
fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_gpu_is_described() {
    let Some(text) = opened(&[("TINYGPT_EMULATOR_CAPABILITY", "120")]) else { return };
    assert_contains(&text, &["opened GpuInfo", "capability: (12, 0)", "driver: \"13.0\""]);
}

#[test]
fn a_missing_library_is_named_with_where_it_was_searched() {
    let Some(libraries) = emulator() else { return };
    let folder = tempfile::tempdir().unwrap();
    // The driver alone.
    std::fs::copy(libraries.join("libcuda.so.1"), folder.path().join("libcuda.so.1")).unwrap();
    let open = || {
        let setup = Setup { search: Search::only(folder.path()), ..Setup::default() };
        Gpu::open_with(0, &setup).expect_err("a library is missing")
    };
    for (name, file) in [(LibraryName::Nvrtc, "libnvrtc.so.13"), (LibraryName::CublasLt, "")] {
        let error = open();
        let CudaError::LibraryMissing { library, searched, hint } = error else {
            panic!("{error:?}")
        };
        assert_eq!(library, name);
        assert_eq!(searched, [folder.path().display().to_string()]);
        assert_eq!(hint, "pip install nvidia-cuda-nvrtc nvidia-cublas");
        if !file.is_empty() {
            std::fs::copy(libraries.join(file), folder.path().join(file)).unwrap();
        }
    }
}

#[test]
fn a_driver_that_does_not_start_is_an_error_with_its_reason() {
    // CUDA_ERROR_INVALID_CONTEXT stands for any; it is not "the GPU was lost".
    let Some(text) = opened(&[("TINYGPT_EMULATOR_FAIL", "cuInit:1:201")]) else { return };
    assert_contains(&text, &["error: cuInit failed: CUDA_ERROR_INVALID_CONTEXT"]);
}

#[test]
fn a_driver_older_than_the_program_is_an_error_with_both_versions() {
    let Some(text) = opened(&[("TINYGPT_EMULATOR_DRIVER", "11080")]) else { return };
    let error = "error: the NVIDIA driver supports CUDA 11.8, but this program needs CUDA 12.0";
    assert_contains(&text, &[error, "hint: update NVIDIA's driver to version 525 or newer"]);
}

#[test]
fn a_driver_older_than_a_library_is_an_error_with_both_versions() {
    // The emulator's libraries are 13; the driver can use 12 at most.
    let Some(text) = opened(&[("TINYGPT_EMULATOR_DRIVER", "12040")]) else { return };
    assert_contains(
        &text,
        &[
            "error: the NVIDIA driver supports CUDA 12.4, but NVRTC (",
            "libnvrtc.so.13) needs CUDA 13.0",
            "pip install nvidia-cuda-nvrtc-cu12 nvidia-cublas-cu12",
        ],
    );
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_with_the_count() {
    let Some(text) = opened(&[("TINYGPT_EMULATOR_DEVICES", "2"), ("TEST_INDEX", "2")]) else {
        return;
    };
    assert_contains(&text, &["error: there is no GPU 2: the NVIDIA driver reports 2 GPUs"]);
    let text = opened(&[("TINYGPT_EMULATOR_DEVICES", "0")]).unwrap();
    assert_contains(&text, &["error: there is no GPU 0: the NVIDIA driver reports no GPU"]);
}

#[test]
fn an_old_gpu_is_an_error_with_its_capability() {
    let Some(text) = opened(&[("TINYGPT_EMULATOR_CAPABILITY", "75")]) else { return };
    assert_contains(&text, &["has compute capability 7.5, and 8.0 or more is needed"]);
}

#[test]
fn a_gpu_without_memory_for_the_workspace_is_an_error_with_sizes() {
    let Some(text) = opened(&[("TINYGPT_EMULATOR_MEMORY", "1048576")]) else { return };
    assert_contains(&text, &["error: out of GPU memory: 32.0 MiB needed, 1.0 MiB free"]);
}

#[test]
fn a_refused_launch_has_the_kernels_name() {
    if emulator().is_none() {
        return;
    }
    let gpu = gpu().unwrap();
    let kernel = kernel::load(&gpu, 2).unwrap();
    let buffer = gpu.alloc(400).unwrap();
    gpu.zero(buffer.view()).unwrap();
    // CUDA_ERROR_INVALID_VALUE.
    tinygpt_cuda_emulator::fail("cuLaunchKernel:1:1");
    let error = kernel::launch(&kernel, buffer.view(), buffer.view(), 0.0);
    tinygpt_cuda_emulator::fail("");
    let error = error.expect_err("the launch was refused");
    assert!(matches!(&error, CudaError::Launch { kernel, .. } if kernel == "scale"), "{error:?}");
    assert_contains(&error.to_string(), &["scale", "CUDA_ERROR_INVALID_VALUE"]);
    assert!(!error.is_fatal());
    kernel::launch(&kernel, buffer.view(), buffer.view(), 0.0).unwrap();
}

#[test]
fn a_kernel_that_stops_is_a_fault_and_a_vanished_gpu_is_lost() {
    if emulator().is_none() {
        return;
    }
    let faults = [
        // CUDA_ERROR_ILLEGAL_ADDRESS, of a kernel that was launched before.
        (
            "cuStreamSynchronize:1:700:lost",
            "a kernel failed on the GPU: CUDA_ERROR_ILLEGAL_ADDRESS",
        ),
        // No device: it has fallen off the bus.
        ("cuStreamSynchronize:1:100:lost", "the GPU was lost: CUDA_ERROR_NO_DEVICE"),
    ];
    for (fault, message) in faults {
        let gpu = gpu().unwrap();
        let kernel = kernel::load(&gpu, 2).unwrap();
        let buffer = gpu.alloc(400).unwrap();
        gpu.zero(buffer.view()).unwrap();
        kernel::launch(&kernel, buffer.view(), buffer.view(), 0.0).unwrap();
        tinygpt_cuda_emulator::fail(fault);
        let error = gpu.synchronize().expect_err("the kernel failed");
        assert_contains(&error.to_string(), &[message]);
        assert!(error.is_fatal());
        if let CudaError::Fault { last, .. } = &error {
            assert_eq!(last, "scale");
        }
        // Every later call reports it too, and dropping everything does not panic.
        let later = gpu.alloc(4).expect_err("the GPU is lost");
        assert!(later.is_fatal(), "{later:?}");
        assert!(gpu.download(buffer.view(), &mut [0.0f32]).expect_err("lost").is_fatal());
        let later = kernel::launch(&kernel, buffer.view(), buffer.view(), 0.0).expect_err("lost");
        assert!(later.is_fatal(), "{later:?}");
        drop((kernel, buffer, gpu));
        tinygpt_cuda_emulator::fail("");
    }
}

#[test]
fn a_file_that_does_not_compile_is_reported_with_the_compilers_output() {
    let Some(gpu) = gpu() else { return };
    let source = tinygpt_cuda::KernelSource {
        text: "#include \"device.cuh\"\nnonsense;\n",
        ..kernel::SOURCE
    };
    let error = gpu.module(&source, &kernel::defines(1)).expect_err("nonsense");
    let CudaError::Compile { file, log } = &error else { panic!("{error:?}") };
    assert_eq!(file, "scale.cu");
    assert_contains(log, &["nonsense"]);
}

#[test]
fn a_kernel_that_does_not_exist_and_too_much_shared_memory_are_errors() {
    let Some(gpu) = gpu() else { return };
    let module = gpu.module(&kernel::SOURCE, &kernel::defines(1)).unwrap();
    let error = module.kernel("other", 64, 0).expect_err("there is no such kernel");
    assert!(matches!(&error, CudaError::Launch { kernel, .. } if kernel == "other"), "{error:?}");
    let most = gpu.info().max_shared_bytes;
    module.kernel("scale", 64, most).unwrap();
    let error = module.kernel("scale", 64, most + 1).expect_err("too much");
    assert!(
        matches!(error, CudaError::SharedMemory { asked, most: found, .. } if asked == most + 1 && found == most)
    );
}

/// With `synchronous`, the launch itself reports the kernel that stops.
#[test]
fn a_synchronous_setup_reports_the_kernel_that_failed() {
    if emulator().is_none() {
        return;
    }
    let setup = Setup { synchronous: true, ..setup(None).unwrap() };
    let gpu = Gpu::open_with(0, &setup).unwrap();
    let kernel = kernel::load(&gpu, 2).unwrap();
    let buffer = gpu.alloc(400).unwrap();
    gpu.zero(buffer.view()).unwrap();
    tinygpt_cuda_emulator::fail("cuStreamSynchronize:1:716:lost");
    let error = kernel::launch(&kernel, buffer.view(), buffer.view(), 0.0).expect_err("stopped");
    assert!(matches!(&error, CudaError::Fault { last, .. } if last == "scale"), "{error:?}");
    drop((kernel, buffer, gpu));
    tinygpt_cuda_emulator::fail("");
}
