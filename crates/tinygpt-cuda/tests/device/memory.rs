//! Buffers and copies.

use tinygpt_cuda::{CudaError, GpuEvent};

use crate::{children, gpu, numbers};

/// More than the ring of pinned blocks, and not a multiple of a block.
const LONG: usize = (9 << 20) / 4 + 123;

#[test]
fn values_come_back() {
    let Some(gpu) = gpu() else { return };
    for n in [0, 1, 1000, (1 << 20) / 4, (1 << 20) / 4 + 1, LONG] {
        let values = numbers(n, n as u64);
        let buffer = gpu.alloc(n * 4 + 8).unwrap();
        assert_eq!(buffer.view().ptr() % 256, 0);
        gpu.upload(buffer.view(), &values).unwrap();
        let mut back = vec![0.0f32; n];
        gpu.download(buffer.view(), &mut back).unwrap();
        assert!(values == back, "{n} values");
    }
}

/// The host may change its values as soon as the upload returns, though the GPU copies later. The child
/// runs with an emulator that copies at the last moment.
#[test]
fn an_upload_takes_the_values_of_its_call() {
    children::assert_passes("memory::late_uploads", &[("TINYGPT_EMULATOR_LATE", "1")]);
}

#[test]
#[ignore = "a child of the test above"]
fn late_uploads() {
    let Some(gpu) = gpu() else { return };
    let n = 50;
    let buffer = gpu.alloc(n * 4000).unwrap();
    let mut values = vec![0u32; 1000];
    for i in 0..n {
        values.fill(i as u32);
        gpu.upload(buffer.view().slice(i * 4000..(i + 1) * 4000), &values).unwrap();
    }
    values.fill(u32::MAX);
    let mut back = vec![0u32; n * 1000];
    gpu.download(buffer.view(), &mut back).unwrap();
    assert!(back.iter().enumerate().all(|(at, &value)| value == (at / 1000) as u32));
}

#[test]
fn parts_are_zeroed_and_copied() {
    let Some(gpu) = gpu() else { return };
    let buffer = gpu.alloc(16).unwrap();
    let view = buffer.view();
    gpu.upload(view, &[1u8; 16]).unwrap();
    gpu.zero(view.slice(4..6)).unwrap();
    gpu.upload(view.slice(8..9), &[9u8]).unwrap();
    gpu.copy(view.slice(12..16), view.slice(8..10)).unwrap();
    let mut back = [0u8; 16];
    gpu.download(view, &mut back).unwrap();
    assert_eq!(back, [1, 1, 1, 1, 0, 0, 1, 1, 9, 1, 1, 1, 9, 1, 1, 1]);
}

#[test]
fn memory_is_given_back() {
    let Some(gpu) = gpu() else { return };
    let (free, total) = gpu.memory().unwrap();
    assert!(free <= total && total > 0);
    // More than half of what is free: two at a time do not fit.
    let bytes = free / 2 + (1 << 20);
    for _ in 0..4 {
        drop(gpu.alloc(bytes).unwrap());
    }
    let _first = gpu.alloc(bytes).unwrap();
    let error = gpu.alloc(bytes).expect_err("the second does not fit");
    assert!(matches!(error, CudaError::OutOfMemory { .. }), "{error:?}");
}

#[test]
fn too_much_memory_is_an_error_with_sizes() {
    let Some(gpu) = gpu() else { return };
    let asked = 1 << 50;
    let error = gpu.alloc(asked).expect_err("a petabyte");
    let CudaError::OutOfMemory { asked: reported, free } = error else { panic!("{error:?}") };
    assert_eq!(reported, asked);
    assert!(free > 0);
    // The GPU is usable afterwards.
    gpu.alloc(1024).unwrap();
}

#[test]
fn events_measure_time() {
    let Some(gpu) = gpu() else { return };
    let [start, end] = [GpuEvent::new(&gpu).unwrap(), GpuEvent::new(&gpu).unwrap()];
    let buffer = gpu.alloc(1 << 20).unwrap();
    start.record().unwrap();
    gpu.zero(buffer.view()).unwrap();
    end.record().unwrap();
    let milliseconds = start.elapsed_ms(&end).unwrap();
    assert!((0.0..1000.0).contains(&milliseconds), "{milliseconds}");
}

#[test]
fn a_gpu_is_used_from_several_threads() {
    let Some(gpu) = gpu() else { return };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let gpu = gpu.clone();
            scope.spawn(move || {
                let values = numbers(10_000, seed);
                let buffer = gpu.alloc(40_000).unwrap();
                gpu.upload(buffer.view(), &values).unwrap();
                let mut back = vec![0.0f32; 10_000];
                gpu.download(buffer.view(), &mut back).unwrap();
                assert!(values == back);
            });
        }
    });
}

#[test]
#[should_panic(expected = "8 bytes into a view of 4")]
fn an_upload_past_the_end_panics() {
    let Some(gpu) = gpu() else { panic!("8 bytes into a view of 4: skipped") };
    let buffer = gpu.alloc(4).unwrap();
    let _ = gpu.upload(buffer.view(), &[1.0f32, 2.0]);
}
